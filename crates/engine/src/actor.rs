//! The one owner of an engine: performs what `state` decides, and tells it what happened. Everybody else sends it
//! commands, so nobody acts on a look at a state that has changed since: an idle stop and a new request cannot cross,
//! because both are this task's next step.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    endpoint::Endpoint,
    error::EngineError,
    guard::{Answer, Command, EngineGuard},
    process::Process,
    start::{Failed, Line, Live, Starter, TAIL},
    state::{Effect, Event, Machine, Patience, State, WaiterId},
    status::{EngineState, EngineStatus, Phase},
};

/// After so long in the state ready, an engine that ends by itself is not in a crash loop.
const PROVEN: std::time::Duration = std::time::Duration::from_secs(60);

/// What the actor's own tasks report.
enum Report {
    Progress { start: u32, phase: Phase, pid: Option<u32>, port: Option<u16> },
    Start(Result<Live, Failed>),
    Exited { start: u32, how: String },
    Ended,
}

/// The process there is: at most one.
struct Running {
    process: Box<Process>,
    endpoint: Option<Arc<Endpoint>>,
}

pub(crate) struct Actor {
    starter: Arc<Starter>,
    machine: Machine,
    status: watch::Sender<EngineStatus>,
    /// Weak, so that the actor ends when nobody holds the engine any more.
    commands: mpsc::WeakUnboundedSender<Command>,
    report: mpsc::UnboundedSender<Report>,
    answers: HashMap<WaiterId, Answer>,
    stops: Vec<oneshot::Sender<()>>,
    cancel: watch::Sender<bool>,
    running: Option<Running>,
}

impl Actor {
    /// Runs until the engine is stopped for good, or nobody holds it any more. The status is kept in `status`.
    pub(crate) async fn run(
        starter: Starter,
        status: watch::Sender<EngineStatus>,
        commands: mpsc::WeakUnboundedSender<Command>,
        mut received: mpsc::UnboundedReceiver<Command>,
    ) {
        let patience = Patience {
            idle: starter.spec.idle_timeout,
            drain: starter.options.drain_timeout,
            unwanted: starter.options.abandon_after,
            proven: PROVEN,
        };
        let (report, mut reports) = mpsc::unbounded_channel();
        let mut actor = Self {
            machine: Machine::new(starter.spec.name.clone(), patience),
            starter: Arc::new(starter),
            status,
            commands,
            report,
            answers: HashMap::new(),
            stops: Vec::new(),
            cancel: watch::Sender::new(false),
            running: None,
        };
        let mut held = true;
        while !actor.machine.is_over() {
            let deadline = actor.machine.deadline();
            let tick = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                // A request that is there goes before the timer, so that the engine is not stopped in its face.
                biased;
                Some(report) = reports.recv() => actor.heard(report),
                command = received.recv(), if held => match command {
                    Some(command) => Some(actor.asked(command)),
                    None => {
                        held = false;
                        Some(Event::Stop { for_good: true })
                    }
                },
                () = tick => Some(Event::Tick),
            };
            if let Some(event) = event {
                actor.step(event);
            }
        }
    }

    fn asked(&mut self, command: Command) -> Event {
        match command {
            Command::Ask { id, answer } => {
                self.answers.insert(id, answer);
                Event::Ask(id)
            }
            Command::Left { id } => {
                self.answers.remove(&id);
                Event::Left(id)
            }
            Command::Released { start } => Event::Released { start },
            Command::Stop { done, for_good } => {
                self.stops.push(done);
                Event::Stop { for_good }
            }
        }
    }

    fn heard(&mut self, report: Report) -> Option<Event> {
        let name = || self.starter.spec.name.clone();
        match report {
            Report::Progress { start, phase, pid, port } => {
                let current = start == self.machine.starts();
                if current && matches!(self.machine.state(), State::Starting { .. }) {
                    self.status.send_modify(|status| {
                        (status.phase, status.pid, status.port) = (Some(phase), pid, port);
                    });
                }
                None
            }
            Report::Start(Ok(Live { process, endpoint })) => {
                self.watch(&process);
                self.running = Some(Running { process, endpoint: Some(endpoint) });
                Some(Event::Started)
            }
            Report::Start(Err(Failed { error, process })) => {
                if matches!(self.machine.state(), State::Starting { .. }) {
                    tracing::warn!(engine = name(), %error, "the engine did not start");
                }
                let left = process.is_some();
                self.running = process.map(|process| Running { process, endpoint: None });
                Some(Event::StartFailed { error, left })
            }
            Report::Exited { start, how } => {
                let error = EngineError::Exited { name: name(), how, tail: self.starter.log.tail(TAIL) };
                if matches!(self.machine.state(), State::Ready { .. }) && start == self.machine.starts() {
                    tracing::warn!(engine = name(), %error, "the engine ended by itself");
                }
                Some(Event::Exited { start, error })
            }
            Report::Ended => Some(Event::Ended),
        }
    }

    fn step(&mut self, event: Event) {
        let idle = event == Event::Tick && matches!(self.machine.state(), State::Ready { .. });
        let unwanted = event == Event::Tick && matches!(self.machine.state(), State::Starting { .. });
        let (machine, effects) = self.machine.clone().step(event, Instant::now());
        self.machine = machine;
        // Before anybody is answered, so that whoever looks then sees what the answer follows from.
        self.publish();
        let engine = &self.starter.spec.name;
        if !effects.is_empty() && idle {
            tracing::info!(engine, "idle for long enough, stopping");
        }
        if !effects.is_empty() && unwanted {
            tracing::info!(engine, "nobody waits for the start any more, breaking it off");
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start => self.start(),
            Effect::CancelStart => drop(self.cancel.send_replace(true)),
            Effect::EndProcess => self.end_process(),
            Effect::Grant(id) => {
                let endpoint = self.running.as_ref().and_then(|running| running.endpoint.clone());
                let start = self.machine.starts();
                // Counted by the machine already: a guard that nobody takes comes back as a release.
                match endpoint.zip(self.commands.upgrade()) {
                    Some((endpoint, commands)) => {
                        let guard = EngineGuard::new(endpoint, start, commands);
                        self.answer(id, Ok(guard));
                    }
                    None => drop(self.answers.remove(&id)),
                }
            }
            Effect::Refuse(id, error) => self.answer(id, Err(error)),
            Effect::StopsDone => {
                for done in self.stops.drain(..) {
                    let _ = done.send(());
                }
            }
        }
    }

    fn answer(&mut self, id: WaiterId, result: Result<EngineGuard, EngineError>) {
        if let Some(answer) = self.answers.remove(&id) {
            let _ = answer.send(result);
        }
    }

    fn start(&mut self) {
        self.cancel = watch::Sender::new(false);
        let (starter, report, start) =
            (Arc::clone(&self.starter), self.report.clone(), self.machine.starts());
        let (cancelled, progress) = (self.cancel.subscribe(), self.report.clone());
        let tell = move |phase, pid, port| {
            let _ = progress.send(Report::Progress { start, phase, pid, port });
        };
        let name = self.starter.spec.name.clone();
        let task = tokio::spawn(async move { starter.start(Line { cancelled, tell }).await });
        tokio::spawn(async move {
            // A start that panics has let go of its process, which ends it.
            let result = task.await.unwrap_or_else(|error| {
                Err(EngineError::Spawn { name, reason: format!("its start broke: {error}") }.into())
            });
            let _ = report.send(Report::Start(result));
        });
    }

    fn watch(&self, process: &Process) {
        let (ended, report, start) = (process.ended(), self.report.clone(), self.machine.starts());
        tokio::spawn(async move {
            let how = ended.await;
            let _ = report.send(Report::Exited { start, how });
        });
    }

    fn end_process(&mut self) {
        let (running, report) = (self.running.take(), self.report.clone());
        let task = tokio::spawn(async move {
            if let Some(running) = running {
                running.process.stop().await;
            }
        });
        tokio::spawn(async move {
            let _ = task.await;
            let _ = report.send(Report::Ended);
        });
    }

    fn publish(&self) {
        self.status.send_modify(|status| {
            let (state, in_flight) = match self.machine.state() {
                State::Stopped => (EngineState::Stopped, 0),
                State::Starting { .. } => (EngineState::Starting, 0),
                State::Ready { in_flight, .. } => (EngineState::Ready, *in_flight),
                State::Draining { in_flight, .. } => (EngineState::Draining, *in_flight),
                State::Stopping { .. } => (EngineState::Draining, 0),
                State::BackingOff { .. } => (EngineState::BackingOff, 0),
                State::Failed => (EngineState::Failed, 0),
            };
            if status.state != state {
                status.since = Timestamp::now();
            }
            if state != EngineState::Starting {
                status.phase = None;
            }
            // A process is there until it is known to be gone.
            if matches!(state, EngineState::Stopped | EngineState::BackingOff | EngineState::Failed)
                || status.starts != self.machine.starts()
            {
                (status.pid, status.port) = (None, None);
            }
            (status.state, status.in_flight, status.starts) = (state, in_flight, self.machine.starts());
            status.last_error = self.machine.last_error().map(ToString::to_string);
        });
    }
}
