//! `mcpctl version`.

use std::process::ExitCode;

use mcpctl_client::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Outcome, agent,
    context::Global,
    output::{Shape, one_line},
};

/// Which versions, and how.
#[derive(clap::Args)]
pub struct Args {
    /// Only that of mcpctl, without a request
    #[arg(long)]
    client: bool,
    /// table, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

#[derive(Serialize)]
struct Versions {
    mcpctl: &'static str,
    /// Left out where no server is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcpd: Option<Mcpd>,
    /// Left out where this machine has no agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcplocal: Option<Mcplocal>,
}

#[derive(Serialize)]
struct Mcpd {
    server: String,
    /// Left out where it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

#[derive(Serialize)]
struct Mcplocal {
    /// Left out where it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// Prints the versions of client, server and agent, as far as they respond.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let mut versions = Versions { mcpctl: env!("CARGO_PKG_VERSION"), mcpd: None, mcplocal: None };
    if !args.client {
        if let Ok(identity) = global.identity() {
            let server = &identity.server;
            let client = Client::new(server.clone(), None, &identity.options())?;
            let version = client.openapi().await.ok().and_then(|document| info_version(&document));
            versions.mcpd = Some(Mcpd { server: server.as_str().trim_end_matches('/').to_owned(), version });
        }
        if agent::local_key().is_ok() {
            let version = agent::find().await.ok().map(|agent| agent.status.version);
            versions.mcplocal = Some(Mcplocal { version });
        }
    }
    if args.output.print(&versions)? {
        return Ok(ExitCode::SUCCESS);
    }
    data!("mcpctl    {}", versions.mcpctl)?;
    if let Some(Mcpd { server, version }) = &versions.mcpd {
        data!("mcpd      {} ({server})", one_line(version.as_deref().unwrap_or("does not answer")))?;
    }
    if let Some(Mcplocal { version }) = &versions.mcplocal {
        data!("mcplocal  {}", one_line(version.as_deref().unwrap_or("does not run")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn info_version(openapi: &Value) -> Option<String> {
    openapi.pointer("/info/version")?.as_str().map(str::to_owned)
}
