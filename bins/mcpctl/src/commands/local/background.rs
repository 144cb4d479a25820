//! `mcpctl local up` and `down`: the agent in the background, without a service manager. Both are idempotent.

use std::{
    fs::TryLockError,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use mcpctl_api::{
    HintedError,
    agent::{AgentStatus, ProofState},
};
use mcpctl_owner::{
    dir,
    file::{self, OpenMode},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::service;
use crate::{
    Outcome,
    agent::{self, Agent},
    failure::Failure,
    output::one_line,
};

/// Name of the log in the agent's state directory.
const LOG: &str = "mcplocal.log";
/// How long the agent may take to respond; it starts no model server before.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the agent may take to end: half a minute for running requests, then its model servers.
const END_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the check of the configuration may take: it asks mcpd for the names of Llms, for 3 s at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of warnings that are shown; `mcpctl local doctor` shows all.
const MAX_WARNINGS: usize = 16;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum length of the agent's output that is read after it ended, in bytes.
const MAX_OUTPUT_BYTES: u64 = 4096;

/// How to start it.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the agent [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, env = "MCPLOCAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Starts the agent where none runs.
pub async fn up(args: Args) -> Outcome {
    if let Ok(agent) = agent::find().await {
        data!("mcplocal runs already{}, on {}", started_by(&agent).await, listen(&agent))?;
        if let Some(config) = &args.config {
            note!(
                "it goes on with the file that it was started with; where that is not `{}`: mcpctl local down, then this again",
                one_line(&config.display().to_string())
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    if service::runs().await.is_some() {
        return Err(Failure::new("mcplocal is installed as a service, which is not running")
            .hint("start it with `mcpctl local install`, or remove it with `mcpctl local uninstall`"));
    }
    let state_dir = dir::ensure_private(&agent::state_dir()?)?;
    let log = state_dir.join(LOG);
    // An error before the agent opens its log is written there too.
    let errors = file::open_own(&log, OpenMode::Append)?;
    let before = errors.metadata()?.len();
    let mut command = Command::new(agent::program()?);
    command.arg("serve").arg("--state-dir").arg(&state_dir).arg("--background").arg(&log);
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let mut child = command.spawn()?;
    let check = tokio::spawn(check(args.config));
    let agent = wait_until_running(&mut child, &log, before).await?;
    data!("mcplocal listens on {}", listen(&agent))?;
    let found = check.await.ok().and_then(Result::ok).unwrap_or_default();
    for (warning, hint) in warnings(&found).chain(agent_warnings(&agent.status)) {
        note!("warning: {warning}");
        if let Some(hint) = hint {
            note!("hint: {hint}");
        }
    }
    note!("its log: {}", log.display());
    note!("clients: eval \"$(mcpctl local env)\"; stop it with `mcpctl local down`");
    Ok(ExitCode::SUCCESS)
}

/// What `mcplocal --check` prints: what the configuration names and is not there.
async fn check(config: Option<PathBuf>) -> Result<String, Failure> {
    let mut command = Command::new(agent::program()?);
    command.arg("--check").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(config) = &config {
        command.arg("--config").arg(config);
    }
    let output = tokio::time::timeout(CHECK_TIMEOUT, command.output()).await.map_err(Failure::new)??;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The warnings in the output of `mcplocal --check`, each with its hint.
fn warnings(text: &str) -> impl Iterator<Item = (String, Option<String>)> {
    // A warning begins a line, and its hint is the next one.
    let warnings = text.split("warning: ").skip(1).take(MAX_WARNINGS);
    warnings.map(|warning| {
        let HintedError { message, hint } = HintedError::parse(warning);
        (one_line(&message), hint.as_deref().map(one_line))
    })
}

/// The warnings of an agent that runs.
fn agent_warnings(status: &AgentStatus) -> impl Iterator<Item = (String, Option<String>)> {
    let proof = (status.proof.state != ProofState::Pinned).then(|| {
        let hint = status.proof.hint.as_deref().map(one_line);
        (format!("probe: {}", one_line(&status.proof.describe(&status.server))), hint)
    });
    let journal = status.journal.as_deref().map(|problem| {
        (format!("nothing runs locally: the journal cannot be written: {}", one_line(problem)), None)
    });
    proof.into_iter().chain(journal)
}

/// Waits until the agent responds.
async fn wait_until_running(child: &mut Child, log: &Path, before: u64) -> Result<Agent, Failure> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            // Another one was started at the same time, and was first.
            if let Ok(agent) = agent::find().await {
                return Ok(agent);
            }
            return Err(startup_error(log, before, status));
        }
        if let Ok(agent) = agent::find().await {
            return Ok(agent);
        }
        if begun.elapsed() > START_TIMEOUT {
            let _ = child.start_kill();
            let message = format!("mcplocal did not answer within {} s", START_TIMEOUT.as_secs());
            return Err(Failure::new(message).hint(format!("its log is `{}`", log.display())));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The agent's own error, which is the last line of its output.
fn startup_error(log: &Path, before: u64, status: std::process::ExitStatus) -> Failure {
    let text = written_since(log, before).unwrap_or_default();
    let Some((_, error)) = text.rsplit_once("error: ") else {
        return Failure::new(format!("mcplocal ended as it started ({status})"))
            .hint(format!("its log is `{}`", log.display()));
    };
    let HintedError { message, hint } = HintedError::parse(error);
    let hint = hint.as_deref().unwrap_or("mcpctl local doctor");
    Failure::new(one_line(&message)).hint(one_line(hint))
}

fn written_since(log: &Path, before: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(before.max(length.saturating_sub(MAX_OUTPUT_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn listen(agent: &Agent) -> String {
    one_line(&agent.status.listen)
}

async fn started_by(agent: &Agent) -> &'static str {
    match (service::runs().await, agent.record()) {
        (Some(true), _) => " as a service",
        (_, Some(record)) if record.background => " in the background",
        _ => "",
    }
}

/// Stops the agent that [`up`] started, and waits until it has ended.
pub async fn down() -> Outcome {
    let agent = match agent::find().await {
        Ok(agent) => agent,
        Err(failure) => {
            // An agent that hangs or is ending still runs.
            if is_held(&agent::state_dir()?)? {
                return Err(failure.hint("a process holds its lock: it is ending, or hangs"));
            }
            data!("mcplocal does not run")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if service::runs().await == Some(true) {
        return Err(Failure::new("mcplocal runs as a service").hint(service::STOP));
    }
    let record = agent.record().ok_or_else(|| {
        Failure::new("the running mcplocal is of another version").hint("end it where it was started")
    })?;
    if !record.background {
        return Err(Failure::new(format!(
            "mcplocal (pid {}) was not started by `mcpctl local up`",
            record.pid
        ))
        .hint("end it where it was started, with Ctrl-C or SIGTERM"));
    }
    let pid = Pid::from_raw(i32::try_from(record.pid).map_err(Failure::new)?);
    note!("stopping mcplocal: running requests end first…");
    kill(pid, Signal::SIGTERM)
        .map_err(|error| Failure::new(format!("mcplocal cannot be stopped: {error}")))?;
    let begun = Instant::now();
    while is_held(&agent::state_dir()?)? {
        if begun.elapsed() > END_TIMEOUT {
            return Err(Failure::new(format!("mcplocal (pid {pid}) has not ended yet"))
                .hint("run `mcpctl local down` again, or end it with `kill -9`"));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    data!("mcplocal is stopped")?;
    Ok(ExitCode::SUCCESS)
}

/// Whether an agent with this state directory runs: it holds the lock until it has ended.
fn is_held(state_dir: &Path) -> Result<bool, Failure> {
    if dir::check_private(state_dir)?.is_none() {
        return Ok(false);
    }
    match file::open_own(&state_dir.join("lock"), OpenMode::ReadWrite)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
