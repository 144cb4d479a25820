//! An SQLite database that is written beside another one and takes its place.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use mcpctl_owner::file;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use super::{error::TransferError, layout, link};
use crate::ownership::Ownership;

/// What a transfer does about a store that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupied {
    /// It stays, and the transfer fails.
    Refuse,
    /// It is deleted.
    Replace,
}

/// The draft, which is removed when it is dropped.
pub(super) struct DatabaseDraft {
    path: PathBuf,
    target: PathBuf,
    /// No mcpd starts on the target meanwhile.
    _ownership: Ownership,
}

impl DatabaseDraft {
    /// Begins a draft, and returns the revision of the store that it will replace too.
    pub(super) async fn begin(target: &Path, occupied: Occupied) -> Result<(Self, i64), TransferError> {
        let ownership = Ownership::take(target)?;
        let place = format!("`{}`", target.display());
        let replaced = if is_empty_file(target) {
            None
        } else {
            // Opened for writing, because what a killed mcpd left in the log has to be read too.
            let mut there = connect(target).await.map_err(|error| cannot_replace(target, &error))?;
            let replaced = layout::occupation(&mut there, &place).await?;
            there.close().await?;
            replaced
        };
        if replaced.is_some() && occupied == Occupied::Refuse {
            return Err(TransferError::NotEmpty { place });
        }
        let draft =
            Self { path: file::beside(target, "-draft"), target: target.to_owned(), _ownership: ownership };
        // Of a transfer that was killed; this one holds the lock.
        draft.remove();
        file::create_new(&draft.path).map_err(|reason| draft.io(reason))?;
        Ok((draft, replaced.unwrap_or_default()))
    }

    /// Connects to the draft. Nothing is synced before the end: a draft is worth nothing until then.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, TransferError> {
        let options = link::sqlite(&self.path)
            .journal_mode(SqliteJournalMode::Memory)
            .synchronous(SqliteSynchronous::Off)
            .pragma("cache_size", "-65536");
        Ok(options.connect().await?)
    }

    /// Puts the draft in the place of the target.
    pub(super) async fn publish(self) -> Result<(), TransferError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        sync(&self.path).map_err(|reason| self.io(reason))?;
        self.retire_target().await?;
        fs::rename(&self.path, &self.target).map_err(|reason| self.io(reason))?;
        let parent = self.target.parent().unwrap_or(Path::new("."));
        sync(parent).map_err(|reason| self.io(reason))
    }

    /// Ends the write-ahead log of the database that is replaced: SQLite would read it as the log of the new one. That fails while
    /// another program has the database open.
    async fn retire_target(&self) -> Result<(), TransferError> {
        if !is_empty_file(&self.target) {
            let end = async {
                let mut there = connect(&self.target).await?;
                sqlx::raw_sql("PRAGMA journal_mode = DELETE").execute(&mut there).await?;
                there.close().await
            };
            end.await.map_err(|error| cannot_replace(&self.target, &error))?;
        }
        match ["-wal", "-shm"]
            .map(|suffix| file::beside(&self.target, suffix))
            .into_iter()
            .find(|path| path.exists())
        {
            None => Ok(()),
            Some(left) => Err(TransferError::CannotReplace {
                place: self.target.clone(),
                reason: format!("`{}` is left of it", left.display()),
            }),
        }
    }

    fn remove(&self) {
        for path in [self.path.clone(), file::beside(&self.path, "-journal")] {
            // Usually it is not there.
            let _ = fs::remove_file(path);
        }
    }

    fn io(&self, reason: io::Error) -> TransferError {
        TransferError::Io { place: self.path.clone(), reason }
    }
}

impl Drop for DatabaseDraft {
    fn drop(&mut self) {
        self.remove();
    }
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    link::sqlite(path).connect().await
}

fn cannot_replace(path: &Path, error: &sqlx::Error) -> TransferError {
    TransferError::CannotReplace { place: path.to_owned(), reason: error.to_string() }
}

/// Whether nothing was ever written to the file, as of one that [`Ownership::take`] has made.
fn is_empty_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() == 0)
}
