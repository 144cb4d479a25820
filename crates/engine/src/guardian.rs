//! The process between the agent and its engine, which outlives the agent by just as long as it takes to end the
//! engine.
//!
//! It is the agent's own program under another first argument. It starts the engine in a process group of its own, and
//! holds a pipe from the agent as its standard input: when that closes, for whatever reason, SIGKILL included, the
//! engine's group is ended, and with it what left the group but carries the start's mark in its environment. No signal
//! handler and no unsafe code is needed for that.
//!
//! It is called with `MARK PROGRAM ARGS…` and tells the agent on standard output: `started PID`, then `exited HOW` as
//! soon as the engine has ended, and it ends itself when nothing of the engine is left. What the engine writes goes to
//! standard error.

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

use nix::sys::signal::{SigSet, Signal};

use crate::{
    group,
    record::{self, MARK},
    shared_memory::SharedMemory,
};

/// Patience with an engine that is asked to end: after the first SIGTERM, and after the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
/// The same once the agent is gone and nobody waits any more.
const ORPHANED: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(2)];
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The first argument that makes the program a guardian.
pub(crate) const WORD: &str = "engine-guardian";
/// What the agent says to stop the engine.
pub(crate) const STOP: &str = "stop";

enum News {
    Stop,
    AgentGone,
    Exited(std::io::Result<ExitStatus>),
}

/// Runs a program under guard until it ends, is told to end it, or the agent is gone. The words are those that follow
/// `engine-guardian` on the command line; a binary's main calls this first thing.
pub fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let [mark, program, args @ ..] = words.as_slice() else {
        return ExitCode::from(2);
    };
    let engine = std::io::stderr().as_fd().try_clone_to_owned().and_then(|output| {
        Command::new(program)
            .args(args)
            .env(MARK, mark)
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
    // Whoever ends the agent by its program's name means the agent, which drains first; this one goes when the pipe
    // closes. After the spawn, because the engine would inherit it and be deaf too.
    let mut deaf_to = SigSet::empty();
    deaf_to.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT]);
    let _ = deaf_to.thread_block();
    let family = Family { group: engine.id(), entry: record::entry(&mark.to_string_lossy()) };
    tell(&format!("started {}", family.group));
    watch(engine, &family);
    ExitCode::SUCCESS
}

/// The engine and all it started.
struct Family {
    group: u32,
    entry: String,
}

impl Family {
    fn is_alive(&self) -> bool {
        group::is_alive(self.group) || !group::strays(self.group, &self.entry).is_empty()
    }

    /// What they share is looked at before, because of who is killed it cannot be seen any more.
    fn signal(&self, signal: Signal, shared: &mut SharedMemory) {
        shared.see(&group::family(self.group, &self.entry));
        group::signal(self.group, signal);
        group::signal_each(&group::strays(self.group, &self.entry), signal);
    }
}

fn watch(mut engine: Child, family: &Family) {
    let (news, told) = mpsc::channel();
    let exits = news.clone();
    std::thread::spawn(move || {
        // Reaps the leader as soon as it ends, so that it does not look alive.
        let _ = exits.send(News::Exited(engine.wait()));
    });
    std::thread::spawn(move || listen(&news));
    let mut ladder = Ladder::default();
    let mut exited = false;
    loop {
        let wait = if ladder.is_climbing() { LOOK_EVERY } else { Duration::from_secs(3600) };
        match told.recv_timeout(wait) {
            Ok(News::Stop) => ladder.begin(family, PATIENCE),
            Ok(News::AgentGone) => ladder.begin(family, ORPHANED),
            Ok(News::Exited(status)) => {
                tell(&format!("exited {}", describe(status)));
                exited = true;
                // Whoever the leader left behind is not needed any more.
                ladder.begin(family, ORPHANED);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => ladder.begin(family, ORPHANED),
        }
        if exited && !family.is_alive() {
            ladder.shared.remove();
            return;
        }
        ladder.climb(family);
    }
}

/// SIGTERM, patience, SIGTERM again, patience, SIGKILL. Twice, because vLLM loses the first one while it imports.
#[derive(Default)]
struct Ladder {
    steps: Option<(Instant, [Duration; 2], usize)>,
    shared: SharedMemory,
}

impl Ladder {
    fn is_climbing(&self) -> bool {
        self.steps.is_some()
    }

    /// Less patience than before shortens the climb; it never begins anew.
    fn begin(&mut self, family: &Family, patience: [Duration; 2]) {
        match &mut self.steps {
            None => {
                family.signal(Signal::SIGTERM, &mut self.shared);
                self.steps = Some((Instant::now(), patience, 0));
            }
            Some((_, old, _)) => *old = (*old).min(patience),
        }
    }

    fn climb(&mut self, family: &Family) {
        let Some((since, patience, step)) = &mut self.steps else {
            return;
        };
        match patience.get(*step) {
            Some(limit) if since.elapsed() < *limit => {}
            Some(_) => {
                *step += 1;
                *since = Instant::now();
                let next = if *step < patience.len() { Signal::SIGTERM } else { Signal::SIGKILL };
                family.signal(next, &mut self.shared);
            }
            None => family.signal(Signal::SIGKILL, &mut self.shared),
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
