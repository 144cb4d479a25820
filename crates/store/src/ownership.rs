//! The one process that serves an SQLite database. It holds a lock beside the file, so that it knows all commits without a look at
//! the database: its own, and those that another program, as `mcpd bootstrap-token`, has noted in the lock's file.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use mcpctl_owner::file;

/// The right to serve a database, for as long as this lives.
#[derive(Debug)]
pub struct Ownership {
    /// Holds the lock. Its first line is the owner's process id; each byte after it is a commit by another program.
    lock: Identified,
    database: Identified,
    _held: File,
}

/// Why a database cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// Another process serves it.
    #[error("the database `{}` is served by another mcpd{}", .place.display(), process(*.pid))]
    Taken {
        /// The file.
        place: PathBuf,
        /// The process, if it can be known.
        pid: Option<u32>,
    },
    /// The lock cannot be taken.
    #[error("the lock `{}` cannot be taken: {reason}", .place.display())]
    Unavailable {
        /// The lock's file.
        place: PathBuf,
        /// The reason.
        #[source]
        reason: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(", process {pid}")).unwrap_or_default()
}

impl OwnershipError {
    /// The next step.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Taken { .. } => {
                "stop that one first, or give this one a directory of its own with --data-dir; several share a PostgreSQL"
            }
            Self::Unavailable { .. } => {
                "check that this user may write to the data directory, and that it is on a local disk"
            }
        }
    }
}

impl Ownership {
    /// Takes an SQLite database that exists, or that is about to be created in an existing directory.
    ///
    /// # Errors
    /// When another process serves it, or the lock cannot be taken.
    pub fn take(database: &Path) -> Result<Self, OwnershipError> {
        let place = lock_path(database);
        let unavailable = |reason| OwnershipError::Unavailable { place: place.clone(), reason };
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).read(true).mode(0o600);
        let mut held = options.open(&place).map_err(unavailable)?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OwnershipError::Taken { place: database.to_owned(), pid: owner(&place) });
            }
            Err(TryLockError::Error(reason)) => return Err(unavailable(reason)),
        }
        let mut begin = || {
            held.set_len(0)?;
            writeln!(held, "{}", std::process::id())?;
            let lock = Identified::of(&place, &held.metadata()?);
            // Created here and not by SQLite, so that other users can never read it, not even for a moment.
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(database)?;
            io::Result::Ok((lock, Identified::of(database, &file.metadata()?)))
        };
        let (lock, database) = begin().map_err(unavailable)?;
        Ok(Self { lock, database, _held: held })
    }

    /// Why an SQLite database could not be taken now, where another process serves it. Changes nothing.
    pub fn taken(database: &Path) -> Option<OwnershipError> {
        let place = lock_path(database);
        let held = File::open(&place).ok()?;
        matches!(held.try_lock_shared(), Err(TryLockError::WouldBlock))
            .then(|| OwnershipError::Taken { place: database.to_owned(), pid: owner(&place) })
    }

    /// The database's file.
    pub(crate) fn database(&self) -> &Path {
        &self.database.path
    }

    /// Where the count of commits by other programs stands; `None` where it cannot be known, because one of the files is no longer
    /// at its path.
    pub(crate) fn others(&self) -> Option<u64> {
        self.database.there()?;
        self.lock.there().map(|lock| lock.len())
    }
}

/// Notes a commit of a program that is not the owner. Where there is no owner, there is nothing to note.
pub(crate) fn note_commit(database: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(lock_path(database)) {
        Ok(mut lock) => lock.write_all(b"\n"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock_path(database: &Path) -> PathBuf {
    file::beside(database, "-owner")
}

fn owner(lock: &Path) -> Option<u32> {
    fs::read_to_string(lock).ok()?.lines().next()?.parse().ok()
}

/// A file, and which one it was.
#[derive(Debug)]
struct Identified {
    path: PathBuf,
    identity: (u64, u64),
}

impl Identified {
    fn of(path: &Path, file: &Metadata) -> Self {
        Self { path: path.to_owned(), identity: (file.dev(), file.ino()) }
    }

    /// What is at the path, if it is still that file.
    fn there(&self) -> Option<Metadata> {
        let there = fs::metadata(&self.path).ok()?;
        ((there.dev(), there.ino()) == self.identity).then_some(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_serves_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("mcpd.sqlite");
        let first = Ownership::take(&database).unwrap();
        let error = Ownership::take(&database).unwrap_err();
        let expected = format!(
            "the database `{}` is served by another mcpd, process {}",
            database.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(Ownership::taken(&database).unwrap().to_string(), expected);
        drop(first);
        assert!(Ownership::taken(&database).is_none());
        Ownership::take(&database).unwrap();
    }

    #[test]
    fn commits_of_other_programs_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("mcpd.sqlite");
        note_commit(&database).unwrap();
        let owner = Ownership::take(&database).unwrap();
        let before = owner.others();
        assert_eq!(owner.others(), before);
        note_commit(&database).unwrap();
        assert!(before.is_some() && owner.others() > before);
        fs::rename(&database, dir.path().join("away")).unwrap();
        assert_eq!(owner.others(), None, "the file is gone");
    }
}
