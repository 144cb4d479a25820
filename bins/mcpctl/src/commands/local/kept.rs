//! Files of the user that a command writes anew: the text of before is kept, and a link of a dotfile manager stays a link.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mcpctl_owner::file::{self, Content};

use crate::failure::Failure;

/// Maximum number of texts that are kept of one file.
const MAX_KEPT: usize = 100;
/// Maximum size of a text, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The file that a path means: where it is a link, what that points to.
pub fn real(path: &Path) -> Result<PathBuf, Failure> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => path.canonicalize().map_err(|error| {
            let failure = Failure::new(format!(
                "`{}` is a link that cannot be followed: {}",
                path.display(),
                error.kind()
            ));
            failure.hint("make the file that it points to, or remove the link")
        }),
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Keeps a text beside its file, for its user alone: with this ending, or with a number after it where another text has that name.
pub fn keep(path: &Path, suffix: &str, text: &[u8]) -> Result<PathBuf, Failure> {
    for number in 1..=MAX_KEPT {
        let numbered = if number == 1 { suffix.to_owned() } else { format!("{suffix}.{number}") };
        let kept = file::beside(path, &numbered);
        match file::read_named(&kept, Content::Public, MAX_BYTES) {
            Ok(same) if same == text => return Ok(kept),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                file::create_new(&kept)?.write_all_and_sync(text).map_err(Failure::from)?;
                return Ok(kept);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("there are {MAX_KEPT} files `{}{suffix}` already", path.display()))
        .hint("remove those that you no longer need"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_replaces_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcplocal.yaml");
        let kept = |text: &[u8]| keep(&path, ".backup", text).unwrap();
        let (mine, other) = (kept(b"# mine\n"), kept(b"other\n"));
        assert_eq!(kept(b"# mine\n"), mine);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "# mine\n");
        assert!(other.ends_with("mcplocal.yaml.backup.2"), "{}", other.display());
    }

    #[test]
    fn link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("dotfile"), dir.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(real(&link).is_err());
        fs::write(&file, "").unwrap();
        assert_eq!(real(&link).unwrap(), file.canonicalize().unwrap());
        assert_eq!(real(&dir.path().join("new")).unwrap(), dir.path().join("new"));
    }
}
