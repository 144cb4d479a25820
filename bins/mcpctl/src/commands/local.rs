//! `mcpctl local`: the agent on this machine.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use futures::StreamExt as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::io::Write as _;

use crate::{
    Outcome,
    context::{agent, agent_address, local_key},
    failure::Failure,
    output::table::{Table, age},
};

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
        /// table or json
        #[arg(long, short, value_enum, default_value = "table")]
        output: StatusFormat,
    },
    /// Print what to export so that any OpenAI client uses the agent
    Env,
    /// Print the log of a local model server
    Logs {
        /// The provider
        name: String,
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

#[derive(Clone, Copy, ValueEnum)]
enum StatusFormat {
    Table,
    Json,
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    match args.command {
        Command::Status { output } => status(output).await,
        Command::Env => env(),
        Command::Logs { name, follow, previous } => logs(&name, previous, follow).await,
        Command::Start { name } => action(&name, "start", "is ready").await,
        Command::Stop { name } => action(&name, "stop", "is stopped").await,
    }
}

async fn status(output: StatusFormat) -> Outcome {
    let status = agent()?.local_status().await.map_err(not_running)?;
    if matches!(output, StatusFormat::Json) {
        anstream::println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(ExitCode::SUCCESS);
    }
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    anstream::println!("mcplocal {} on {}", text("/version"), text("/listen"));
    anstream::println!("server:    {}", text("/server"));
    let user = status.get("signedInAs").and_then(Value::as_str);
    anstream::println!("signed in: {}", user.unwrap_or("nobody (mcpctl login)"));
    anstream::println!();
    let mut table = Table::new(&[
        "PROVIDER",
        "TYPE",
        "STANDS IN FOR",
        "STATE",
        "MEMORY",
        "REQUESTS",
        "SINCE",
        "LAST ERROR",
    ]);
    for provider in status.get("providers").and_then(Value::as_array).into_iter().flatten() {
        table.row(row(provider));
    }
    table.print()?;
    for breaker in status.get("breakers").and_then(Value::as_array).into_iter().flatten() {
        let llm = breaker.get("llm").and_then(Value::as_str).unwrap_or_default();
        anstream::println!("\nthe centre rests for `{llm}`: it failed several times in a row");
    }
    if let Some(last) = status.get("lastFailover").filter(|last| !last.is_null()) {
        let text = |key: &str| last.get(key).and_then(Value::as_str).unwrap_or("unknown");
        let when = text("at").parse().map_or_else(|_| String::new(), |at| format!("{} ago", age(at)));
        anstream::println!(
            "\nlast failover: {when}, `{}` by `{}`: {} (primary: {})",
            text("llm"),
            text("provider"),
            text("outcome"),
            text("class")
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn row(provider: &Value) -> Vec<String> {
    let text =
        |pointer: &str| provider.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = provider.get("failoverFor").and_then(Value::as_array).into_iter().flatten();
    let stands_in = names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let engine = provider.get("engine").filter(|engine| !engine.is_null());
    let state = match (engine, text("/engine/phase").as_str()) {
        (None, _) => "external".to_owned(),
        (Some(_), "") => text("/engine/state"),
        (Some(_), phase) => format!("{} ({phase})", text("/engine/state")),
    };
    let number = |pointer: &str| provider.pointer(pointer).and_then(Value::as_u64);
    let memory =
        number("/engine/residentBytes").map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20));
    let in_flight = number("/engine/inFlight").map_or_else(String::new, |count| count.to_string());
    let since = text("/engine/since").parse().map_or_else(|_| String::new(), age);
    let error: String = text("/engine/lastError").chars().take(60).collect();
    vec![text("/name"), text("/type"), stands_in, state, memory, in_flight, since, error]
}

fn env() -> Outcome {
    let (address, key) = (agent_address()?, local_key()?);
    let base = address.as_str().trim_end_matches('/');
    anstream::println!("export OPENAI_BASE_URL={base}/v1");
    anstream::println!("export OPENAI_API_KEY={}", key.expose_secret());
    anstream::eprintln!("# run: eval \"$(mcpctl local env)\"");
    Ok(ExitCode::SUCCESS)
}

async fn logs(name: &str, previous: bool, follow: bool) -> Outcome {
    let answer = agent()?.engine_logs(name, previous, follow).await.map_err(not_running)?;
    let mut bytes = answer.bytes_stream();
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = bytes.next().await {
        out.write_all(&chunk.map_err(|_| Failure::new("the connection to mcplocal was cut"))?)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn action(name: &str, action: &str, done: &str) -> Outcome {
    let agent = agent()?;
    anstream::eprintln!("{action}ing `{name}`…");
    agent.engine_action(name, action).await.map_err(not_running)?;
    anstream::println!("{name} {done}");
    Ok(ExitCode::SUCCESS)
}

fn not_running(error: mcpctl_client::ClientError) -> Failure {
    match error {
        mcpctl_client::ClientError::Unreachable { server, reason } => {
            Failure::new(format!("mcplocal does not answer at {server}: {reason}"))
                .hint("start it with `mcplocal`; MCPLOCAL_ADDRESS says where it is, if not at 127.0.0.1:3200")
        }
        error => error.into(),
    }
}

/// Whether an agent answers; quick either way.
pub async fn is_running() -> Option<url::Url> {
    let address = agent_address().ok()?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(std::time::Duration::from_millis(300))
        .timeout(std::time::Duration::from_secs(1))
        .build()
        .ok()?;
    let answer = http.get(address.join("healthz").ok()?).send().await.ok()?;
    answer.status().is_success().then_some(address)
}
