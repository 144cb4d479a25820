//! `mcpctl local`: the agent on this machine.

mod doctor;
mod service;
mod status;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Subcommand;
use futures::StreamExt as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::{Outcome, agent, failure::Failure, output::Shape};

/// What to do with the agent.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    /// Let the agent start with every login, as a service of this user
    Install(service::InstallArgs),
    /// Stop the agent and remove its service; configuration, key and journal stay
    Uninstall(service::UninstallArgs),
    /// Print what to export so that any OpenAI client uses the agent
    Env,
    /// Print the log of a local model server
    Logs {
        /// The provider; where only one is started by the agent, it need not be said
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
        /// The provider
        name: String,
    },
    /// Let its requests end, then stop a local model server
    Stop {
        /// The provider
        name: String,
    },
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    match args.command {
        Command::Status { output, watch } => status::run(output, watch).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Install(args) => service::install(args).await,
        Command::Uninstall(args) => service::uninstall(args).await,
        Command::Env => env(),
        Command::Logs { name, follow, previous } => logs(name, previous, follow).await,
        Command::Start { name } => action(&name, "start", "is ready").await,
        Command::Stop { name } => action(&name, "stop", "is stopped").await,
    }
}

fn env() -> Outcome {
    let (address, key) = (agent::address()?, agent::local_key()?);
    let base = address.as_str().trim_end_matches('/');
    data!("export OPENAI_BASE_URL={base}/v1")?;
    data!("export OPENAI_API_KEY={}", key.expose_secret())?;
    if std::io::stdout().is_terminal() {
        note!("# run: eval \"$(mcpctl local env)\"");
    }
    Ok(ExitCode::SUCCESS)
}

async fn logs(name: Option<String>, previous: bool, follow: bool) -> Outcome {
    let agent = agent::client()?;
    let name = match name {
        Some(name) => name,
        None => only_engine(&agent.local_status().await.map_err(agent::not_running)?)?,
    };
    let answer = agent.engine_logs(&name, previous, follow).await.map_err(agent::not_running)?;
    let mut bytes = answer.bytes_stream();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = bytes.next().await {
        out.write_all(&chunk.map_err(|_| Failure::new("the connection to mcplocal was cut"))?)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn only_engine(status: &Value) -> Result<String, Failure> {
    let providers = status.get("providers").and_then(Value::as_array).into_iter().flatten();
    let managed = providers.filter(|provider| provider.get("engine").is_some_and(|engine| !engine.is_null()));
    let names: Vec<&str> = managed.filter_map(|provider| provider.get("name")?.as_str()).collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new("the agent starts no model server itself").hint("mcpctl local status")),
        several => {
            Err(Failure::usage("whose log?").hint(format!("mcpctl local logs {}", several.join(" | "))))
        }
    }
}

async fn action(name: &str, action: &str, done: &str) -> Outcome {
    let agent = agent::client()?;
    let doing = if action == "stop" { "stopping" } else { "starting" };
    note!("{doing} `{name}`…");
    agent.engine_action(name, action).await.map_err(agent::not_running)?;
    data!("{name} {done}")?;
    Ok(ExitCode::SUCCESS)
}
