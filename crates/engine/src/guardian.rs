//! The process between the agent and its engine, which outlives the agent by just as long as it takes to end the
//! engine.
//!
//! It is the agent's own program under another first argument. It starts the engine in a process group of its own, and
//! holds a pipe from the agent as its standard input: when that closes, for whatever reason, SIGKILL included, the
//! engine's group is ended. No signal handler and no unsafe code is needed for that.
//!
//! It tells the agent on standard output: `started PID`, then `exited HOW`. What the engine writes goes to standard
//! error.

use std::{
    ffi::OsString,
    io::{BufRead as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::group;

/// Patience with an engine that is asked to end: after the first SIGTERM, and after the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
/// The same once the agent is gone and nobody waits any more.
const ORPHANED: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(2)];
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the agent says to stop the engine.
pub(crate) const STOP: &str = "stop";

enum News {
    Stop,
    AgentGone,
    Exited(std::io::Result<ExitStatus>),
}

/// Runs `program args…` until it ends, is told to end it, or the agent is gone.
pub fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let Some((program, args)) = words.split_first() else { return ExitCode::from(2) };
    let engine = std::io::stderr().as_fd().try_clone_to_owned().and_then(|output| {
        Command::new(program)
            .args(args)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::from(output))
            .stderr(Stdio::inherit())
            .spawn()
    });
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => {
            tell(&format!("failed {error}"));
            return ExitCode::FAILURE;
        }
    };
    let group = engine.id();
    tell(&format!("started {group}"));
    let how = watch(engine, group);
    tell(&format!("exited {how}"));
    ExitCode::SUCCESS
}

fn watch(mut engine: Child, group: u32) -> String {
    let (news, told) = mpsc::channel();
    let exits = news.clone();
    std::thread::spawn(move || {
        // Reaps the leader as soon as it ends, so that it does not look alive.
        let _ = exits.send(News::Exited(engine.wait()));
    });
    std::thread::spawn(move || listen(&news));
    let mut ladder = Ladder::default();
    let mut how = None;
    loop {
        let wait = if ladder.is_climbing() || how.is_some() { LOOK_EVERY } else { Duration::from_secs(3600) };
        match told.recv_timeout(wait) {
            Ok(News::Stop) => ladder.begin(group, PATIENCE),
            Ok(News::AgentGone) => ladder.begin(group, ORPHANED),
            Ok(News::Exited(status)) => {
                how = Some(describe(status));
                // Whoever the leader left behind is not needed any more.
                ladder.begin(group, ORPHANED);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => ladder.begin(group, ORPHANED),
        }
        match &how {
            Some(how) if !group::is_alive(group) => return how.clone(),
            _ => ladder.climb(group),
        }
    }
}

/// SIGTERM, patience, SIGTERM again, patience, SIGKILL. Twice, because vLLM loses the first one while it imports.
#[derive(Default)]
struct Ladder {
    steps: Option<(Instant, [Duration; 2], usize)>,
}

impl Ladder {
    fn is_climbing(&self) -> bool {
        self.steps.is_some()
    }

    /// Less patience than before shortens the climb; it never begins anew.
    fn begin(&mut self, group: u32, patience: [Duration; 2]) {
        match &mut self.steps {
            None => {
                group::signal(group, Signal::SIGTERM);
                self.steps = Some((Instant::now(), patience, 0));
            }
            Some((_, old, _)) => *old = patience,
        }
    }

    fn climb(&mut self, group: u32) {
        let Some((since, patience, step)) = &mut self.steps else { return };
        match patience.get(*step) {
            Some(limit) if since.elapsed() < *limit => {}
            Some(_) => {
                *step += 1;
                *since = Instant::now();
                let next = if *step < patience.len() { Signal::SIGTERM } else { Signal::SIGKILL };
                group::signal(group, next);
            }
            None => group::signal(group, Signal::SIGKILL),
        }
    }
}

/// What the agent says, until it is gone.
fn listen(news: &mpsc::Sender<News>) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line == STOP => {
                let _ = news.send(News::Stop);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = news.send(News::AgentGone);
}

fn tell(what: &str) {
    // The agent may be gone; then nobody needs to know.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => error.to_string(),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "in an unknown way".to_owned(),
        },
    }
}
