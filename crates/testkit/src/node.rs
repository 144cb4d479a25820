//! Node packages for tests, at the exact versions of a lock file, fetched once into the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::client_table::target;

/// The folder with the packages of `package-lock.json` in `folder`, for `NODE_PATH`.
pub fn packages(folder: &Path) -> PathBuf {
    let locked = fs::read_to_string(folder.join("package-lock.json")).expect("the lock file");
    let dir = target().join("node").join(folder.file_name().expect("a name"));
    fs::create_dir_all(&dir).expect("a folder");
    // Each test is a process of its own, and only one may fetch.
    let lock = File::create(dir.join("lock")).expect("the lock");
    lock.lock().expect("the lock");
    let (modules, done) = (dir.join("node_modules"), dir.join("fetched"));
    if fs::read_to_string(&done).is_ok_and(|fetched| fetched == locked) {
        return modules;
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(folder.join(file), dir.join(file)).expect("a copy");
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&dir)
        .output()
        .expect("npm");
    assert!(output.status.success(), "npm: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&done, locked).expect("the marker file");
    modules
}
