//! `mcpctl local doctor`: what the agent finds when it looks at itself, and whether it runs. It looks even where it cannot
//! start, so it is the program that is asked, and not the daemon.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::service;
use crate::{
    Outcome, agent,
    failure::Failure,
    output::{Shape, Tone, one_line},
};

/// What to look at.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the agent [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// table, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, Deserialize)]
struct Finding {
    what: String,
    state: State,
    said: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failed,
}

/// Looks; exit code 1 where something does not work.
pub async fn run(args: Args) -> Outcome {
    let mut findings = vec![agent_runs().await, as_a_service().await];
    findings.extend(ask(&agent::program()?, args.config.as_deref()).await?);
    let well = findings.iter().all(|finding| finding.state != State::Failed);
    if !args.output.print(&findings)? {
        findings.iter().try_for_each(say)?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(finding: &Finding) -> Result<(), Failure> {
    let (tone, word) = match finding.state {
        State::Ok => (Tone::Good, "ok  "),
        State::Warning => (Tone::Warning, "warn"),
        State::Failed => (Tone::Bad, "FAIL"),
    };
    data!(tone, word; " {}: {}", one_line(&finding.what), one_line(&finding.said))?;
    match &finding.hint {
        Some(hint) => data!(Tone::Hint, "     hint:"; " {}", one_line(hint)),
        None => Ok(()),
    }
}

/// What the agent finds wrong with itself: what, and why.
pub async fn failures(program: &Path) -> Result<Vec<(String, Failure)>, Failure> {
    let findings = ask(program, None).await?.into_iter().filter(|finding| finding.state == State::Failed);
    let failure = |finding: Finding| {
        let failure = Failure::new(&finding.said);
        (finding.what, finding.hint.map_or(Failure::new(&finding.said), |hint| failure.hint(hint)))
    };
    Ok(findings.map(failure).collect())
}

/// An agent that does not run is no fault of what is looked at here.
async fn agent_runs() -> Finding {
    let what = "mcplocal".to_owned();
    match agent::find().await {
        Ok(agent) => {
            let version =
                agent.status.get("version").and_then(|version| version.as_str()).unwrap_or_default();
            Finding { what, state: State::Ok, said: format!("{version} runs"), hint: None }
        }
        Err(failure) => Finding { what, state: State::Warning, said: failure.in_one_line(), hint: None },
    }
}

async fn as_a_service() -> Finding {
    let (state, said, hint) = match service::runs().await {
        Some(true) => (State::Ok, "installed, and runs", None),
        Some(false) => (State::Warning, "installed, and does not run", Some("mcpctl local install")),
        None => {
            (State::Ok, "not installed", Some("`mcpctl local install` lets mcplocal start with every login"))
        }
    };
    Finding { what: "service".to_owned(), state, said: said.to_owned(), hint: hint.map(str::to_owned) }
}

async fn ask(program: &Path, config: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let mut command = Command::new(program);
    command.arg("--doctor").stdin(Stdio::null());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let shown = program.display();
    let output = command.output().await.map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("`{shown} --doctor` failed: {}", said.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| {
        Failure::new(format!("`{shown}` is of another version")).hint("install mcplocal and mcpctl together")
    })
}
