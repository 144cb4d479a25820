//! `mcpd master-key`: creates the key that encrypts secrets at rest before the first start, for example to give it to
//! several replicas.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mcpctl_owner::dir;
use mcpctl_secret::master_key_file::{self, MasterKeyFileError};
use mcpctl_store::{OpenError, Store};

use crate::{config::ServeArgs, print, with_hint};

/// The subcommands of `mcpd master-key`.
#[derive(Subcommand)]
pub enum MasterKey {
    /// Make a new key and print the path of its file; for an installation that was never started
    New(NewArgs),
}

/// The arguments of `mcpd master-key new`.
#[derive(Args)]
pub struct NewArgs {
    /// File to make [default: the one that `mcpd serve` reads with the same options]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the file exists, the store was set up with another key, or the file cannot be written.
pub async fn run(command: MasterKey) -> anyhow::Result<()> {
    let MasterKey::New(args) = command;
    let config = args.serve.resolve()?;
    let path = match args.file {
        // The key may be for another machine, so this machine's store is not checked.
        Some(file) if file != config.master_key_file => file,
        _ => {
            let opened = |error: OpenError| with_hint(error.to_string(), error.hint());
            // Never a second key: it could not open secrets that the first one sealed.
            if Store::has_master_key(&config.database).await.map_err(opened)?
                && !config.master_key_file.exists()
            {
                let missing = MasterKeyFileError::Missing { path: config.master_key_file };
                return Err(with_hint(missing.to_string(), missing.hint()));
            }
            dir::ensure_private(&config.data_dir)
                .map_err(|error| with_hint(error.to_string(), error.hint()))?;
            config.master_key_file
        }
    };
    master_key_file::create_new(&path).map_err(|error| with_hint(error.to_string(), error.hint()))?;
    print(&path.display().to_string())
}
