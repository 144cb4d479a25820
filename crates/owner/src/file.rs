//! Files of this user: opened without following links or waiting for pipes, created for this user alone. Every crate opens
//! private files through here.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{
    dir::{Missing, absolute, check_not_writable, check_owner, walk},
    error::{PathError, PathProblem},
    user::{ROOT, own_uid},
};

const PRIVATE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// How [`open_own`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To append to it.
    Append,
    /// To lock it, or before a library opens it by its name.
    ReadWrite,
}

/// Who may read a file that the user names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It holds a secret, so others may have no rights to it.
    Secret,
    /// Others may read it.
    Public,
}

/// The path of a file beside another one, with a suffix to its whole name, as SQLite's `-wal`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a file in one of this user's private directories, or creates it. Removes the rights that others have to it.
///
/// # Errors
/// When it is a link, has a second name, is no regular file, belongs to another user or cannot be opened.
pub fn open_own(path: &Path, how: OpenMode) -> Result<File, PathError> {
    let mut options = OpenOptions::new();
    match how {
        OpenMode::Append => options.append(true),
        OpenMode::ReadWrite => options.read(true).write(true),
    };
    let file = options
        .create(true)
        .mode(PRIVATE)
        .custom_flags(flags())
        .open(path)
        .map_err(|error| open_error(path, error))?;
    let mode = check_own(path, &file)?;
    if mode & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(|error| PathError::io(path, error))?;
    }
    Ok(file)
}

/// Whether there is a file, and [`open_own`] would open it. Changes nothing.
///
/// # Errors
/// As [`open_own`].
pub fn is_own(path: &Path) -> Result<bool, PathError> {
    match OpenOptions::new().read(true).write(true).custom_flags(flags()).open(path) {
        Ok(file) => check_own(path, &file).map(|_| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(open_error(path, error)),
    }
}

/// Reads a secret in one of this user's private directories; `None` where it is not there.
///
/// # Errors
/// As [`open_own`], and when others can read it or it is longer than `max` bytes.
pub fn read_own(path: &Path, max: u64) -> Result<Option<Vec<u8>>, PathError> {
    let file = match OpenOptions::new().read(true).custom_flags(flags()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(open_error(path, error)),
    };
    let mode = check_own(path, &file)?;
    if mode & OTHERS != 0 {
        return Err(PathError::new(path, PathProblem::ReadableByOthers(mode)));
    }
    read_to_end(path, file, max).map(Some)
}

/// Reads a file that the user or an administrator names, such as a configuration. Checks its directories as
/// [`crate::dir`] describes; follows links of this user and root.
///
/// # Errors
/// When it is not there, is no regular file, belongs to another user than this one or root, others can write to it, or to
/// read what is [`Content::Secret`], or it is longer than `max` bytes.
pub fn read_named(path: &Path, content: Content, max: u64) -> Result<Vec<u8>, PathError> {
    let file = open_named(path, content)?;
    read_to_end(path, file, max)
}

/// As [`read_named`], but only opens it.
///
/// # Errors
/// As [`read_named`].
pub fn open_named(path: &Path, content: Content) -> Result<File, PathError> {
    let real = walk(&absolute(path)?, Missing::Fail)?.real;
    let options = OpenOptions::new().read(true).custom_flags(flags()).open(&real);
    let file = options.map_err(|error| open_error(&real, error))?;
    let metadata = file.metadata().map_err(|error| PathError::io(path, error))?;
    if !metadata.is_file() {
        return Err(PathError::new(path, PathProblem::NotAFile));
    }
    check_owner(path, &metadata)?;
    let mode = metadata.mode() & 0o7777;
    if content == Content::Secret && mode & strangers(metadata.uid(), own_uid()) != 0 {
        return Err(PathError::new(path, PathProblem::ReadableByOthers(mode)));
    }
    check_not_writable(path, &metadata)?;
    Ok(file)
}

/// The rights to a secret that count as others'. A file of root's that this user can read by its group is one that root gave to that
/// group, as orchestrators do with secrets that they mount; PostgreSQL has the same rule.
fn strangers(owner: u32, own: u32) -> u32 {
    if owner == ROOT && own != ROOT { 0o007 } else { OTHERS }
}

/// Writes a file that only this user can read, or replaces it: completely or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let draft = draft(path);
    let write = || -> io::Result<()> {
        // A draft that a killed process left could be open to others.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        create_new(&draft)?.write_all_and_sync(bytes)?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&draft);
        PathError::io(path, error)
    })
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.draft", std::process::id()))
}

/// Creates a file that only this user can read; fails where there is a file or a link already.
///
/// # Errors
/// When it cannot be made.
pub fn create_new(path: &Path) -> io::Result<OwnFile> {
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    Ok(OwnFile(file))
}

/// A file that [`create_new`] created.
#[derive(Debug)]
pub struct OwnFile(File);

impl OwnFile {
    /// Writes all of it; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_all_and_sync(mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.sync_all()
    }
}

/// Flags of each open: no links, and no wait for the writer of a pipe.
fn flags() -> i32 {
    (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()
}

fn open_error(path: &Path, error: io::Error) -> PathError {
    let there = fs::symlink_metadata(path).ok();
    let problem = match there {
        Some(there) if there.is_symlink() => PathProblem::Link,
        Some(there) if !there.is_file() => PathProblem::NotAFile,
        _ => PathProblem::Io(error),
    };
    PathError::new(path, problem)
}

/// Checks that an open file belongs to this user and has this one name. Returns its mode.
fn check_own(path: &Path, file: &File) -> Result<u32, PathError> {
    let metadata = file.metadata().map_err(|error| PathError::io(path, error))?;
    let problem = if !metadata.is_file() {
        PathProblem::NotAFile
    } else if metadata.uid() != own_uid() {
        PathProblem::ForeignOwner(metadata.uid())
    } else if metadata.nlink() > 1 {
        PathProblem::HardLink
    } else {
        return Ok(metadata.mode() & 0o7777);
    };
    Err(PathError::new(path, problem))
}

fn read_to_end(path: &Path, file: File, max: u64) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    let read = read.map_err(|error| PathError::io(path, error))?;
    if u64::try_from(read).is_ok_and(|read| read <= max) {
        return Ok(bytes);
    }
    Err(PathError::new(path, PathProblem::TooLong(max)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tempfile::TempDir;

    use super::*;

    fn dir() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        (dir, path)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn problem<T>(result: Result<T, PathError>) -> PathProblem {
        result.err().expect("an error").problem
    }

    #[test]
    fn own_files_are_created_private_and_tightened() {
        let (_dir, path) = dir();
        for how in [OpenMode::Append, OpenMode::ReadWrite] {
            open_own(&path, how).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            chmod(&path, 0o666);
        }
        assert!(matches!(problem(read_own(&path, 9)), PathProblem::ReadableByOthers(0o666)));
        replace(&path, b"new").unwrap();
        assert_eq!(read_own(&path, 3).unwrap().unwrap(), b"new");
        assert!(matches!(problem(read_own(&path, 2)), PathProblem::TooLong(2)));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn secrets_of_roots_may_be_readable_by_a_group() {
        let is_refused = |mode: u32, owner, own| mode & strangers(owner, own) != 0;
        assert!(!is_refused(0o440, ROOT, 1000) && is_refused(0o444, ROOT, 1000));
        assert!(is_refused(0o440, 1000, 1000) && is_refused(0o440, ROOT, ROOT));
    }

    #[test]
    fn links_pipes_and_directories_are_rejected() {
        let (home, path) = dir();
        let open_all = |path: &Path| {
            [
                problem(open_own(path, OpenMode::Append)),
                problem(open_own(path, OpenMode::ReadWrite)),
                problem(read_own(path, 9)),
            ]
        };
        let victim = home.path().join("victim");
        fs::write(&victim, "x").unwrap();
        chmod(&victim, 0o600);
        symlink(&victim, &path).unwrap();
        assert!(open_all(&path).iter().all(|problem| matches!(problem, PathProblem::Link)));
        fs::remove_file(&path).unwrap();
        symlink(home.path().join("nowhere"), &path).unwrap();
        assert!(open_all(&path).iter().all(|problem| matches!(problem, PathProblem::Link)));
        assert!(!home.path().join("nowhere").exists());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(open_all(&path).iter().all(|problem| matches!(problem, PathProblem::HardLink)));
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(open_all(&path).iter().all(|problem| matches!(problem, PathProblem::NotAFile)));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(open_all(&path).iter().all(|problem| matches!(problem, PathProblem::NotAFile)));
    }

    #[test]
    fn link_is_replaced_and_not_followed() {
        let (home, path) = dir();
        let victim = home.path().join("victim");
        fs::write(&victim, "x").unwrap();
        symlink(&victim, &path).unwrap();
        symlink(&victim, draft(&path)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!((fs::read(&victim).unwrap(), fs::read(&path).unwrap()), (b"x".to_vec(), b"new".to_vec()));
    }

    #[test]
    fn named_file_is_read_only_if_no_other_user_can_write() {
        let (home, path) = dir();
        fs::write(&path, "text").unwrap();
        chmod(&path, 0o644);
        let link = home.path().join("link");
        symlink("file", &link).unwrap();
        for path in [&path, &link] {
            assert_eq!(read_named(path, Content::Public, 4).unwrap(), b"text");
            assert!(matches!(
                problem(read_named(path, Content::Secret, 4)),
                PathProblem::ReadableByOthers(0o644)
            ));
            assert!(matches!(problem(read_named(path, Content::Public, 3)), PathProblem::TooLong(3)));
        }
        chmod(&path, 0o666);
        assert!(matches!(
            problem(read_named(&path, Content::Public, 4)),
            PathProblem::WritableByOthers(0o666)
        ));
        chmod(&path, 0o644);
        chmod(home.path(), 0o777);
        assert!(matches!(
            problem(read_named(&path, Content::Public, 4)),
            PathProblem::WritableByOthers(0o777)
        ));
        chmod(home.path(), 0o700);
        fs::remove_file(&path).unwrap();
        assert!(read_named(&link, Content::Public, 4).unwrap_err().is_not_found());
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(matches!(problem(read_named(&path, Content::Public, 4)), PathProblem::NotAFile));
    }
}
