//! Python packages for tests, at exact versions, fetched once into the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::client_table::target;

/// The folder with the packages of a requirements file, for `PYTHONPATH`.
pub fn packages(requirements: &Path) -> PathBuf {
    let required = fs::read_to_string(requirements).expect("the requirements");
    let dir = target().join("python").join(requirements.parent().and_then(Path::file_name).expect("a name"));
    fs::create_dir_all(&dir).expect("a folder");
    // Each test is a process of its own, and only one may fetch.
    let lock = File::create(dir.join("lock")).expect("the lock");
    lock.lock().expect("the lock");
    let (site, done) = (dir.join("site"), dir.join("fetched"));
    if fs::read_to_string(&done).is_ok_and(|fetched| fetched == required) {
        return site;
    }
    let _ = fs::remove_dir_all(&site);
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-warn-conflicts", "--target"])
        .arg(&site)
        .arg("-r")
        .arg(requirements)
        .output()
        .expect("python3 with pip");
    assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&done, required).expect("the marker file");
    site
}
