//! The file that holds the master key: read strictly, or created once. It appears under its name complete or not at all,
//! readable by its owner only, so that a crash or two daemons that start at once never leave half a key.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use mcpctl_owner::{
    PathError, PathProblem, dir,
    file::{self, Content},
};
use zeroize::Zeroizing;

use crate::armor::ShapeError;
use crate::envelope::{KeyId, MasterKey};
use crate::random::{self, RandomError};

/// Maximum length of the file, in bytes: a key has 54, and a line end.
const MAX_BYTES: u64 = 1024;
/// What the name of a key that a rotation has prepared ends in.
const NEXT: &str = ".next";

/// What to do where there is no key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make a new key: right only where nothing has been sealed yet.
    Create,
    /// Fail: right wherever sealed rows exist.
    Fail,
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyFileError {
    /// There is no such file, and none may be made.
    #[error("there is no master key at `{}`, and the store was set up with one", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// One is there already, and a new one was asked for.
    #[error("there is a file at `{}` already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner can read or write it.
    #[error("the master key `{}` is open to others: its mode is {mode:04o}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It, or a directory above it, could be another user's.
    #[error("the master key is refused: {0}")]
    Untrusted(PathError),
    /// It is a directory, a device or the like.
    #[error("the master key `{}` is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Its content is no master key.
    #[error("the file `{}` holds no master key: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        reason: ShapeError,
    },
    /// It could not be read.
    #[error("the master key `{}` cannot be read: {}", path.display(), mcpctl_owner::words(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It could not be made.
    #[error("the master key `{}` cannot be written: {}", path.display(), mcpctl_owner::words(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// There were no random bytes to make one from.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl MasterKeyFileError {
    /// The next step for the operator, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path } => Some(format!(
                "copy it to `{}` from the machine where mcpd first used this store, or from your backup, or name the \
                 file with `--master-key-file`; for a new installation, name an empty database",
                path.display()
            )),
            Self::Exists { .. } => {
                Some("name another file, or keep this key: what it seals is lost without it".into())
            }
            Self::Untrusted(error) => error.hint(),
            Self::Exposed { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
            Self::Content { .. } => Some(
                "restore it from your backup; a file of one line that starts with `mcpk_` is expected".into(),
            ),
            Self::NotAFile { .. } => Some("name a file, not a directory".into()),
            Self::Read { source, .. } | Self::Write { source, .. } => match source.kind() {
                ErrorKind::NotFound => Some("create its directory first".into()),
                ErrorKind::PermissionDenied => {
                    Some("run as the user who owns the file and its directory".into())
                }
                _ => None,
            },
            Self::Random(_) => None,
        }
    }
}

/// Reads the master key at `path`; where there is none, creates one or fails, according to `if_missing`.
pub fn load_or_create(path: &Path, if_missing: IfMissing) -> Result<MasterKey, MasterKeyFileError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    let missing = || MasterKeyFileError::Missing { path: path.to_owned() };
    match if_missing {
        IfMissing::Fail => Err(missing()),
        IfMissing::Create => {
            match create(path) {
                // Another daemon created one first: its key is used.
                Err(MasterKeyFileError::Exists { .. }) => {}
                made => made?,
            }
            load(path)?.ok_or_else(missing)
        }
    }
}

/// Makes a new key at `path`, where nothing is yet.
pub fn create_new(path: &Path) -> Result<MasterKey, MasterKeyFileError> {
    dir::check_parents(path).map_err(MasterKeyFileError::Untrusted)?;
    create(path)?;
    load(path)?.ok_or_else(|| MasterKeyFileError::Missing { path: path.to_owned() })
}

/// Where a rotation prepares the key that takes the place of the one at `path`.
pub fn next(path: &Path) -> PathBuf {
    file::beside(path, NEXT)
}

/// The key that a rotation has prepared for the file at `path`, if it was not completed.
///
/// # Errors
/// When it cannot be read.
pub fn load_next(path: &Path) -> Result<Option<MasterKey>, MasterKeyFileError> {
    load(&next(path))
}

/// Prepares the key that is to take the place of the one at `path`, in a file beside it. One that an interrupted rotation has prepared is
/// used.
///
/// # Errors
/// When it cannot be read or made.
pub fn stage_next(path: &Path) -> Result<MasterKey, MasterKeyFileError> {
    load_or_create(&next(path), IfMissing::Create)
}

/// Puts the prepared key in the place of the one at `path`, whose id is `old`, and returns where the old one is kept. At each moment there is
/// a key at `path`, and none is lost.
///
/// # Errors
/// When a file cannot be linked or renamed.
pub fn promote_next(path: &Path, old: KeyId) -> Result<PathBuf, MasterKeyFileError> {
    let write_error = |source| MasterKeyFileError::Write { path: path.to_owned(), source };
    let kept = file::beside(path, &format!(".{old}"));
    match fs::hard_link(path, &kept) {
        // Of an interrupted rotation: the name is that of the key.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        linked => linked.map_err(write_error)?,
    }
    fs::rename(next(path), path).map_err(write_error)?;
    File::open(directory(path)).and_then(|directory| directory.sync_all()).map_err(write_error)?;
    Ok(kept)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn load(path: &Path) -> Result<Option<MasterKey>, MasterKeyFileError> {
    let read_error = |source| MasterKeyFileError::Read { path: path.to_owned(), source };
    // Looked at before it is opened, because opening a pipe would wait for a writer.
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(MasterKeyFileError::NotAFile { path: path.to_owned() });
        }
        Ok(_) => {}
        // A dangling link is not a missing key: creating one there would hide the real one.
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(read_error(error)),
    }
    // The check is of the open file, not of the path, so that the file cannot be swapped in between.
    let file = file::open_named(path, Content::Secret).map_err(|error| match error.problem {
        PathProblem::ReadableByOthers(mode) => MasterKeyFileError::Exposed { path: path.to_owned(), mode },
        PathProblem::NotAFile => MasterKeyFileError::NotAFile { path: path.to_owned() },
        PathProblem::Io(source) => read_error(source),
        _ => MasterKeyFileError::Untrusted(error),
    })?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize));
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(read_error)?;
    let content = |reason| MasterKeyFileError::Content { path: path.to_owned(), reason };
    let text = std::str::from_utf8(&bytes).map_err(|_| content(ShapeError::Alphabet))?;
    MasterKey::from_text(text).map(Some).map_err(content)
}

/// Writes a new key beside `path`, syncs it, and links it there unless something is there already.
fn create(path: &Path) -> Result<(), MasterKeyFileError> {
    let write_error = |source| MasterKeyFileError::Write { path: path.to_owned(), source };
    let mut text = MasterKey::generate()?.to_text();
    text.push('\n');
    let directory = directory(path);
    let mut unique = [0_u8; 8];
    random::OS(&mut unique).map_err(RandomError::from)?;
    let draft = directory.join(format!(".master-key-{:016x}", u64::from_ne_bytes(unique)));
    let linked = write_draft(&draft, text.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    linked.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => MasterKeyFileError::Exists { path: path.to_owned() },
        _ => write_error(error),
    })?;
    removed.map_err(write_error)?;
    // The directory too, or the name could be gone after a power cut while rows sealed by the key are not.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(write_error)
}

fn write_draft(draft: &Path, content: &[u8]) -> io::Result<()> {
    file::create_new(draft)?.write_all_and_sync(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn key_is_created_once_and_read_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        let made = load_or_create(&path, IfMissing::Create).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load_or_create(&path, IfMissing::Create).unwrap().id(), made.id());
        assert_eq!(load_or_create(&path, IfMissing::Fail).unwrap().id(), made.id());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn daemons_that_start_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        let ids = std::thread::scope(|scope| {
            let start = || load_or_create(&path, IfMissing::Create).unwrap().id();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn inv_15_missing_key_is_not_created_where_one_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        let error = load_or_create(&path, IfMissing::Fail).unwrap_err();
        assert!(matches!(error, MasterKeyFileError::Missing { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--master-key-file"));
        assert!(!path.exists());
    }

    #[test]
    fn dangling_link_is_no_missing_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        symlink(dir.path().join("unmounted"), &path).unwrap();
        let error = load_or_create(&path, IfMissing::Create).unwrap_err();
        assert!(matches!(error, MasterKeyFileError::Read { .. }), "{error}");
    }

    #[test]
    fn key_readable_by_others_is_rejected_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        load_or_create(&path, IfMissing::Create).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            chmod(&path, mode);
            let error = load_or_create(&path, IfMissing::Create).unwrap_err();
            assert!(matches!(error, MasterKeyFileError::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().ends_with(&format!("its mode is {mode:04o}")), "{error}");
            assert_eq!(error.hint().unwrap(), format!("run `chmod 600 {}`", path.display()));
        }
        chmod(&path, 0o400);
        assert!(load_or_create(&path, IfMissing::Fail).is_ok());
    }

    #[test]
    fn inv_08_broken_key_is_neither_used_nor_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master-key");
        let good = MasterKey::generate().unwrap().to_text();
        let long = "x".repeat(5000);
        for content in ["", "\n", "password", &good[..30], &format!("{}{}", *good, *good), &long] {
            fs::write(&path, content).unwrap();
            chmod(&path, 0o600);
            let error = load_or_create(&path, IfMissing::Create).unwrap_err();
            assert!(matches!(error, MasterKeyFileError::Content { .. }), "{content}: {error}");
            assert!(!error.to_string().contains(good.as_str()));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn directory_and_missing_directory_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_or_create(dir.path(), IfMissing::Create).unwrap_err();
        assert!(matches!(error, MasterKeyFileError::NotAFile { .. }), "{error}");
        let error = load_or_create(&dir.path().join("no/key"), IfMissing::Create).unwrap_err();
        assert!(matches!(error, MasterKeyFileError::Write { .. }), "{error}");
        assert_eq!(error.hint().unwrap(), "create its directory first");
    }
}
