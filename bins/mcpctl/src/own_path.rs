//! Where this program is, for files that name it: with the links by which it is installed, so that an upgrade which moves what they
//! lead to leaves those files right.

use std::{
    env, io,
    path::{Path, PathBuf},
};

const PROGRAM: &str = "mcpctl";

/// The path on PATH that leads to this program, else the one that it was called by, else its own without links.
pub fn own_path() -> io::Result<PathBuf> {
    let this = env::current_exe()?;
    let called = env::args_os().next().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    // Relative entries are skipped: what they find depends on the current directory.
    let directories = env::split_paths(&path).filter(|directory| directory.is_absolute());
    stable(&this, called.as_deref(), directories)
}

fn stable(
    this: &Path,
    called: Option<&Path>,
    directories: impl Iterator<Item = PathBuf>,
) -> io::Result<PathBuf> {
    let real = this.canonicalize()?;
    let leads_here = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == real);
    let name = called.and_then(Path::file_name).unwrap_or(PROGRAM.as_ref());
    if let Some(found) = directories.map(|directory| directory.join(name)).find(leads_here) {
        return Ok(found);
    }
    // A name without a folder was looked up on PATH.
    let called = called.filter(|called| called.components().count() > 1);
    let called = called.and_then(|called| std::path::absolute(called).ok()).filter(leads_here);
    Ok(called.unwrap_or_else(|| this.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_that_lead_here_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["cellar/1.0", "bin", "other", "shadow"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let this = at("cellar/1.0/mcpctl");
        fs::write(&this, "").unwrap();
        fs::write(at("shadow/mcpctl"), "").unwrap();
        symlink(&this, at("bin/mcpctl")).unwrap();
        symlink(&this, at("other/mcpctl")).unwrap();
        let found = |called: &str, path: &[&str]| {
            let called = if called.contains('/') { at(called) } else { PathBuf::from(called) };
            stable(&this, Some(&called), path.iter().map(|name| at(name))).unwrap()
        };
        // Another program of the name comes first on PATH, and is not this one.
        assert_eq!(found("mcpctl", &["shadow", "bin"]), at("bin/mcpctl"));
        assert_eq!(found("other/mcpctl", &["bin"]), at("bin/mcpctl"));
        assert_eq!(found("other/mcpctl", &[]), at("other/mcpctl"));
        assert_eq!(found("shadow/mcpctl", &["shadow"]), this);
        assert_eq!(found("mcpctl", &["gone"]), this);
    }
}
