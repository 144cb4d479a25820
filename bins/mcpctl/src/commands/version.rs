//! `mcpctl version`.

use std::process::ExitCode;

use mcpctl_client::Client;
use serde_json::Value;

use crate::{Outcome, agent, context::Global, output::one_line};

/// Prints the versions of client, server and agent, as far as they respond.
pub async fn run(global: &Global) -> Outcome {
    data!("mcpctl    {}", env!("CARGO_PKG_VERSION"))?;
    if let Ok(identity) = global.identity() {
        let server = &identity.server;
        let client = Client::new(server.clone(), None, &identity.options())?;
        let version = client.openapi().await.ok().and_then(|document| info_version(&document));
        data!(
            "mcpd      {} ({})",
            one_line(version.as_deref().unwrap_or("does not answer")),
            server.as_str().trim_end_matches('/')
        )?;
    }
    if agent::local_key().is_ok() {
        let version = agent::find().await.ok().map(|agent| agent.status.version);
        data!("mcplocal  {}", one_line(version.as_deref().unwrap_or("does not run")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn info_version(openapi: &Value) -> Option<String> {
    openapi.pointer("/info/version")?.as_str().map(str::to_owned)
}
