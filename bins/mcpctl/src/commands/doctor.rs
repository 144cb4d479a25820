//! `mcpctl doctor`: checks the way from this machine to mcpd and to the models, and this machine's own set-up, and gives the next
//! step for each failure.

mod report;
mod server;

use std::process::ExitCode;

use mcpctl_api::agent::{AgentStatus, FollowState, ProofState};
use mcpctl_client::config::{self, same_server};

use crate::{
    Outcome, agent,
    commands::local,
    context::{Global, Identity},
    failure::Failure,
    output::Shape,
};
use report::Report;

/// What to check, and how to show it.
#[derive(clap::Args)]
pub struct Args {
    /// Also test the way from mcpd to this Llm's model, which takes a small request that you pay for; can be repeated
    #[arg(long, value_name = "NAME")]
    llm: Vec<String>,
    /// table, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

/// Runs all checks; exit code 1 where one failed.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let mut report = Report::new(args.output);
    match global.config() {
        Ok((path, config)) => {
            report.ok("contexts", format!("{} in {}", config.contexts.len(), path.display()))?;
            match global.identity() {
                Ok(identity) => {
                    context(&mut report, &identity)?;
                    server::check(&mut report, &identity, &args.llm).await?;
                }
                Err(failure) => report.fail("server", &failure)?,
            }
        }
        // Without the file no server is known, and further checks would repeat the same failure.
        Err(failure) => report.fail("contexts", &failure)?,
    }
    this_machine(&mut report, global).await?;
    Ok(if report.end()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which server is checked, and why that one.
fn context(report: &mut Report, identity: &Identity) -> Result<(), Failure> {
    let at = identity.server.as_str().trim_end_matches('/');
    match &identity.context {
        Some(context) => report.ok("context", format!("{}, of {at}", context.name)),
        None => report.ok("context", format!("none with a credential for {at}")),
    }
}

/// The agent and what it needs, where this machine has one.
async fn this_machine(report: &mut Report, global: &Global) -> Result<(), Failure> {
    let agents = match agent::find().await {
        Ok(agent) => {
            let server = agent.status.server.as_str().trim_end_matches('/').to_owned();
            report.ok(
                "mcplocal",
                format!("forwards to {server}, local providers: {}", agent.status.providers.len()),
            )?;
            Some((server, agent.status))
        }
        Err(_) if !agent::is_expected() => {
            report.ok(
                "mcplocal",
                "not set up on this machine: only clients that fall back to local models need it",
            )?;
            None
        }
        Err(failure) => {
            report.fail("mcplocal", &failure)?;
            None
        }
    };
    let agent_runs = agents.is_some();
    if let Some((server, status)) = agents {
        probe(report, &status)?;
        feed(report, &status)?;
        compare(report, global, &server)?;
    }
    configuration(report, agent_runs).await
}

/// Warns where the agent forwards to another server than that of the chosen context.
fn compare(report: &mut Report, global: &Global, theirs: &str) -> Result<(), Failure> {
    let (Ok(identity), Ok(agents)) = (global.identity(), theirs.parse()) else { return Ok(()) };
    if same_server(&identity.server, &agents) {
        return Ok(());
    }
    let ours = identity.server.as_str().trim_end_matches('/');
    let text = format!(
        "the context is of {ours} and mcplocal forwards to {theirs}: `mcpctl config use-context`, or `server` in mcplocal.yaml"
    );
    report.warn("context", &text, None)
}

/// Reports how far the agent verifies mcpd's answers.
fn probe(report: &mut Report, status: &AgentStatus) -> Result<(), Failure> {
    let (proof, text) = (&status.proof, status.proof.describe(&status.server));
    let hint = proof.hint.clone().unwrap_or_default();
    if let Some(unverified) = &proof.unverified {
        let failure = Failure::new(&unverified.reason);
        let failure = if hint.is_empty() { failure } else { failure.hint(hint) };
        return report.fail("probe", &failure);
    }
    match proof.state {
        ProofState::Pinned => report.ok("probe", text),
        ProofState::Unpinned => report.warn("probe", &format!("{text}; pin it: {hint}"), None),
        ProofState::Unreadable => report.fail("probe", &Failure::new(text).hint(hint)),
    }
}

/// Reports whether the agent learns at once that access has ended.
fn feed(report: &mut Report, status: &AgentStatus) -> Result<(), Failure> {
    let text = local::status::feed(status);
    match status.feed.state {
        FollowState::Off | FollowState::Connecting | FollowState::Following => report.ok("feed", text),
        FollowState::Interrupted => report.warn("feed", &text, None),
        FollowState::Denied => {
            report.fail("feed", &Failure::new(text).hint(local::status::login_hint(status)))
        }
    }
}

/// Reports the failures of mcplocal.yaml and of the model servers that it names, where there is one.
async fn configuration(report: &mut Report, agent_runs: bool) -> Result<(), Failure> {
    let file = config::config_dir()?.join("mcplocal.yaml");
    let Ok(program) = agent::program() else { return Ok(()) };
    if !file.exists() {
        return Ok(());
    }
    match local::doctor::failures(&program).await {
        // The probe of an agent that runs is reported already.
        Ok(failures) => failures
            .into_iter()
            .filter(|(what, _)| !(agent_runs && what == "probe"))
            .try_for_each(|(what, failure)| report.fail(&what, &failure)),
        Err(failure) => report.fail("mcplocal.yaml", &failure),
    }
}
