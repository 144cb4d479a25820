//! The commands that keep an installation: what they have in common. None of them is part of the daemon.

pub mod backup;
pub mod fsck;
pub mod migrate;
mod output_file;
mod progress;
pub mod restore;
pub mod rotate_master_key;

use std::{fmt, io};

use mcpctl_backup::BackupError;
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_server::ShutdownSignal;
use mcpctl_store::transfer::TransferError;

use crate::{config::Config, print_error, with_hint};

/// The master key of an installation that was started before.
fn keys(config: &Config) -> anyhow::Result<Keyring> {
    let key = master_key_file::load_or_create(&config.master_key_file, IfMissing::Fail);
    key.map(Keyring::new).map_err(|error| with_hint(error.to_string(), error.hint()))
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
