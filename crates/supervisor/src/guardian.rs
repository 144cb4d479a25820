//! The process between the agent and the program that it supervises. It outlives the agent for as long as it takes to
//! end the program.
//!
//! It is the agent's own executable, run with [`ARGUMENT`] first. It starts the program in a process group of its own,
//! and its standard input is a pipe from the agent. When the pipe closes, for whatever reason, SIGKILL of the agent
//! included, it ends the program's group and every process that left the group but carries the start's mark in its
//! environment. That needs no signal handler and no unsafe code.
//!
//! Its arguments are `MARK PROGRAM ARGS…`. On standard output it reports `started PID` or `failed REASON`, then
//! `exited HOW` as soon as the program's first process has ended; it exits when no process of the program is left. The
//! program's output goes to the guardian's standard error.

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
    Residue, process_group,
    record::{MARK_VARIABLE, environment_entry},
};

/// How long to wait after the first SIGTERM, and after the second.
const TERM_TIMEOUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
/// The same when the agent is gone or the program has ended: no request is served any more.
const ORPHAN_TERM_TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(2)];
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for an event while nothing is to be stopped; any time would do.
const IDLE_INTERVAL: Duration = Duration::from_secs(3600);

/// The first argument that makes the agent's executable a guardian.
pub const ARGUMENT: &str = "engine-guardian";
/// The line by which the agent stops the program.
pub(crate) const STOP: &str = "stop";

enum GuardianEvent {
    Stop,
    AgentGone,
    Exited(std::io::Result<ExitStatus>),
}

/// Runs a program until it has ended, the agent stops it, or the agent is gone. `arguments` are those that follow
/// [`ARGUMENT`] on the command line; a binary's `main` calls this first. `R` removes what killed processes leave behind.
pub fn run<R: Residue>(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let [mark, program, args @ ..] = arguments.as_slice() else {
        return ExitCode::from(2);
    };
    let child = std::io::stderr().as_fd().try_clone_to_owned().and_then(|output| {
        Command::new(program)
            .args(args)
            .env(MARK_VARIABLE, mark)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::from(output))
            .stderr(Stdio::inherit())
            .spawn()
    });
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            report(&format!("failed {error}"));
            return ExitCode::FAILURE;
        }
    };
    // A signal to all processes of the agent's name is meant for the agent, which drains first; the guardian ends when
    // the pipe closes. Blocked after the spawn, because the program would inherit the mask.
    let mut blocked = SigSet::empty();
    blocked.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT]);
    let _ = blocked.thread_block();
    let tree = ProcessTree { group: child.id(), entry: environment_entry(&mark.to_string_lossy()) };
    report(&format!("started {}", tree.group));
    supervise::<R>(child, &tree);
    ExitCode::SUCCESS
}

/// The program and every process that it started.
struct ProcessTree {
    group: u32,
    entry: String,
}

impl ProcessTree {
    fn is_alive(&self) -> bool {
        process_group::is_alive(self.group) || !process_group::strays(self.group, &self.entry).is_empty()
    }

    /// Records the residue first: it cannot be seen of a killed process.
    fn signal(&self, signal: Signal, residue: &mut impl Residue) {
        residue.record(&process_group::members_and_strays(self.group, &self.entry));
        process_group::signal(self.group, signal);
        process_group::signal_each(&process_group::strays(self.group, &self.entry), signal);
    }
}

fn supervise<R: Residue>(mut child: Child, tree: &ProcessTree) {
    let (events, received) = mpsc::channel();
    let exits = events.clone();
    std::thread::spawn(move || {
        // Reaps the leader as soon as it ends, so that it doesn't count as alive.
        let _ = exits.send(GuardianEvent::Exited(child.wait()));
    });
    std::thread::spawn(move || read_commands(&events));
    let mut stop = StopSequence { step: None, residue: R::default() };
    let mut exited = false;
    loop {
        let timeout = if stop.has_begun() { POLL_INTERVAL } else { IDLE_INTERVAL };
        match received.recv_timeout(timeout) {
            Ok(GuardianEvent::Stop) => stop.begin(tree, TERM_TIMEOUTS),
            Ok(GuardianEvent::AgentGone) => stop.begin(tree, ORPHAN_TERM_TIMEOUTS),
            Ok(GuardianEvent::Exited(status)) => {
                report(&format!("exited {}", describe(status)));
                exited = true;
                // The children that the leader left behind serve nothing any more.
                stop.begin(tree, ORPHAN_TERM_TIMEOUTS);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => stop.begin(tree, ORPHAN_TERM_TIMEOUTS),
        }
        if exited && !tree.is_alive() {
            stop.residue.remove();
            return;
        }
        stop.advance(tree);
    }
}

/// SIGTERM, a timeout, SIGTERM, a timeout, SIGKILL. Twice, because a Python program loses the first one while it
/// imports.
struct StopSequence<R> {
    step: Option<StopStep>,
    residue: R,
}

struct StopStep {
    since: Instant,
    timeouts: [Duration; 2],
    index: usize,
}

impl<R: Residue> StopSequence<R> {
    fn has_begun(&self) -> bool {
        self.step.is_some()
    }

    /// Sends the first signal. Called again with shorter timeouts it shortens the sequence; it never begins anew.
    fn begin(&mut self, tree: &ProcessTree, timeouts: [Duration; 2]) {
        match &mut self.step {
            None => {
                tree.signal(Signal::SIGTERM, &mut self.residue);
                self.step = Some(StopStep { since: Instant::now(), timeouts, index: 0 });
            }
            Some(step) => step.timeouts = step.timeouts.min(timeouts),
        }
    }

    /// Sends the next signal when its time has come.
    fn advance(&mut self, tree: &ProcessTree) {
        let Some(step) = &mut self.step else {
            return;
        };
        match step.timeouts.get(step.index) {
            Some(timeout) if step.since.elapsed() < *timeout => {}
            Some(_) => {
                step.index += 1;
                step.since = Instant::now();
                let signal = if step.index < step.timeouts.len() { Signal::SIGTERM } else { Signal::SIGKILL };
                tree.signal(signal, &mut self.residue);
            }
            None => tree.signal(Signal::SIGKILL, &mut self.residue),
        }
    }
}

/// Reads the agent's commands until the agent is gone.
fn read_commands(events: &mpsc::Sender<GuardianEvent>) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line == STOP => {
                let _ = events.send(GuardianEvent::Stop);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = events.send(GuardianEvent::AgentGone);
}

fn report(line: &str) {
    // When the agent is gone, the report has no reader.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
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
