//! `mcpctl local`: the agent on this machine.

mod background;
mod clients;
pub mod doctor;
mod env;
mod history;
mod init;
mod journal;
mod kept;
mod key;
mod rotate_key;
mod service;
pub mod status;

use std::{io::Write as _, process::ExitCode};

use clap::Subcommand;
use futures::StreamExt as _;
use mcpctl_client::Client;

use crate::{
    Outcome, agent,
    context::Global,
    failure::Failure,
    output::{self, Shape},
};

/// What to do with the agent.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the agent's configuration from what is on this machine
    Init(init::Args),
    /// Show what the agent is doing
    Status {
        /// table, json or yaml
        #[arg(long, short, value_enum, default_value = "table")]
        output: Shape,
        /// Go on, every second
        #[arg(long, short)]
        watch: bool,
    },
    /// Look for what is wrong with the agent's configuration, its model servers and this machine
    Doctor(doctor::Args),
    /// Start the agent in the background and wait until it answers
    Up(background::Args),
    /// Stop the agent that `up` started: running requests end first
    Down,
    /// Let the agent start with every login, as a service of this user
    Install(service::InstallArgs),
    /// Stop the agent and remove its service; configuration, key and journal stay
    Uninstall(service::UninstallArgs),
    /// Show the requests that fell back to this machine: why, what came of them, and whether mcpd has them
    History(history::Args),
    /// Show the lines of the agent's journal, or check that none is missing
    Journal(journal::Args),
    /// Set clients up to use the agent: variables of a shell, or with --for a client's own configuration
    Env(env::Args),
    /// Print this machine's key, for clients that run a command for it
    Key(key::Args),
    /// Make a new key for this machine; the old one is refused from then on
    RotateKey,
    /// Print the log of a local model server
    Logs {
        /// The provider; may be left out where the agent starts only one
        name: Option<String>,
        /// Go on as it grows
        #[arg(long, short)]
        follow: bool,
        /// Of the start before the last one
        #[arg(long, conflicts_with = "follow")]
        previous: bool,
    },
    /// Start a local model server now
    Start {
        /// The provider; may be left out where the agent starts only one
        name: Option<String>,
    },
    /// Let its requests end, then stop a local model server
    Stop {
        /// The provider; may be left out where the agent starts only one
        name: Option<String>,
        /// Every one
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

impl Args {
    pub(super) fn follows(&self) -> bool {
        match &self.command {
            Command::Status { watch, .. } => *watch,
            Command::Logs { follow, .. } => *follow,
            Command::History(args) => args.follows(),
            _ => false,
        }
    }
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    match args.command {
        Command::Init(args) => init::run(global, args).await,
        Command::Status { output, watch } => status::run(output, watch).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Up(args) => background::up(args).await,
        Command::Down => background::down().await,
        Command::Install(args) => service::install(args).await,
        Command::Uninstall(args) => service::uninstall(args).await,
        Command::History(args) => history::run(args).await,
        Command::Journal(args) => journal::run(global, args).await,
        Command::Env(args) => env::run(args).await,
        Command::Key(args) => key::run(args).await,
        Command::RotateKey => rotate_key::run().await,
        Command::Logs { name, follow, previous } => logs(name, previous, follow).await,
        Command::Start { name } => start(name).await,
        Command::Stop { name, all } => stop(name, all).await,
    }
}

async fn logs(name: Option<String>, previous: bool, follow: bool) -> Outcome {
    let agent = agent::client()?;
    let name = chosen(&agent, name, "logs").await?;
    let answer = agent.engine_logs(&name, previous, follow).await.map_err(agent::not_running)?;
    let mut bytes = answer.bytes_stream();
    let mut out = output::terminal::stream();
    while let Some(chunk) = bytes.next().await {
        out.write_all(&chunk.map_err(|_| Failure::new("the connection to mcplocal was cut"))?)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(name: Option<String>) -> Outcome {
    let agent = agent::client()?;
    let name = chosen(&agent, name, "start").await?;
    note!("starting `{name}`…");
    agent.engine_action(&name, "start").await.map_err(agent::not_running)?;
    data!("{name} is ready")?;
    Ok(ExitCode::SUCCESS)
}

async fn stop(name: Option<String>, all: bool) -> Outcome {
    let agent = agent::client()?;
    let names = match all {
        true => engines(&agent).await?,
        false => vec![chosen(&agent, name, "stop").await?],
    };
    for name in names {
        note!("stopping `{name}`…");
        agent.engine_action(&name, "stop").await.map_err(agent::not_running)?;
        data!("{name} is stopped")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The named engine, or the only one.
async fn chosen(agent: &Client, name: Option<String>, verb: &str) -> Result<String, Failure> {
    let Some(name) = name else {
        let names = engines(agent).await?;
        return match names.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Failure::new("the agent starts no model server itself").hint("mcpctl local status")),
            several => {
                let all = several.join(" | ");
                Err(Failure::usage("which model server?").hint(format!("mcpctl local {verb} {all}")))
            }
        };
    };
    Ok(name)
}

/// The model servers that the agent starts.
async fn engines(agent: &Client) -> Result<Vec<String>, Failure> {
    let status = agent.local_status().await.map_err(agent::not_running)?;
    let managed = status.providers.into_iter().filter(|provider| provider.engine.is_some());
    Ok(managed.map(|provider| provider.name).collect())
}
