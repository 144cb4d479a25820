//! `mcpctl doctor`: what works on this machine, and what to do about what does not.

use std::process::ExitCode;

use mcpctl_client::{Client, Options};
use owo_colors::OwoColorize as _;

use super::local;
use crate::{Outcome, context::Global, context::agent, failure::Failure};

/// Looks at everything in turn; exit code 1 where something does not work.
pub async fn run(global: &Global) -> Outcome {
    let mut well = true;
    let mut say = |what: &str, found: Result<String, Failure>| match found {
        Ok(text) => anstream::println!("{} {what}: {text}", "ok  ".green()),
        Err(failure) => {
            well = false;
            anstream::println!("{} {what}: {}", "FAIL".red(), failure.in_one_line());
        }
    };
    say(
        "contexts",
        global.config().map(|(path, config)| format!("{} in {}", config.contexts.len(), path.display())),
    );
    match global.identity() {
        Err(failure) => say("server", Err(failure)),
        Ok((server, bearer)) => {
            let client = Client::new(server.clone(), None, &Options::default())?;
            say("server", client.openapi().await.map(|_| server.to_string()).map_err(Failure::from));
            let signed_in = async {
                if bearer.is_none() {
                    return Err(Failure::new("nobody is signed in").hint(format!("mcpctl login {server}")));
                }
                let me = Client::new(server.clone(), bearer, &Options::default())?.whoami().await?;
                Ok(me.subject.to_string())
            };
            say("signed in", signed_in.await);
        }
    }
    match local::is_running().await {
        None => say("mcplocal", Err(Failure::new("does not run").hint("start it with `mcplocal`"))),
        Some(address) => {
            let status = async { Ok(agent()?.local_status().await?) };
            let count = |status: &serde_json::Value| {
                status.get("providers").and_then(|p| p.as_array()).map_or(0, Vec::len)
            };
            say("mcplocal", status.await.map(|s| format!("{address}, {} local providers", count(&s))));
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
