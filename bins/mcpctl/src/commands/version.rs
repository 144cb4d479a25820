//! `mcpctl version`.

use std::process::ExitCode;

use mcpctl_client::{Client, Options};
use serde_json::Value;

use crate::{
    Outcome,
    context::{self, Global},
};

/// Prints the versions of client, server and agent, as far as they answer.
pub async fn run(global: &Global) -> Outcome {
    anstream::println!("mcpctl    {}", env!("CARGO_PKG_VERSION"));
    if let Ok((server, _)) = global.identity() {
        let client = Client::new(server.clone(), None, &Options::default())?;
        let version = client.openapi().await.ok().and_then(|document| text(&document, "/info/version"));
        anstream::println!("mcpd      {} ({server})", version.as_deref().unwrap_or("does not answer"));
    }
    if let Ok(agent) = context::agent() {
        let version = agent.local_status().await.ok().and_then(|status| text(&status, "/version"));
        anstream::println!("mcplocal  {}", version.as_deref().unwrap_or("does not run"));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}
