//! `mcpd restore`: makes a store from a backup, completely or not at all, in either database.

use std::{
    io::{self, BufReader, IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::Args;
use mcpctl_api::visible;
use mcpctl_backup::{BackupError, Header, Reader};
use mcpctl_secret::envelope::Keyring;
use mcpctl_store::transfer::{self, Batch, Occupied, Restoration, Tally, Target, TransferError};
use mcpctl_telemetry::output;
use tokio::sync::mpsc::Sender;

use super::{
    Keys,
    backup::{STANDARD, amount, name_of, open, state},
    backup_error, blocking, interruptible,
    progress::Progress,
    transfer_error,
};
use crate::{
    clock,
    config::{Config, ServeArgs},
    print, private_files, with_hint,
};

/// The arguments of `mcpd restore`.
#[derive(Args)]
pub struct RestoreArgs {
    /// Backup to read, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Delete the store that is there, once the backup was read and found whole
    #[arg(long)]
    replace: bool,
    /// Do not ask before a store is deleted
    #[arg(short = 'y', long, requires = "replace")]
    yes: bool,
    /// Leave out all tokens and sessions, where one may have been revoked since the backup; `mcpd bootstrap-token` makes the first new one
    #[arg(long)]
    without_tokens: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the backup cannot be read or is damaged, the key is another one, or the store is not empty.
pub async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let config = args.serve.resolve()?;
    let keys = Keys::load(&config)?.of_backup();
    private_files(&config)?;
    let name = name_of(&args.file);
    let file = args.file.clone();
    let reader = blocking(move || {
        let opened = Reader::open(BufReader::new(open(&file)?), &keys);
        Ok((opened.map_err(|error| backup_error(&name_of(&file), &error))?, keys))
    });
    let (reader, keys) = reader.await?;
    let header = reader.header().clone();
    header.layout.check_known(&format!("`{name}`")).map_err(transfer_error)?;
    if args.replace && !args.yes {
        confirm(&config, &header, args.file.as_os_str() == STANDARD)?;
    }
    let occupied = if args.replace { Occupied::Replace } else { Occupied::Refuse };
    let restoration =
        Restoration { created_at: header.created_at, now: clock::now(), with_tokens: !args.without_tokens };
    let restored = interruptible(async {
        let mut target = Target::begin(&config.database, occupied).await.map_err(transfer_error)?;
        let tallies = restore(&mut target, reader, keys, name, restoration).await?;
        Ok((target, tallies))
    });
    let (target, restored) = restored.await?;
    target.finish().await.map_err(transfer_error)?;
    print(&format!("restored {}: {}, compared with the backup", state(&header), amount(&restored)))?;
    warn(&restoration);
    Ok(())
}

async fn restore(
    target: &mut Target,
    mut reader: Reader<BufReader<Box<dyn io::Read + Send>>>,
    keys: Keyring,
    name: String,
    restoration: Restoration,
) -> anyhow::Result<Vec<Tally>> {
    let layout = reader.header().layout.clone();
    target.create(&layout, &format!("`{name}`")).await.map_err(transfer_error)?;
    let (rows, received) = transfer::channel();
    let reading = blocking(move || {
        let read = send_rows(&mut reader, &rows).map_err(|error| backup_error(&name, &error))?;
        Ok(read.then(|| reader.tallies().to_vec()))
    });
    let (read, loaded) = tokio::join!(reading, target.load(&layout, received));
    let tallies = match (read?, loaded) {
        (_, Err(error)) => return Err(transfer_error(error)),
        (Some(tallies), Ok(())) => tallies,
        (None, Ok(())) => return Err(transfer_error(TransferError::GivenUp)),
    };
    target.verify(&layout, &tallies).await.map_err(transfer_error)?;
    target.check_key(&keys).await.map_err(transfer_error)?;
    target.mark_restored(&restoration).await.map_err(transfer_error)?;
    Ok(tallies)
}

/// Sends all rows of a backup; `false` where nothing receives them any more.
fn send_rows<R: io::BufRead>(reader: &mut Reader<R>, rows: &Sender<Batch>) -> Result<bool, BackupError> {
    let progress = Progress::begin("restoring", reader.header().layout.rows());
    while let Some(batch) = reader.next_batch()? {
        progress.add(batch.rows());
        if rows.blocking_send(batch).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn confirm(config: &Config, header: &Header, reads_stdin: bool) -> anyhow::Result<()> {
    const HINT: &str = "pass `--yes` to replace it without a question";
    let is_seen = io::stdin().is_terminal() && io::stderr().is_terminal();
    if reads_stdin || !is_seen {
        return Err(with_hint("whether to replace the store cannot be asked here", Some(HINT)));
    }
    let question = format!("Delete {} and restore {}?", config.database.for_people(), state(header));
    // A line, so that a single key decides nothing.
    let mut answer = String::new();
    write!(io::stderr(), "{} [y/N] ", visible::one_line(&question))?;
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow::anyhow!("not restored, and nothing was changed")),
    }
}

/// What a restore brings back that an operator may not want.
fn warn(restoration: &Restoration) {
    let at = restoration.created_at;
    let tokens = if restoration.with_tokens { "tokens, sessions, " } else { "" };
    output::note(format_args!(
        "warning: what was changed after {at:.0} is undone: {tokens}passwords, rights and keys that were revoked since are valid again\n\
         hint: revoke them again; after `mcpctl admin rotate-keys` since then, run `mcpctl admin rotate-keys --again`; docs/how-to/backup.md has the list"
    ));
}
