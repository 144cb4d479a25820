//! The commands that keep an installation: what they have in common. None of them is part of the daemon.

pub mod backup;
pub mod check;
pub mod fsck;
pub mod migrate;
mod output_file;
mod progress;
pub mod restore;
pub mod rotate_master_key;

use std::{fmt, io};

use mcpctl_backup::BackupError;
use mcpctl_secret::{
    envelope::{Keyring, MasterKey},
    master_key_file::{self, IfMissing, MasterKeyFileError},
};
use mcpctl_server::ShutdownSignal;
use mcpctl_store::transfer::{Source, TransferError};

use crate::{config::Config, print_error, with_hint};

/// The master key of an installation that was started before, and the one that an interrupted rotation has left beside it.
struct Keys {
    present: MasterKey,
    next: Option<MasterKey>,
}

impl Keys {
    fn load(config: &Config) -> anyhow::Result<Self> {
        let file = &config.master_key_file;
        let load = || {
            let present = master_key_file::load_or_create(file, IfMissing::Fail)?;
            Ok(Self { present, next: master_key_file::load_next(file)? })
        };
        load().map_err(|error: MasterKeyFileError| with_hint(error.to_string(), error.hint()))
    }

    /// The key of a store: the next one, after a rotation that was interrupted after its commit. The files stay as they are.
    async fn of(self, source: &mut Source) -> anyhow::Result<Keyring> {
        if let Some(next) = self.next.map(Keyring::new)
            && source.has_key(&next).await.map_err(transfer_error)?
        {
            return Ok(next);
        }
        Ok(Keyring::new(self.present))
    }

    /// Both, for a backup that was made with either.
    fn of_backup(self) -> Keyring {
        let keys = Keyring::new(self.present);
        match self.next {
            Some(next) => keys.with_earlier(next),
            None => keys,
        }
    }
}

fn transfer_error(error: TransferError) -> anyhow::Error {
    with_hint(error.to_string(), error.hint())
}

fn backup_error(name: &str, error: &BackupError) -> anyhow::Error {
    with_hint(format!("`{name}`: {error}"), error.hint())
}

/// Runs work until it ends or a signal comes. Work that is dropped removes what it has made; so what puts it into effect is no part of it.
async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signal = ShutdownSignal::new()?;
    let done = tokio::select! {
        done = work => Some(done),
        () = signal.recv() => None,
    };
    done.unwrap_or_else(|| {
        print_error(&anyhow::anyhow!("interrupted, and nothing was changed"));
        // A thread may wait for a pipe, and a regular end for that thread.
        std::process::exit(1)
    })
}

/// Runs what waits for files in a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// How many rows, of how many tables.
struct Amount {
    rows: u64,
    tables: usize,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {rows} of {} tables", indicatif::HumanCount(self.rows), self.tables)
    }
}

/// An error of the system about a file that the user has named.
fn file_error(name: &str, what: &str, error: &io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => Some("check the name, and that its directory exists"),
        io::ErrorKind::PermissionDenied => Some("name a place that this user may use"),
        io::ErrorKind::StorageFull => Some("make room, or name a file on another disk"),
        _ => None,
    };
    with_hint(format!("`{name}` cannot be {what}: {error}"), hint)
}
