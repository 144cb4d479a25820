//! The one owner of an engine. Everybody else sends it commands, so nobody acts on a look at a state that has changed
//! since: an idle stop and a new request cannot cross, because both are this task's next step.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    backoff,
    endpoint::EngineHost,
    engine::EngineGuard,
    error::EngineError,
    group,
    log::EngineLog,
    spec::EngineSpec,
    start::{Live, Starter},
    status::{EngineState, EngineStatus, Phase},
};

/// How long requests may go on when the engine is to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// How often it is looked whether a process is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often it is looked whether anybody still waits for a start.
const ANYBODY: Duration = Duration::from_millis(250);

pub(crate) type Waiter = oneshot::Sender<Result<EngineGuard, EngineError>>;

pub(crate) enum Command {
    EnsureReady(Waiter),
    Released { start: u32 },
    Stop { done: oneshot::Sender<()>, for_good: bool },
}

enum State {
    Stopped,
    Starting { start: JoinHandle<Result<Live, EngineError>>, waiters: Vec<Waiter> },
    Ready { live: Live, in_flight: usize, idle_since: Instant },
    Draining { live: Live, in_flight: usize, until: Instant, next: Vec<Waiter> },
    BackingOff { until: Instant, last: String },
}

pub(crate) struct Actor {
    starter: Arc<Starter>,
    status: watch::Sender<EngineStatus>,
    /// Weak, so that the actor ends when nobody holds the engine any more.
    commands: mpsc::WeakUnboundedSender<Command>,
    state: State,
    failures: u32,
    starts: u32,
    stopping: Vec<oneshot::Sender<()>>,
    for_good: bool,
}

enum Happened {
    Command(Option<Command>),
    Started(Box<Result<Live, EngineError>>),
    Exited(String),
    Time,
}

impl Actor {
    pub(crate) fn new(
        spec: EngineSpec,
        host: EngineHost,
        log: Arc<EngineLog>,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> (Self, watch::Receiver<EngineStatus>) {
        let status = EngineStatus {
            name: spec.name.clone(),
            state: EngineState::Stopped,
            phase: None,
            since: Timestamp::now(),
            pid: None,
            port: None,
            model: spec.model.clone(),
            in_flight: 0,
            resident_bytes: None,
            starts: 0,
            last_error: None,
        };
        let (status, seen) = watch::channel(status);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap_or_default();
        let actor = Self {
            starter: Arc::new(Starter { spec, host, log, http }),
            status,
            commands,
            state: State::Stopped,
            failures: 0,
            starts: 0,
            stopping: Vec::new(),
            for_good: false,
        };
        (actor, seen)
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let happened = self.next(&mut commands).await;
            let ended = matches!(happened, Happened::Command(None));
            self.on(happened).await;
            self.tell();
            if ended || (self.for_good && matches!(self.state, State::Stopped)) {
                break;
            }
        }
        // Whoever held the engine is gone, or said so: nothing is left running.
        self.halt().await;
        commands.close();
    }

    /// The next thing that concerns this state.
    async fn next(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Happened {
        let idle_timeout = self.starter.spec.idle_timeout;
        match &mut self.state {
            State::Stopped | State::BackingOff { .. } => Happened::Command(commands.recv().await),
            State::Starting { start, .. } => tokio::select! {
                command = commands.recv() => Happened::Command(command),
                started = start => Happened::Started(Box::new(started.unwrap_or_else(|error| {
                    Err(EngineError::Spawn { name: self.starter.spec.name.clone(), reason: error.to_string() })
                }))),
                () = tokio::time::sleep(ANYBODY) => Happened::Time,
            },
            State::Ready { live, in_flight, idle_since } => {
                let idle = tokio::time::sleep_until(*idle_since + idle_timeout);
                let is_idle = *in_flight == 0;
                tokio::select! {
                    // A request that is there goes before the timer, so that it is not stopped in its face.
                    biased;
                    how = live.process.ended() => Happened::Exited(how),
                    command = commands.recv() => Happened::Command(command),
                    () = idle, if is_idle => Happened::Time,
                }
            }
            State::Draining { live, until, .. } => tokio::select! {
                how = live.process.ended() => Happened::Exited(how),
                command = commands.recv() => Happened::Command(command),
                () = tokio::time::sleep_until(*until) => Happened::Time,
            },
        }
    }

    async fn on(&mut self, happened: Happened) {
        match happened {
            Happened::Command(None) => {}
            Happened::Command(Some(Command::EnsureReady(waiter))) => self.ensure_ready(waiter),
            Happened::Command(Some(Command::Released { start })) => self.released(start).await,
            Happened::Command(Some(Command::Stop { done, for_good })) => {
                self.for_good |= for_good;
                self.stopping.push(done);
                self.drain().await;
            }
            Happened::Started(started) => match *started {
                Ok(live) => self.started(live),
                Err(error) => self.start_failed(&error),
            },
            Happened::Exited(how) => self.exited(how).await,
            Happened::Time => self.time().await,
        }
    }

    fn ensure_ready(&mut self, waiter: Waiter) {
        if self.for_good {
            let _ = waiter.send(Err(EngineError::ShuttingDown { name: self.starter.spec.name.clone() }));
            return;
        }
        match &mut self.state {
            State::Ready { live, in_flight, .. } => {
                if let Some(guard) = guard(live, self.starts, &self.commands) {
                    // A guard that nobody takes comes back as a release, so it is counted either way.
                    *in_flight += 1;
                    let _ = waiter.send(Ok(guard));
                }
            }
            State::Starting { waiters, .. } => waiters.push(waiter),
            State::Draining { next, .. } => next.push(waiter),
            State::BackingOff { until, last } if Instant::now() < *until => {
                let _ = waiter.send(Err(EngineError::BackingOff {
                    name: self.starter.spec.name.clone(),
                    failures: self.failures,
                    wait: until.duration_since(Instant::now()),
                    last: last.clone(),
                }));
            }
            State::Stopped | State::BackingOff { .. } => self.start(vec![waiter]),
        }
    }

    fn start(&mut self, waiters: Vec<Waiter>) {
        self.starts += 1;
        let (starter, status) = (Arc::clone(&self.starter), self.status.clone());
        let start = tokio::spawn(async move {
            let tell = |phase: Phase, pid, port| {
                status.send_modify(|status| {
                    (status.phase, status.pid, status.port) = (Some(phase), pid, port);
                });
            };
            starter.start(tell).await
        });
        self.state = State::Starting { start, waiters };
    }

    fn started(&mut self, live: Live) {
        let State::Starting { waiters, .. } = std::mem::replace(&mut self.state, State::Stopped) else {
            return;
        };
        self.failures = 0;
        let mut in_flight = 0;
        for waiter in waiters {
            if let Some(guard) = guard(&live, self.starts, &self.commands) {
                // A guard that nobody takes comes back as a release, so it is counted either way.
                in_flight += 1;
                let _ = waiter.send(Ok(guard));
            }
        }
        self.state = State::Ready { live, in_flight, idle_since: Instant::now() };
    }

    fn start_failed(&mut self, error: &EngineError) {
        let State::Starting { waiters, .. } = std::mem::replace(&mut self.state, State::Stopped) else {
            return;
        };
        tracing::warn!(engine = self.starter.spec.name, %error, "the engine did not start");
        self.failed(error.to_string());
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    fn failed(&mut self, last: String) {
        self.failures += 1;
        self.status.send_modify(|status| status.last_error = Some(last.clone()));
        self.state = State::BackingOff { until: Instant::now() + backoff::rest(self.failures), last };
    }

    /// Ended without being asked to, with code 0 too: that is a failure.
    async fn exited(&mut self, how: String) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Ready { live, .. } => {
                live.process.stop().await;
                let name = self.starter.spec.name.clone();
                let error = EngineError::Exited { name, how, tail: self.starter.log.tail(30) };
                tracing::warn!(engine = self.starter.spec.name, %error, "the engine ended");
                self.failed(error.to_string());
            }
            State::Draining { live, next, .. } => {
                live.process.stop().await;
                self.stopped(next);
            }
            other => self.state = other,
        }
    }

    async fn released(&mut self, start: u32) {
        if start != self.starts {
            return;
        }
        match &mut self.state {
            State::Ready { in_flight, idle_since, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                *idle_since = Instant::now();
            }
            State::Draining { in_flight, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                if *in_flight == 0 {
                    self.finish_draining().await;
                }
            }
            _ => {}
        }
    }

    async fn drain(&mut self) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Ready { live, in_flight, .. } => {
                let until = Instant::now() + DRAIN;
                self.state = State::Draining { live, in_flight, until, next: Vec::new() };
                if in_flight == 0 {
                    self.finish_draining().await;
                }
            }
            State::Starting { start, waiters } => {
                self.abandon(start).await;
                for waiter in waiters {
                    let name = self.starter.spec.name.clone();
                    let _ = waiter.send(Err(EngineError::ShuttingDown { name }));
                }
                self.stopped(Vec::new());
            }
            draining @ State::Draining { .. } => self.state = draining,
            State::Stopped | State::BackingOff { .. } => {
                self.failures = 0;
                self.stopped(Vec::new());
            }
        }
    }

    async fn finish_draining(&mut self) {
        if let State::Draining { live, next, .. } = std::mem::replace(&mut self.state, State::Stopped) {
            self.tell_stopping(&live);
            live.process.stop().await;
            self.stopped(next);
        }
    }

    /// It has stopped as it was asked to; whoever came meanwhile gets a new start.
    fn stopped(&mut self, next: Vec<Waiter>) {
        for done in self.stopping.drain(..) {
            let _ = done.send(());
        }
        if self.for_good {
            for waiter in next {
                let _ = waiter.send(Err(EngineError::ShuttingDown { name: self.starter.spec.name.clone() }));
            }
        } else if !next.is_empty() {
            self.start(next);
        }
    }

    async fn time(&mut self) {
        match &mut self.state {
            State::Starting { waiters, .. } => {
                waiters.retain(|waiter| !waiter.is_closed());
                if waiters.is_empty() {
                    tracing::info!(engine = self.starter.spec.name, "nobody waits for the start any more");
                    self.halt().await;
                }
            }
            State::Ready { .. } => {
                tracing::info!(engine = self.starter.spec.name, "idle for long enough, stopping");
                self.drain().await;
            }
            State::Draining { .. } => self.finish_draining().await,
            State::Stopped | State::BackingOff { .. } => {}
        }
    }

    /// Ends whatever runs, without waiting for requests.
    async fn halt(&mut self) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Starting { start, .. } => self.abandon(start).await,
            State::Ready { live, .. } | State::Draining { live, .. } => live.process.stop().await,
            State::Stopped | State::BackingOff { .. } => {}
        }
    }

    /// Ends a start that is under way, and waits until its process is gone.
    async fn abandon(&self, start: JoinHandle<Result<Live, EngineError>>) {
        start.abort();
        match start.await {
            Ok(Ok(live)) => live.process.stop().await,
            // Letting go of the process closed the guardian's pipe; what is left to do is to see it gone.
            _ => {
                let pid = self.status.borrow().pid;
                let gone = async {
                    while pid.is_some_and(group::is_alive) {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                };
                let _ = tokio::time::timeout(DRAIN, gone).await;
            }
        }
    }

    fn tell_stopping(&self, live: &Live) {
        self.status.send_modify(|status| {
            (status.state, status.pid) = (EngineState::Draining, Some(live.process.pid));
        });
    }

    fn tell(&self) {
        self.status.send_modify(|status| {
            let (state, live, in_flight) = match &self.state {
                State::Stopped => (EngineState::Stopped, None, 0),
                State::Starting { .. } => (EngineState::Starting, None, 0),
                State::Ready { live, in_flight, .. } => (EngineState::Ready, Some(live), *in_flight),
                State::Draining { live, in_flight, .. } => (EngineState::Draining, Some(live), *in_flight),
                State::BackingOff { .. } => (EngineState::BackingOff, None, 0),
            };
            if status.state != state {
                status.since = Timestamp::now();
            }
            if state != EngineState::Starting {
                status.phase = None;
                status.pid = live.map(|live| live.process.pid);
                status.port = live.map(|live| live.port);
            }
            (status.state, status.in_flight, status.starts) = (state, in_flight, self.starts);
        });
    }
}

fn guard(live: &Live, start: u32, commands: &mpsc::WeakUnboundedSender<Command>) -> Option<EngineGuard> {
    Some(EngineGuard::new(Arc::clone(&live.endpoint), start, commands.upgrade()?))
}
