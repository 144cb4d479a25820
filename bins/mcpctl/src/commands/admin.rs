//! `mcpctl admin`: what operators do with mcpd itself.

use std::{net::IpAddr, process::ExitCode};

use clap::Subcommand;
use jiff::Timestamp;
use mcpctl_api::{Name, signing_keys::RotateKeys, throttle::LiftThrottle};
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
    /// Let attempts to sign in count anew, where too many have failed
    #[command(group = clap::ArgGroup::new("whose").required(true).multiple(true))]
    LiftThrottle {
        /// Attempts as this user, from anywhere
        #[arg(long, value_name = "NAME", group = "whose")]
        user: Option<Name>,
        /// Attempts from the network of this address, as any user
        #[arg(long, value_name = "ADDRESS", group = "whose")]
        address: Option<IpAddr>,
    },
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    match args.command {
        Command::RotateKeys { again } => rotate_keys(global.identity()?, again).await,
        Command::LiftThrottle { user, address } => {
            let lift = LiftThrottle { user, address };
            global.client()?.lift_throttle(&lift).await?;
            let user = lift.user.map(|user| format!("as User {user}"));
            let network = lift.address.map(|address| format!("from the network of {address}"));
            for whose in user.iter().chain(&network) {
                data!("attempts to sign in {whose} count anew")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn rotate_keys(identity: Identity, again: bool) -> Outcome {
    let (server, trust) = (identity.server.clone(), identity.trust.clone());
    let client = identity.client()?;
    let before = fetch_keys(&server, &trust).await.map_err(Failure::new)?;
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
