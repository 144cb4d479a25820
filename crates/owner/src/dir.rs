//! Directories that belong to this user, reached by a path that no other user can redirect.
//!
//! A path is walked from the root. Every directory on it must belong to this user or root and be writable by no other
//! user, or have the sticky bit as `/tmp` has; every link must belong to this user or root. Then no other user can change
//! where the path leads between this check and a later use.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use nix::unistd::AccessFlags;

use crate::{
    error::{PathError, PathProblem},
    user::{ROOT, is_private_group, own_uid},
};

/// Maximum number of links on one path; as many as Linux follows.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Creates a directory for this user alone where there is none, with its missing parents, and checks that it belongs to
/// this user and that no other user can write to it or replace it. Returns its absolute path.
///
/// # Errors
/// When it cannot be made, or it or a directory above it could be another user's.
pub fn ensure_private(dir: &Path) -> Result<PathBuf, PathError> {
    let absolute = absolute(dir)?;
    let walked = walk(&absolute, Missing::Make)?;
    check_own(&walked)?;
    Ok(absolute)
}

/// As [`ensure_private`], without creating anything; `None` where it does not exist.
///
/// # Errors
/// When it, or a directory above it, could be another user's.
pub fn check_private(dir: &Path) -> Result<Option<PathBuf>, PathError> {
    let absolute = absolute(dir)?;
    match walk(&absolute, Missing::Fail) {
        Ok(walked) => check_own(&walked).map(|()| Some(absolute)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks, without creating anything, that [`ensure_private`] would succeed and that files can be created in the directory then.
/// Returns whether it exists.
///
/// # Errors
/// When it could not be made or written to, or it or a directory above it could be another user's.
pub fn check_ensurable(dir: &Path) -> Result<bool, PathError> {
    if let Some(there) = check_private(dir)? {
        return check_writable(&there).map(|()| true);
    }
    let absolute = absolute(dir)?;
    let above = absolute.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
    check_writable(above.unwrap_or(Path::new("/"))).map(|()| false)
}

/// Checks, without creating anything, that files can be created in a directory, and that no other user can replace them.
///
/// # Errors
/// When this user may not write there, nothing can be created there, or it could be another user's.
pub fn check_writable(dir: &Path) -> Result<(), PathError> {
    let walked = walk(&absolute(dir)?, Missing::Fail)?;
    if !walked.metadata.is_dir() {
        return Err(PathError::new(&walked.real, PathProblem::NotADirectory));
    }
    check_ancestor(&walked.real, &walked.metadata)?;
    nix::unistd::access(&walked.real, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| PathError::io(&walked.real, error.into()))?;
    // By their modes root may write to these, and the kernel creates nothing.
    let is_of_kernel = |of: &str| fs::metadata(of).is_ok_and(|there| there.dev() == walked.metadata.dev());
    if ["/proc", "/sys"].into_iter().any(is_of_kernel) {
        let error = io::Error::other("a directory of the kernel holds no other files");
        return Err(PathError::io(&walked.real, error));
    }
    Ok(())
}

/// Checks that no other user can replace this path: the directory that holds it, and all above.
///
/// # Errors
/// When it does not exist, or it or a directory above it could be another user's.
pub fn check_parents(of: &Path) -> Result<(), PathError> {
    let absolute = absolute(of)?;
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let walked = walk(parent, Missing::Fail)?;
    if !walked.metadata.is_dir() {
        return Err(PathError::new(&walked.real, PathProblem::NotADirectory));
    }
    check_ancestor(&walked.real, &walked.metadata)
}

/// The target of a path whose directories and links were checked.
pub(crate) struct Walked {
    /// Without links.
    pub(crate) real: PathBuf,
    pub(crate) metadata: Metadata,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Missing directories are made, for this user alone.
    Make,
    Fail,
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, PathError> {
    std::path::absolute(path).map_err(|error| PathError::io(path, error))
}

/// Follows an absolute path, see the top of this file. The target itself is not checked.
pub(crate) fn walk(path: &Path, missing: Missing) -> Result<Walked, PathError> {
    let mut real = PathBuf::from("/");
    let mut metadata = look(&real)?;
    let mut rest: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            // The parent of the real path was checked on the way down.
            real.pop();
            metadata = look(&real)?;
            continue;
        }
        if !metadata.is_dir() {
            return Err(PathError::new(&real, PathProblem::NotADirectory));
        }
        check_ancestor(&real, &metadata)?;
        let next = real.join(&part);
        let found = match look(&next) {
            Err(error) if error.is_not_found() && missing == Missing::Make => {
                make(&next)?;
                look(&next)?
            }
            found => found?,
        };
        if found.is_symlink() {
            check_owner(&next, &found)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(PathError::io(&next, io::Error::other("too many links")));
            }
            let target = fs::read_link(&next).map_err(|error| PathError::io(&next, error))?;
            if target.is_absolute() {
                real = PathBuf::from("/");
                metadata = look(&real)?;
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(part);
            }
            continue;
        }
        (real, metadata) = (next, found);
    }
    Ok(Walked { real, metadata })
}

/// The names of a path, `..` included.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

fn look(path: &Path) -> Result<Metadata, PathError> {
    fs::symlink_metadata(path).map_err(|error| PathError::io(path, error))
}

fn make(path: &Path) -> Result<(), PathError> {
    match DirBuilder::new().mode(0o700).create(path) {
        // Another of our programs created it at the same time; the caller checks its owner next.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| PathError::io(path, error)),
    }
}

/// Checks that only this user and root can rename, replace or delete entries of a directory.
fn check_ancestor(path: &Path, metadata: &Metadata) -> Result<(), PathError> {
    check_owner(path, metadata)?;
    let mode = metadata.mode();
    let group_writes = mode & GROUP_WRITE != 0 && !is_private_group(metadata.gid());
    if (group_writes || mode & OTHERS_WRITE != 0) && mode & STICKY == 0 {
        return Err(PathError::new(path, PathProblem::WritableByOthers(mode & 0o7777)));
    }
    Ok(())
}

pub(crate) fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), PathError> {
    match metadata.uid() {
        uid if uid == own_uid() || uid == ROOT => Ok(()),
        uid => Err(PathError::new(path, PathProblem::ForeignOwner(uid))),
    }
}

/// Checks that a directory belongs to this user and that no other user can write to it.
fn check_own(walked: &Walked) -> Result<(), PathError> {
    let Walked { real, metadata } = walked;
    if !metadata.is_dir() {
        return Err(PathError::new(real, PathProblem::NotADirectory));
    }
    if metadata.uid() != own_uid() {
        return Err(PathError::new(real, PathProblem::ForeignOwner(metadata.uid())));
    }
    check_not_writable(real, metadata)
}

pub(crate) fn check_not_writable(path: &Path, metadata: &Metadata) -> Result<(), PathError> {
    match metadata.mode() & 0o7777 {
        mode if mode & (GROUP_WRITE | OTHERS_WRITE) == 0 => Ok(()),
        mode => Err(PathError::new(path, PathProblem::WritableByOthers(mode))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn missing_directories_are_created_private() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b/c");
        assert!(check_private(&dir).unwrap().is_none());
        assert_eq!(ensure_private(&dir).unwrap(), dir);
        for made in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&home.path().join(made)), 0o700, "{made}");
        }
        chmod(&dir, 0o755);
        assert_eq!(ensure_private(&dir).unwrap(), dir, "others may look at names");
        assert_eq!(check_private(&dir).unwrap(), Some(dir));
    }

    #[test]
    fn directory_that_could_be_made_is_checked_and_not_made() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        assert!(!check_ensurable(&dir).unwrap());
        assert!(!home.path().join("a").exists());
        ensure_private(&dir).unwrap();
        assert!(check_ensurable(&dir).unwrap());
        fs::write(home.path().join("file"), "").unwrap();
        for wrong in [home.path().join("file/x"), "/proc/nope".into(), "/sys/nope/x".into()] {
            assert!(check_ensurable(&wrong).is_err(), "{}", wrong.display());
        }
        chmod(&dir, 0o777);
        assert!(check_ensurable(&dir.join("x")).is_err());
    }

    #[test]
    fn directory_writable_by_others_is_rejected() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        ensure_private(&dir).unwrap();
        for open in [0o770, 0o777, 0o702, 0o720, 0o1777] {
            chmod(&dir, open);
            let error = ensure_private(&dir).unwrap_err();
            assert!(matches!(error.problem, PathProblem::WritableByOthers(mode) if mode == open), "{error}");
            assert_eq!(error.hint().unwrap(), format!("chmod go-w {}", dir.display()));
        }
    }

    #[test]
    fn parent_writable_by_others_is_rejected_unless_sticky() {
        let home = tempfile::tempdir().unwrap();
        let parent = home.path().join("shared");
        let dir = parent.join("x/state");
        ensure_private(&dir).unwrap();
        chmod(&parent, 0o777);
        for check in [ensure_private(&dir).map(Some), check_private(&dir)] {
            let error = check.unwrap_err();
            assert!(
                error.path == parent && matches!(error.problem, PathProblem::WritableByOthers(0o777)),
                "{error}"
            );
        }
        chmod(&parent, 0o1777);
        ensure_private(&dir).unwrap();
    }

    #[test]
    fn own_links_are_followed_and_their_targets_checked() {
        let home = tempfile::tempdir().unwrap();
        let disk = home.path().join("disk");
        ensure_private(&disk).unwrap();
        symlink("disk", home.path().join("link")).unwrap();
        ensure_private(&home.path().join("link/state")).unwrap();
        assert!(disk.join("state").is_dir());
        ensure_private(&home.path().join("link/../disk/./state")).unwrap();
        chmod(&disk, 0o777);
        assert!(ensure_private(&home.path().join("link/state")).is_err());
        symlink("loop", home.path().join("loop")).unwrap();
        assert!(ensure_private(&home.path().join("loop/state")).is_err());
    }

    #[test]
    fn link_or_directory_of_another_user_is_rejected() {
        if own_uid() != ROOT {
            // Only root can make something that belongs to another user.
            return;
        }
        let home = tempfile::tempdir().unwrap();
        ensure_private(&home.path().join("real")).unwrap();
        let link = home.path().join("planted");
        symlink("real", &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        let error = ensure_private(&link.join("state")).unwrap_err();
        assert!(error.path == link && matches!(error.problem, PathProblem::ForeignOwner(65534)), "{error}");
        let dir = home.path().join("real/theirs");
        ensure_private(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
        for path in [dir.clone(), dir.join("below")] {
            let error = ensure_private(&path).unwrap_err();
            assert!(
                error.path == dir && matches!(error.problem, PathProblem::ForeignOwner(65534)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = ensure_private(&path).unwrap_err();
            assert!(matches!(error.problem, PathProblem::NotADirectory), "{error}");
        }
    }

    #[test]
    fn the_parents_of_a_socket_are_checked() {
        let home = tempfile::tempdir().unwrap();
        check_parents(&home.path().join("s")).unwrap();
        assert!(check_parents(&home.path().join("no/s")).unwrap_err().is_not_found());
        chmod(home.path(), 0o777);
        assert!(check_parents(&home.path().join("s")).is_err());
    }
}
