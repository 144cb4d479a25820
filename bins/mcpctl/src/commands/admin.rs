//! `mcpctl admin`: what operators do with mcpd itself.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use mcpctl_api::signing_keys::RotateKeys;
use mcpctl_client::{config::Config, fetch_keys, pins};

use crate::{
    Outcome,
    context::{Global, Identity},
    failure::Failure,
    output::{Tone, table::Table},
    server_keys::self_signed,
};

/// What to do.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the next signing key the current one, and a new next key
    RotateKeys {
        /// Within an hour of the last rotation too, although agents that have not followed that one then need a new login
        #[arg(long)]
        again: bool,
    },
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    match args.command {
        Command::RotateKeys { again } => rotate_keys(global.identity()?, again).await,
    }
}

async fn rotate_keys(identity: Identity, again: bool) -> Outcome {
    let (server, trusted) = (identity.server.clone(), identity.trusted);
    let client = identity.client()?;
    let before = fetch_keys(&server, trusted).await.map_err(Failure::new)?;
    let before = self_signed(&before.signed).map_err(Failure::new)?;
    // By id, so that a second administrator who does the same does not rotate twice.
    let rotation = RotateKeys { current: Some(before.current().kid.to_string()), again };
    let rotated = client.rotate_keys(&rotation).await?;
    let mut table = Table::new(&["STATE", "FINGERPRINT"]);
    table.row(["retired", before.current().fingerprint.as_str()]);
    for key in &rotated.keys {
        table.row([&key.state, &key.fingerprint]);
    }
    table.print()?;
    match pins::follow(&Config::default_path()?, &server, &rotated.signed, Timestamp::now()) {
        Ok(_) | Err(pins::PinError::NotPinned(_)) => {}
        Err(error) => note!(Tone::Warning, "warning:"; " your own pins stay as they are: {error}"),
    }
    let server = server.as_str().trim_end_matches('/');
    note!("agents that pinned the keys before follow by themselves within an hour");
    note!("# an agent that was off for two rotations needs: mcpctl login {server} --accept-new-keys");
    Ok(ExitCode::SUCCESS)
}
