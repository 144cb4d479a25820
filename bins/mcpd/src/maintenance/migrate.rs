//! `mcpd migrate`: moves a store from SQLite to PostgreSQL or back. The source stays as it is.

use std::path::PathBuf;

use clap::Args;
use mcpctl_secret::envelope::Keyring;
use mcpctl_store::{
    Location,
    transfer::{self, Batch, Layout, Occupied, Source, Tally, Target, TransferError},
};
use mcpctl_telemetry::output;
use tokio::sync::mpsc::{Receiver, Sender};

use super::{Keys, backup::amount, interruptible, progress::Progress, transfer_error};
use crate::{
    config::{self, ServeArgs},
    print, private_files, with_hint,
};

/// What `--to` takes for the file in the data directory.
const SQLITE: &str = "sqlite";

/// The arguments of `mcpd migrate`.
#[derive(Args)]
pub struct MigrateArgs {
    /// Where to: the URL of an empty PostgreSQL database, without a password, or `sqlite` for the file in the data directory
    #[arg(long, value_name = "URL|sqlite", required_unless_present = "to_url_file")]
    to: Option<String>,
    /// File with the URL of the PostgreSQL database to move to, for this user alone
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    to_url_file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command.
///
/// # Errors
/// When an mcpd runs on either database, the target is not empty, or a database fails.
pub async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let config = args.serve.resolve()?;
    let keys = Keys::load(&config)?;
    let file = config.data_dir.join(config::DATABASE_FILE);
    let to = match args.to.as_deref() {
        Some(SQLITE) => Location::Sqlite(file),
        _ => Location::Postgres(config::target_url(args.to, args.to_url_file)?),
    };
    if to == config.database {
        return Err(with_hint(
            format!("the store is in {} already", to.for_people()),
            Some("name the database that it is in as for `mcpd serve`, and the one to move to with --to"),
        ));
    }
    if let Location::Sqlite(_) = &to {
        private_files(&config::Config { database: to.clone(), ..config.clone() })?;
    }
    let mut source = Source::open_alone(&config.database).await.map_err(transfer_error)?;
    let keys = keys.of(&mut source).await?;
    source.check_key(&keys).await.map_err(transfer_error)?;
    let copied = interruptible(async {
        let mut target = Target::begin(&to, Occupied::Refuse).await.map_err(transfer_error)?;
        let moved = copy(&mut source, &mut target, &keys).await.map_err(transfer_error)?;
        Ok((target, moved))
    });
    let (target, moved) = copied.await?;
    target.finish().await.map_err(transfer_error)?;
    // No mcpd can write to it until here.
    drop(source);
    print(&format!("moved {} to {}, and compared both", amount(&moved), to.for_people()))?;
    output::note(format_args!("hint: {}", next_step(&config.database, &to)));
    Ok(())
}

fn next_step(from: &Location, to: &Location) -> String {
    let start = match to {
        Location::Postgres(_) => {
            "start mcpd with `--database-url-file`, a file with this URL, and with the same master key"
        }
        Location::Sqlite(_) => "start mcpd without a database URL, and with the same master key",
    };
    format!("{start}; {} is as it was, and mcpd must not be started on it again", from.for_people())
}

async fn copy(source: &mut Source, target: &mut Target, keys: &Keyring) -> Result<Vec<Tally>, TransferError> {
    let layout = source.layout().clone();
    target.create(&layout, "the source").await?;
    let (rows, received) = transfer::channel();
    let (counted, passed) = transfer::channel();
    let (read, (), loaded) =
        tokio::join!(source.read(rows), pass(&layout, received, counted), target.load(&layout, passed));
    // Its error comes first: where it ends, the reader is given up.
    loaded?;
    let tallies = read?;
    target.verify(&layout, &tallies).await?;
    target.check_key(keys).await?;
    source.check_unchanged().await?;
    Ok(tallies)
}

/// Passes rows on, and shows how many.
async fn pass(layout: &Layout, mut from: Receiver<Batch>, to: Sender<Batch>) {
    let progress = Progress::begin("moving", layout.rows());
    while let Some(batch) = from.recv().await {
        progress.add(batch.rows());
        if to.send(batch).await.is_err() {
            return;
        }
    }
}
