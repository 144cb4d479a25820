//! The one owner of an engine: performs what `state` decides, and tells it what happened. Everybody else sends it
//! commands, so nobody acts on a look at a state that has changed since: an idle stop and a new request cannot cross,
//! because both are this task's next step.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    arbiter::Party,
    error::EngineError,
    guard::{Answer, Command, EngineGuard},
    process::Process,
    start::{Failed, Line, Place, Running, Starter, Told},
    state::{Effect, Event, Machine, Policy, Rest, State, WaiterId},
    status::{EngineState, EngineStatus},
};

/// After so long in the state ready, an engine that ends by itself is not in a crash loop.
const PROVEN: Duration = Duration::from_secs(60);
/// A machine that was suspended for less was not suspended: its clocks are read one after the other.
const SUSPENDED: Duration = Duration::from_secs(1);

/// What the actor's own tasks report.
enum Report {
    Progress {
        start: u32,
        told: Told,
    },
    Start(Result<Running, Failed>),
    /// With what fell asleep, or did not, unless that was lost.
    Slept(Option<Running>, Result<(), EngineError>),
    Checked {
        start: u32,
        sound: Result<(), EngineError>,
    },
    Exited {
        start: u32,
        how: String,
    },
    Ended,
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
    /// The process there is: at most one. A task that wakes it or puts it to sleep has it meanwhile.
    running: Option<Running>,
    /// How long the machine had been suspended when the engine was last known to answer.
    suspended: Duration,
}

impl Actor {
    /// Runs until the engine is stopped for good, or nobody holds it any more. The status is kept in `status`.
    pub(crate) async fn run(
        starter: Starter,
        status: watch::Sender<EngineStatus>,
        commands: mpsc::WeakUnboundedSender<Command>,
        mut received: mpsc::UnboundedReceiver<Command>,
    ) {
        let options = &starter.options;
        let as_many_as_come = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
        let policy = Policy {
            idle: (!options.keep).then_some(starter.spec.idle_timeout),
            drain: options.drain_timeout,
            unwanted: options.abandon_after,
            asleep: options.standby_timeout,
            proven: PROVEN,
            concurrency: as_many_as_come(options.concurrency.map(NonZeroU32::get)),
            queue: as_many_as_come(options.queue),
            rest: if options.standby { Rest::Sleep } else { Rest::Stop },
        };
        let (report, mut reports) = mpsc::unbounded_channel();
        let mut actor = Self {
            machine: Machine::new(starter.spec.name.clone(), policy),
            starter: Arc::new(starter),
            status,
            commands,
            report,
            answers: HashMap::new(),
            stops: Vec::new(),
            cancel: watch::Sender::new(false),
            running: None,
            suspended: Duration::ZERO,
        };
        let mut held = true;
        while !actor.machine.is_shut_down() {
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
                    Some(command) => {
                        actor.look_for_suspension();
                        Some(actor.asked(command))
                    }
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
            Command::Ask { id, warms, answer } => {
                self.answers.insert(id, answer);
                if warms { Event::Warm(id) } else { Event::Ask(id) }
            }
            Command::Left { id } => {
                self.answers.remove(&id);
                Event::Left(id)
            }
            Command::Released { start, since, suspect } => {
                self.status.send_modify(|status| status.last_used = Some(Timestamp::now()));
                Event::Released { start, held: since.elapsed(), suspect }
            }
            Command::Yield { start } => Event::Yield { start },
            Command::Stop { done, for_good } => {
                self.stops.push(done);
                Event::Stop { for_good }
            }
            Command::Retire { done } => {
                self.stops.push(done);
                Event::Retire
            }
        }
    }

    fn heard(&mut self, report: Report) -> Option<Event> {
        let name = || self.starter.spec.name.clone();
        match report {
            Report::Progress { start, told: Told { phase, percent, at } } => {
                let current = start == self.machine.starts();
                if current && matches!(self.machine.state(), State::Starting { .. }) {
                    self.status.send_modify(|status| {
                        (status.phase, status.percent) = (Some(phase), percent);
                        if let Some(Place { pid, port, socket }) = at {
                            (status.pid, status.port, status.socket) = (Some(pid), port, socket);
                        }
                    });
                }
                None
            }
            Report::Start(Ok(running)) => {
                // What was woken is watched already.
                if !matches!(self.machine.state(), State::Starting { waking: true, .. }) {
                    self.watch(&running.process);
                }
                self.running = Some(running);
                self.suspended = self.starter.host.suspended.suspended();
                Some(Event::Started)
            }
            Report::Start(Err(Failed { error, left })) => {
                if matches!(self.machine.state(), State::Starting { .. }) {
                    tracing::warn!(engine = name(), %error, "the engine did not start");
                }
                let event = Event::StartFailed { error, left: left.is_some() };
                self.running = left;
                Some(event)
            }
            Report::Slept(running, slept) => {
                self.running = running;
                Some(match slept {
                    Ok(()) => Event::Slept,
                    Err(error) => {
                        tracing::warn!(engine = name(), %error, "stopping it instead");
                        Event::SleepFailed { error }
                    }
                })
            }
            Report::Checked { start, sound } => {
                self.suspended = self.starter.host.suspended.suspended();
                Some(match sound {
                    Ok(()) => Event::Sound { start },
                    Err(error) => {
                        tracing::warn!(engine = name(), %error, "ending it");
                        Event::Broken { start, error }
                    }
                })
            }
            Report::Exited { start, how } => {
                let error = self.starter.exited(how);
                let awake = matches!(self.machine.state(), State::Ready { .. } | State::Sleeping { .. });
                if awake && start == self.machine.starts() {
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
            tracing::info!(engine, "idle for long enough");
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
            Effect::Start => self.start(None),
            Effect::Wake => {
                let sleeping = self.running.take();
                self.start(sleeping);
            }
            Effect::Sleep => self.sleep(),
            Effect::Check => self.check(),
            Effect::Cancel => drop(self.cancel.send_replace(true)),
            Effect::EndProcess => self.end_process(),
            Effect::Grant(id) => {
                let endpoint = self.running.as_ref().map(|running| Arc::clone(&running.endpoint));
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

    /// Reports what comes of a task, or that it `broke`.
    fn report_of(&self, task: impl Future<Output = Report> + Send + 'static, broke: Report) {
        let (report, task) = (self.report.clone(), tokio::spawn(task));
        tokio::spawn(async move {
            let told = task.await.unwrap_or(broke);
            let _ = report.send(told);
        });
    }

    /// What the actor has in hand can be broken off.
    fn cancelled_by(&mut self) -> watch::Receiver<bool> {
        self.cancel = watch::Sender::new(false);
        self.cancel.subscribe()
    }

    /// A start, or the waking of what sleeps.
    fn start(&mut self, sleeping: Option<Running>) {
        let (starter, start) = (Arc::clone(&self.starter), self.machine.starts());
        let (cancelled, progress) = (self.cancelled_by(), self.report.clone());
        let tell = move |told| {
            let _ = progress.send(Report::Progress { start, told });
        };
        let name = self.starter.spec.name.clone();
        let party = Party {
            name: name.clone(),
            start,
            commands: self.commands.clone(),
            status: self.status.subscribe(),
        };
        let task = async move {
            let line = Line { cancelled, tell };
            Report::Start(match sleeping {
                Some(running) => starter.wake(party, running, line).await,
                None => starter.start(party, line).await,
            })
        };
        // A start that panics has let go of its process, which ends it.
        let broke = EngineError::Spawn { name, reason: "its start broke".to_owned() };
        self.report_of(task, Report::Start(Err(broke.into())));
    }

    fn sleep(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let (starter, cancelled) = (Arc::clone(&self.starter), self.cancelled_by());
        let task = async move {
            let slept = starter.sleep(&mut running, cancelled).await;
            Report::Slept(Some(running), slept)
        };
        let broke = self.starter.standby("sleep", "that broke");
        self.report_of(task, Report::Slept(None, Err(broke)));
    }

    fn check(&self) {
        let (starter, start) = (Arc::clone(&self.starter), self.machine.starts());
        let has_place = self.machine.has_place();
        let Some(endpoint) = self.running.as_ref().map(|running| Arc::clone(&running.endpoint)) else {
            return;
        };
        let task = async move { Report::Checked { start, sound: starter.check(&endpoint, has_place).await } };
        let broke =
            EngineError::Hung { name: self.starter.spec.name.clone(), reason: "asking it broke".to_owned() };
        self.report_of(task, Report::Checked { start, sound: Err(broke) });
    }

    /// A GPU does not always survive what the machine slept through, so the engine has to answer again first.
    fn look_for_suspension(&mut self) {
        let ready = matches!(self.machine.state(), State::Ready { checking: false, .. });
        if ready && self.starter.host.suspended.suspended() > self.suspended + SUSPENDED {
            tracing::info!(
                engine = self.starter.spec.name,
                "the machine was suspended: seeing whether it answers"
            );
            self.step(Event::Suspect { start: self.machine.starts() });
        }
    }

    fn watch(&self, process: &Process) {
        let (ended, report, start) = (process.ended(), self.report.clone(), self.machine.starts());
        tokio::spawn(async move {
            let how = ended.await;
            let _ = report.send(Report::Exited { start, how });
        });
    }

    fn end_process(&mut self) {
        let running = self.running.take();
        let task = async move {
            if let Some(Running { process, lease, .. }) = running {
                process.stop().await;
                // Only now: until it was gone it held what it had.
                drop(lease);
            }
            Report::Ended
        };
        self.report_of(task, Report::Ended);
    }

    fn publish(&self) {
        self.status.send_modify(|status| {
            let state = match self.machine.state() {
                State::Stopped => EngineState::Stopped,
                State::Starting { .. } => EngineState::Starting,
                State::Ready { .. } => EngineState::Ready,
                State::Draining { .. } | State::Dozing { .. } | State::Stopping { .. } => {
                    EngineState::Draining
                }
                State::Sleeping { .. } => EngineState::Sleeping,
                State::BackingOff { .. } => EngineState::BackingOff,
                State::Failed => EngineState::Failed,
            };
            if status.state != state {
                status.since = Timestamp::now();
            }
            if state != EngineState::Starting {
                (status.phase, status.percent) = (None, None);
            }
            // A process is there until it is known to be gone.
            if matches!(state, EngineState::Stopped | EngineState::BackingOff | EngineState::Failed)
                || status.starts != self.machine.starts()
            {
                (status.pid, status.port, status.socket) = (None, None, None);
            }
            (status.state, status.starts) = (state, self.machine.starts());
            (status.in_flight, status.queued) = (self.machine.in_flight(), self.machine.waiting());
            status.last_error = self.machine.last_error().map(ToString::to_string);
        });
    }
}
