//! `mcpctl local status`: what the agent and its model servers are doing, once or as it goes on.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use mcpctl_client::config::Config;
use serde_json::Value;

use crate::{
    Outcome, agent, expiry,
    failure::Failure,
    output::{
        Shape, Tone, one_line,
        table::{Table, age},
    },
};

const EVERY: Duration = Duration::from_secs(1);

/// Shows it; with `watch` until it is ended.
pub async fn run(output: Shape, watch: bool) -> Outcome {
    let agent = agent::client()?;
    loop {
        let status = agent.local_status().await.map_err(agent::not_running)?;
        if watch && std::io::stdout().is_terminal() {
            // Home, and everything below away.
            write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
        }
        if !output.print(&status)? {
            table(&status)?;
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        if !std::io::stdout().is_terminal() {
            data!("")?;
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn table(status: &Value) -> Result<(), Failure> {
    let text = |pointer: &str| one_line(status.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    data!("mcplocal {} on {}", text("/version"), text("/listen"))?;
    data!("server:    {}", text("/server"))?;
    let user = status.get("signedInAs").and_then(Value::as_str);
    data!("signed in: {}", one_line(user.unwrap_or("nobody (mcpctl login)")))?;
    if let Some(warning) = expires(status) {
        data!(Tone::Warning, "warning:"; " {}", one_line(&warning))?;
    }
    data!("")?;
    let mut table = Table::new(&[
        "PROVIDER",
        "TYPE",
        "MODEL",
        "STANDS IN FOR",
        "STATE",
        "MEMORY",
        "RUNNING",
        "QUEUED",
        "TOKENS/S",
        "SINCE",
    ]);
    let providers = || status.get("providers").and_then(Value::as_array).into_iter().flatten();
    providers().for_each(|provider| table.row(row(provider)));
    table.print()?;
    for provider in providers().filter(|provider| provider.pointer("/unavailable/reason").is_some()) {
        let text =
            |pointer: &str| one_line(provider.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
        data!("\n`{}` is unavailable: {}", text("/name"), text("/unavailable/reason"))?;
        data!("hint: {}; no restart is needed", text("/unavailable/hint"))?;
    }
    for unknown in status.get("unknownLlms").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| one_line(unknown.get(key).and_then(Value::as_str).unwrap_or_default());
        data!("\n`{}`: {}\nhint: {}", text("provider"), text("reason"), text("hint"))?;
    }
    if let Some(problem) = status.get("journal").and_then(Value::as_str) {
        data!("\nnothing runs locally: the journal cannot be written: {}", one_line(problem))?;
    }
    // Too long for a column, and the beginning says little.
    for error in providers().filter_map(|provider| provider.pointer("/engine/lastError")?.as_str()) {
        data!("\nlast error: {}", one_line(error))?;
    }
    for breaker in status.get("breakers").and_then(Value::as_array).into_iter().flatten() {
        let llm = one_line(breaker.get("llm").and_then(Value::as_str).unwrap_or_default());
        data!("\nthe centre rests for `{llm}`: it failed several times in a row")?;
    }
    if let Some(last) = status.get("lastFailover").filter(|last| !last.is_null()) {
        let text = |key: &str| one_line(last.get(key).and_then(Value::as_str).unwrap_or("unknown"));
        let when = text("at").parse().map_or_else(|_| String::new(), |at| format!("{} ago", age(at)));
        data!(
            "\nlast failover: {when}, `{}` by `{}`: {} (primary: {})",
            text("llm"),
            text("provider"),
            text("outcome"),
            text("class")
        )?;
    }
    Ok(())
}

/// That the token of the signed-in user ends soon: the agent presents it.
fn expires(status: &Value) -> Option<String> {
    let server = status.get("server")?.as_str()?.parse().ok()?;
    let contexts = Config::load(&Config::default_path().ok()?).ok()?;
    expiry::warning(contexts.signed_in_at(&server)?)
}

fn row(provider: &Value) -> Vec<String> {
    let text =
        |pointer: &str| provider.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| provider.pointer(pointer).and_then(Value::as_u64);
    let count = |pointer: &str| number(pointer).map_or_else(String::new, |count| count.to_string());
    let names = provider.get("failoverFor").and_then(Value::as_array).into_iter().flatten();
    let stands_in = names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let engine = provider.get("engine").filter(|engine| !engine.is_null());
    // A path is told by its end.
    let model = text("/model").rsplit('/').next().unwrap_or_default().to_owned();
    vec![
        text("/name"),
        text("/type"),
        model,
        stands_in,
        match (provider.get("unavailable").is_some_and(|reason| !reason.is_null()), engine) {
            (true, _) => "unavailable".to_owned(),
            (false, Some(engine)) => agent::state_of(engine),
            (false, None) => "external".to_owned(),
        },
        number("/engine/residentBytes").map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
        count("/engine/inFlight"),
        count("/engine/queued"),
        provider
            .get("tokensPerSecond")
            .filter(|rate| rate.is_number())
            .map_or_else(String::new, Value::to_string),
        text("/engine/since").parse().map_or_else(|_| String::new(), age),
    ]
}
