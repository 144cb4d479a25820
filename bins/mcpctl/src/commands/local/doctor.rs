//! `mcpctl local doctor`: the checks of the agent, and whether it runs. The program `mcplocal --doctor` does the checks and not
//! the daemon, so that they work where the daemon cannot start.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use mcpctl_api::agent::{AgentStatus, Finding, FindingState, FollowState, ProviderStatus};
use tokio::process::Command;

use super::{service, status};
use crate::{
    Outcome, agent,
    failure::Failure,
    output::{self, Shape, Tone},
};

/// What to check, and how to show it.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the agent [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// table, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

/// Runs all checks; exit code 1 where one failed.
pub async fn run(args: Args) -> Outcome {
    let agent = agent::find().await;
    let mut findings = vec![agent_runs(agent.as_ref())];
    findings.extend(agent.iter().map(|agent| feed(&agent.status)));
    findings.push(as_a_service().await);
    let checked = check(&agent::program()?, args.config.as_deref()).await?;
    // The running agent has asked the servers of engines, which the checks do not start; its file may be another one.
    let known = agent.iter().filter(|_| args.config.is_none()).flat_map(|agent| tools(&agent.status));
    findings.extend(with_known(checked, known.collect()));
    findings.extend(agent.iter().flat_map(|agent| journal(&agent.status)));
    let well = findings.iter().all(|finding| finding.state != FindingState::Failed);
    if !args.output.print(&findings)? {
        findings.iter().try_for_each(print)?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(finding: &Finding) -> Result<(), Failure> {
    let (tone, word) = match finding.state {
        FindingState::Ok => (Tone::Good, "ok  "),
        FindingState::Warning => (Tone::Warning, "warn"),
        FindingState::Failed => (Tone::Bad, "FAIL"),
    };
    output::finding::found(tone, word, &finding.what, &finding.message)?;
    finding.hint.iter().try_for_each(|hint| output::finding::hint(hint))
}

/// The failed checks of the agent: what was checked, and the failure.
pub async fn failures(program: &Path) -> Result<Vec<(String, Failure)>, Failure> {
    let findings =
        check(program, None).await?.into_iter().filter(|finding| finding.state == FindingState::Failed);
    let failure = |finding: Finding| {
        let failure = Failure::new(&finding.message);
        let failure = match finding.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
        (finding.what, failure)
    };
    Ok(findings.map(failure).collect())
}

/// Whether the agent runs; only a warning where it does not.
fn agent_runs(agent: Result<&agent::Agent, &Failure>) -> Finding {
    let what = "mcplocal";
    match agent {
        Ok(agent) => Finding::new(what, FindingState::Ok, format!("{} runs", agent.status.version)),
        Err(failure) => Finding::new(what, FindingState::Warning, failure.in_one_line()),
    }
}

/// What only the running agent knows of its journal: that the file is another one, and why lines wait.
fn journal(status: &AgentStatus) -> impl Iterator<Item = Finding> {
    let unusable = status.journal.as_ref().map(|problem| {
        let message = format!("nothing runs locally, the agent cannot write it: {problem}");
        Finding::new("journal", FindingState::Failed, message).hint(status.journal_hint.clone())
    });
    let waiting = status.journal_backlog.as_ref().and_then(|backlog| {
        let message = format!("lines that wait for mcpd: {}: {}", backlog.lines, backlog.reason.as_ref()?);
        Some(Finding::new("journal", FindingState::Warning, message))
    });
    unusable.into_iter().chain(waiting)
}

/// Whether the agent learns at once that the signed-in user has lost access.
fn feed(agent: &AgentStatus) -> Finding {
    let (state, hint) = match agent.feed.state {
        FollowState::Off | FollowState::Connecting | FollowState::Following => (FindingState::Ok, None),
        FollowState::Interrupted => (FindingState::Warning, None),
        FollowState::Denied => (FindingState::Failed, Some(status::login_hint(agent))),
    };
    Finding::new("feed", state, status::feed(agent)).hint(hint)
}

/// Whether requests with tools fall back to each provider, as far as the running agent knows.
fn tools(status: &AgentStatus) -> impl Iterator<Item = Finding> {
    let known = |provider: &&ProviderStatus| {
        !provider.failover_for.is_empty() && provider.capabilities.tools.is_some()
    };
    let finding = |provider: &ProviderStatus| {
        Finding::tools(&provider.name, &provider.capabilities, provider.without_tools.clone())
    };
    status.providers.iter().filter(known).map(finding)
}

/// The findings, with what the agent knows in place of those about the same.
fn with_known(findings: Vec<Finding>, known: Vec<Finding>) -> impl Iterator<Item = Finding> {
    let newer = move |finding: Finding| {
        known.iter().find(|known| known.what == finding.what).cloned().unwrap_or(finding)
    };
    findings.into_iter().map(newer)
}

async fn as_a_service() -> Finding {
    let (state, message, hint) = match service::runs().await {
        Some(true) => (FindingState::Ok, "installed, and runs", None),
        Some(false) => (FindingState::Warning, "installed, and does not run", Some("mcpctl local install")),
        None => (
            FindingState::Ok,
            "not installed",
            Some("`mcpctl local install` lets mcplocal start with every login"),
        ),
    };
    Finding::new("service", state, message).hint(hint.map(str::to_owned))
}

async fn check(program: &Path, config: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let mut command = Command::new(program);
    command.arg("--doctor").stdin(Stdio::null());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let shown = program.display();
    let output = command.output().await.map_err(|error| Failure::new(format!("`{shown}`: {error}")))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("`{shown} --doctor` failed: {}", error.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| {
        Failure::new(format!("`{shown}` is of another version")).hint("install mcplocal and mcpctl together")
    })
}
