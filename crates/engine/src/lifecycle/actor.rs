//! The one owner of an engine: passes events to the lifecycle of `state`, and performs its effects. All others send commands
//! to this task, so that no decision rests on a state that has changed since: an idle stop and a new request cannot cross,
//! because each is a step of this task.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    error::EngineError,
    guard::{Command, EngineGuard, GuardSender},
    lifecycle::{
        start::{EngineProcess, ProcessAddress, StartControl, StartFailure, StartProgress, Starter},
        state::{Effect, Event, Lifecycle, Policy, Rest, Stage, StopCause, WaiterId},
    },
    memory::{Claim, Preempt, Tenant},
    process::Process,
    status::{EngineState, EngineStatus},
};

/// How long a prewarm may wait for memory, besides twice the timeout of a start: as long as a local answer may take.
const PREWARM_WAIT: Duration = Duration::from_secs(600);
/// After so long in the stage ready, an engine that exits by itself is not in a crash loop.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// A shorter suspension is none: the clocks are read one after the other.
const MIN_SUSPENSION: Duration = Duration::from_secs(1);

/// What the actor's own tasks report.
enum TaskReport {
    Progress {
        start: u32,
        progress: StartProgress,
    },
    Start(Result<EngineProcess, StartFailure>),
    /// With the process that fell asleep, or did not; without one if that task panicked.
    Slept(Option<EngineProcess>, Result<(), EngineError>),
    HealthChecked {
        start: u32,
        result: Result<(), EngineError>,
    },
    Exited {
        start: u32,
        how: String,
    },
    ProcessEnded,
    MemoryAvailable,
}

pub(crate) struct Actor {
    starter: Arc<Starter>,
    lifecycle: Lifecycle,
    status: watch::Sender<EngineStatus>,
    prewarmed: Arc<AtomicBool>,
    /// Weak, so that the actor ends when the last handle and guard are dropped.
    commands: mpsc::WeakUnboundedSender<Command>,
    reports: mpsc::UnboundedSender<TaskReport>,
    waiters: HashMap<WaiterId, GuardSender>,
    stops: Vec<oneshot::Sender<()>>,
    cancel: watch::Sender<bool>,
    /// At most one. A task that wakes it or puts it to sleep owns it meanwhile.
    process: Option<EngineProcess>,
    /// How long the computer had been suspended when the engine last responded.
    suspended: Duration,
}

impl Actor {
    /// Runs until the engine is shut down, or its last handle and guard are dropped. Publishes to `status`.
    pub(crate) async fn run(
        starter: Starter,
        status: watch::Sender<EngineStatus>,
        prewarmed: Arc<AtomicBool>,
        commands: mpsc::WeakUnboundedSender<Command>,
        mut received: mpsc::UnboundedReceiver<Command>,
    ) {
        let options = &starter.options;
        let unlimited = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
        let policy = Policy {
            idle_timeout: (!options.keep).then_some(starter.spec.idle_timeout),
            drain_timeout: options.drain_timeout,
            abandon_after: options.abandon_after,
            prewarm_timeout: starter.spec.start_timeout.saturating_mul(2).saturating_add(PREWARM_WAIT),
            standby_timeout: options.standby_timeout,
            proven_after: PROVEN_AFTER,
            concurrency: unlimited(options.concurrency.map(NonZeroU32::get)),
            queue: unlimited(options.queue),
            keep: options.keep,
            rest: if options.standby { Rest::Sleep } else { Rest::Stop },
        };
        let (reports, mut reported) = mpsc::unbounded_channel();
        let mut actor = Self {
            lifecycle: Lifecycle::new(starter.spec.name.clone(), policy),
            starter: Arc::new(starter),
            status,
            prewarmed,
            commands,
            reports,
            waiters: HashMap::new(),
            stops: Vec::new(),
            cancel: watch::Sender::new(false),
            process: None,
            suspended: Duration::ZERO,
        };
        // An engine that is kept ready starts with the agent.
        actor.step(Event::Tick);
        let mut held = true;
        while !actor.lifecycle.is_shut_down() {
            let deadline = actor.lifecycle.deadline();
            let tick = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                // Commands before the timer, so that a request that has come is served and not met by an idle stop.
                biased;
                Some(report) = reported.recv() => actor.report_event(report),
                command = received.recv(), if held => match command {
                    Some(command) => {
                        actor.detect_suspension();
                        Some(actor.command_event(command))
                    }
                    None => {
                        held = false;
                        Some(Event::Stop(StopCause::Shutdown))
                    }
                },
                () = tick => Some(Event::Tick),
            };
            if let Some(event) = event {
                actor.step(event);
            }
        }
    }

    fn command_event(&mut self, command: Command) -> Event {
        match command {
            Command::Wait { id, is_request, guard } => {
                self.waiters.insert(id, guard);
                if is_request { Event::Request(id) } else { Event::UserStart(id) }
            }
            Command::Prewarm => Event::Prewarm,
            Command::WaiterLeft { id } => {
                self.waiters.remove(&id);
                Event::WaiterLeft(id)
            }
            Command::Released { start, since, suspect } => {
                self.status.send_modify(|status| status.last_used = Some(Timestamp::now()));
                Event::Released { start, held: since.elapsed(), suspect }
            }
            Command::Preempt { start } => Event::Preempted { start },
            Command::Stop { cause, done } => {
                self.stops.push(done);
                Event::Stop(cause)
            }
        }
    }

    fn report_event(&mut self, report: TaskReport) -> Option<Event> {
        let name = || self.starter.spec.name.clone();
        match report {
            TaskReport::Progress { start, progress: StartProgress { phase, percent, address } } => {
                let current = start == self.lifecycle.starts();
                if current && matches!(self.lifecycle.stage(), Stage::Starting { .. }) {
                    self.status.send_modify(|status| {
                        (status.phase, status.percent) = (Some(phase), percent);
                        if let Some(ProcessAddress { pid, port, socket }) = address {
                            (status.pid, status.port, status.socket) = (Some(pid), port, socket);
                        }
                    });
                }
                None
            }
            TaskReport::Start(Ok(process)) => {
                // A process that was woken is watched already.
                if !matches!(self.lifecycle.stage(), Stage::Starting { waking: true, .. }) {
                    self.watch(&process.process);
                }
                self.process = Some(process);
                self.suspended = self.starter.host.suspended.suspended();
                Some(Event::Started)
            }
            TaskReport::Start(Err(StartFailure { error, process })) => {
                // An engine that is kept ready may lack the same file for days.
                let repeated = self.starter.options.keep && self.lifecycle.last_error() == Some(&error);
                if matches!(self.lifecycle.stage(), Stage::Starting { .. }) && !repeated {
                    tracing::warn!(engine = name(), %error, "the engine did not start");
                }
                let event = Event::StartFailed { error, process_left: process.is_some() };
                self.process = process;
                Some(event)
            }
            TaskReport::Slept(process, slept) => {
                self.process = process;
                Some(match slept {
                    Ok(()) => Event::FellAsleep,
                    Err(error) => {
                        tracing::warn!(engine = name(), %error, "stopping it instead");
                        Event::SleepFailed { error }
                    }
                })
            }
            TaskReport::HealthChecked { start, result } => {
                self.suspended = self.starter.host.suspended.suspended();
                Some(match result {
                    Ok(()) => Event::HealthCheckPassed { start },
                    Err(error) => {
                        tracing::warn!(engine = name(), %error, "ending it");
                        Event::HealthCheckFailed { start, error }
                    }
                })
            }
            TaskReport::Exited { start, how } => {
                let error = self.starter.exited(how);
                let awake = matches!(self.lifecycle.stage(), Stage::Ready { .. } | Stage::Sleeping { .. });
                if awake && start == self.lifecycle.starts() {
                    tracing::warn!(engine = name(), %error, "the engine ended by itself");
                }
                Some(Event::Exited { start, error })
            }
            TaskReport::MemoryAvailable => Some(Event::MemoryAvailable),
            TaskReport::ProcessEnded => Some(Event::ProcessEnded),
        }
    }

    fn step(&mut self, event: Event) {
        let idle = event == Event::Tick && matches!(self.lifecycle.stage(), Stage::Ready { .. });
        let abandoned = event == Event::Tick && matches!(self.lifecycle.stage(), Stage::Starting { .. });
        let (lifecycle, effects) = self.lifecycle.clone().step(event, Instant::now());
        self.lifecycle = lifecycle;
        // Before any waiter is answered, so that it then finds the status that its answer follows from.
        self.publish();
        let engine = &self.starter.spec.name;
        if !effects.is_empty() && idle {
            tracing::info!(engine, "the idle timeout has passed");
        }
        if !effects.is_empty() && abandoned {
            tracing::info!(engine, "no request waits for the start any more, cancelling it");
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start => self.start(None),
            Effect::Wake => {
                let sleeping = self.process.take();
                self.start(sleeping);
            }
            Effect::Sleep => self.sleep(),
            Effect::CheckHealth => self.check_health(),
            Effect::Cancel => drop(self.cancel.send_replace(true)),
            Effect::EndProcess => self.end_process(),
            Effect::AwaitMemory => self.await_memory(),
            Effect::Grant(id) => {
                let endpoint = self.process.as_ref().map(|process| Arc::clone(&process.endpoint));
                let start = self.lifecycle.starts();
                // The lifecycle has counted it already: a guard that its waiter does not take comes back as a release.
                match endpoint.zip(self.commands.upgrade()) {
                    Some((endpoint, commands)) => {
                        let guard = EngineGuard::new(endpoint, start, commands);
                        self.answer(id, Ok(guard));
                    }
                    None => drop(self.waiters.remove(&id)),
                }
            }
            Effect::Reject(id, error) => self.answer(id, Err(error)),
            Effect::ReportStopped => {
                for done in self.stops.drain(..) {
                    let _ = done.send(());
                }
            }
        }
    }

    fn answer(&mut self, id: WaiterId, result: Result<EngineGuard, EngineError>) {
        if let Some(guard) = self.waiters.remove(&id) {
            let _ = guard.send(result);
        }
    }

    /// Runs a task and reports its result, or `panicked` if it panics.
    fn spawn_task(&self, task: impl Future<Output = TaskReport> + Send + 'static, panicked: TaskReport) {
        let (reports, task) = (self.reports.clone(), tokio::spawn(task));
        tokio::spawn(async move {
            let report = task.await.unwrap_or(panicked);
            let _ = reports.send(report);
        });
    }

    /// A signal for the next task, which `Effect::Cancel` sends.
    fn cancel_signal(&mut self) -> watch::Receiver<bool> {
        self.cancel = watch::Sender::new(false);
        self.cancel.subscribe()
    }

    /// Starts the engine, or wakes its sleeping process.
    fn start(&mut self, sleeping: Option<EngineProcess>) {
        let (starter, start) = (Arc::clone(&self.starter), self.lifecycle.starts());
        let (cancelled, reports) = (self.cancel_signal(), self.reports.clone());
        let report = move |progress| {
            let _ = reports.send(TaskReport::Progress { start, progress });
        };
        let name = self.starter.spec.name.clone();
        let commands = self.commands.clone();
        let tenant = Tenant {
            name: name.clone(),
            status: self.status.subscribe(),
            preempt: Preempt::new(move || {
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.send(Command::Preempt { start });
                }
            }),
        };
        let task = async move {
            let control = StartControl { cancelled, report };
            TaskReport::Start(match sleeping {
                Some(process) => starter.wake(tenant, process, control).await,
                None => starter.start(tenant, control).await,
            })
        };
        // A start that panics has dropped its process, which ends it.
        let panicked = EngineError::Spawn { name, reason: "its start broke".to_owned() };
        self.spawn_task(task, TaskReport::Start(Err(panicked.into())));
    }

    fn sleep(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let (starter, cancelled) = (Arc::clone(&self.starter), self.cancel_signal());
        let task = async move {
            let slept = starter.sleep(&mut process, cancelled).await;
            TaskReport::Slept(Some(process), slept)
        };
        let panicked = self.starter.standby("sleep", "that broke");
        self.spawn_task(task, TaskReport::Slept(None, Err(panicked)));
    }

    fn check_health(&self) {
        let (starter, start) = (Arc::clone(&self.starter), self.lifecycle.starts());
        let has_place = self.lifecycle.has_place();
        let Some(endpoint) = self.process.as_ref().map(|process| Arc::clone(&process.endpoint)) else {
            return;
        };
        let task = async move {
            let result = starter.health_check(&endpoint).run(has_place).await;
            TaskReport::HealthChecked { start, result }
        };
        let name = self.starter.spec.name.clone();
        let panicked = EngineError::Hung { name, reason: "asking it broke".to_owned() };
        self.spawn_task(task, TaskReport::HealthChecked { start, result: Err(panicked) });
    }

    /// A GPU does not always survive a suspension of the computer, so a ready engine has its health checked after one.
    fn detect_suspension(&mut self) {
        let ready = matches!(self.lifecycle.stage(), Stage::Ready { checking: false, .. });
        if ready && self.starter.host.suspended.suspended() > self.suspended + MIN_SUSPENSION {
            tracing::info!(
                engine = self.starter.spec.name,
                "the computer was suspended: checking its health"
            );
            self.step(Event::HealthCheckRequested { start: self.lifecycle.starts() });
        }
    }

    fn watch(&self, process: &Process) {
        let (ended, reports, start) = (process.ended(), self.reports.clone(), self.lifecycle.starts());
        tokio::spawn(async move {
            let how = ended.await;
            let _ = reports.send(TaskReport::Exited { start, how });
        });
    }

    fn await_memory(&self) {
        let (starter, reports) = (Arc::clone(&self.starter), self.reports.clone());
        tokio::spawn(async move {
            let claim = Claim::of(&starter.options);
            tokio::select! {
                () = starter.host.arbiter.until_vacant(&claim) => {
                    let _ = reports.send(TaskReport::MemoryAvailable);
                }
                () = reports.closed() => {}
            }
        });
    }

    fn end_process(&mut self) {
        let process = self.process.take();
        let task = async move {
            if let Some(EngineProcess { process, lease, .. }) = process {
                process.stop().await;
                // Only now: it held its memory until it was gone.
                drop(lease);
            }
            TaskReport::ProcessEnded
        };
        self.spawn_task(task, TaskReport::ProcessEnded);
    }

    fn publish(&self) {
        self.prewarmed.store(self.lifecycle.is_prewarmed(), Ordering::Release);
        self.status.send_modify(|status| {
            let state = match self.lifecycle.stage() {
                Stage::Stopped => EngineState::Stopped,
                Stage::Starting { .. } => EngineState::Starting,
                Stage::Ready { .. } => EngineState::Ready,
                Stage::Draining { .. } | Stage::FallingAsleep { .. } | Stage::Stopping { .. } => {
                    EngineState::Draining
                }
                Stage::Sleeping { .. } => EngineState::Sleeping,
                Stage::BackingOff { .. } => EngineState::BackingOff,
                Stage::Failed => EngineState::Failed,
            };
            if status.state != state {
                status.since = Timestamp::now();
            }
            if state != EngineState::Starting {
                (status.phase, status.percent) = (None, None);
            }
            // The process is shown until it is known to be gone.
            if matches!(state, EngineState::Stopped | EngineState::BackingOff | EngineState::Failed)
                || status.starts != self.lifecycle.starts()
            {
                (status.pid, status.port, status.socket) = (None, None, None);
            }
            (status.state, status.starts) = (state, self.lifecycle.starts());
            (status.in_flight, status.queued) = (self.lifecycle.in_flight(), self.lifecycle.waiting());
            status.last_error = self.lifecycle.last_error().map(ToString::to_string);
        });
    }
}
