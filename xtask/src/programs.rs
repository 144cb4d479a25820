//! Programs of the machine that tests need: which of them are there, and the installation of a browser.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// What drives a browser, and the browser, as Debian names the programs.
const BROWSER: [&str; 2] = ["chromedriver", "chromium"];
/// Their packages, and a font, without which a page is shown as boxes.
const PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "fonts-liberation"];

/// Whether a program is on the `PATH`, or where Debian has servers.
pub(crate) fn is_installed(program: &str) -> bool {
    is_in(&env::var_os("PATH").unwrap_or_default(), program)
}

fn is_in(path: &OsStr, program: &str) -> bool {
    let folders = env::split_paths(path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|path| path.is_file())
}

/// Installs Chromium and ChromeDriver where they are missing, by apt-get as root; an error names what to install otherwise.
pub(crate) fn install_browser() -> Result<()> {
    if BROWSER.into_iter().all(is_installed) {
        return Ok(());
    }
    let packages = PACKAGES.join(" ");
    // The owner of a process is the owner of its folder in `/proc`.
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0);
    if !is_root || !is_installed("apt-get") {
        bail!(
            "tests look at pages with Chromium and ChromeDriver, which are not installed: on Debian, `sudo apt-get install {packages}`"
        );
    }
    anstream::eprintln!("installing {packages}");
    apt_get(&["update", "--quiet"])?;
    apt_get(&[&["install", "--quiet", "--yes", "--no-install-recommends"], &PACKAGES[..]].concat())?;
    match BROWSER.into_iter().find(|program| !is_installed(program)) {
        None => Ok(()),
        // Ubuntu's packages of these names are empty, and refer to snaps.
        Some(program) => bail!("`{program}` is not on the PATH, though {packages} are installed"),
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().context("apt-get cannot be started")?;
    if !status.success() {
        bail!("`apt-get {}` failed ({status})", args.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_on_the_path_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = env::join_paths([Path::new("/nowhere"), dir.path()]).unwrap();
        assert!(!is_in(&path, "a-browser"));
        std::fs::write(dir.path().join("a-browser"), "").unwrap();
        assert!(is_in(&path, "a-browser"));
    }
}
