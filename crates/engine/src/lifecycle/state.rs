//! What an engine does next: `(Lifecycle, Event, now) -> (Lifecycle, Effects)`, without processes, sockets or clocks, so
//! that every order of events can be a test. The actor performs the effects. Which process runs is not known here.
//!
//! ```text
//! stopped ──▶ starting ──▶ ready ──▶ draining ──▶ stopping ──▶ stopped, failed, backing off
//!                ▲ waking    └─ idle, or preempted ─▶ falling asleep ──▶ sleeping
//! ```
//!
//! At most one process exists at a time: `Effect::Start` is emitted only in a stage that has none, and a stage that has
//! one is left only through `Stage::Stopping`, which waits for `Event::ProcessEnded`. `requests` holds what requests do to
//! an engine, `prewarm` what starts it without one, `process` what becomes of its process.

mod prewarm;
mod process;
mod requests;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::error::EngineError;

/// Identifies one caller that waits for the engine.
pub(crate) type WaiterId = u64;

/// The limits and habits of an engine; the same for its whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// How long a ready engine goes without a request before it rests; none: it never rests for that reason.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long running requests may go on after a stop.
    pub(crate) drain_timeout: Duration,
    /// How long a start goes on without a waiter; none: to its end.
    pub(crate) abandon_after: Option<Duration>,
    /// How long a prewarm may take; then a start that only it needs is abandoned.
    pub(crate) prewarm_timeout: Duration,
    /// How long it sleeps before it is stopped: its weights take up the computer's memory all the while.
    pub(crate) standby_timeout: Duration,
    /// After so long in `Stage::Ready`, an exit is a new failure and not part of a crash loop.
    pub(crate) proven_after: Duration,
    /// How many requests run at a time; at least one.
    pub(crate) concurrency: usize,
    /// How many requests may wait for one of those to end.
    pub(crate) queue: usize,
    /// What it does when it is not needed.
    pub(crate) rest: Rest,
    /// It is ready for as long as the agent runs: it starts with the agent, again after it ended by itself, and again once
    /// the engine that preempted it has gone. After a user has stopped it, it starts for a user or a request only.
    pub(crate) keep: bool,
}

/// What an engine does when it is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It stops.
    Stop,
    /// It gives its GPU memory back and keeps its process, from which it wakes quickly.
    Sleep,
}

/// Where an engine is in its life, with what only that stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Stopped,
    Starting {
        /// Since when no waiter waits for the start.
        abandoned_since: Option<Instant>,
        /// The process is there, and slept.
        waking: bool,
        /// Another engine needs its memory as soon as it has served its waiters.
        preempted: bool,
    },
    Ready {
        since: Instant,
        idle_since: Instant,
        /// It may have broken unnoticed: it gets no new request until its health check has passed.
        checking: bool,
    },
    /// Takes no new request; waiters wait for the next start.
    Draining {
        /// When requests that still run are cut short; none: never.
        until: Option<Instant>,
        rest: Rest,
    },
    /// Was asked to sleep, and does not sleep yet.
    FallingAsleep {
        /// It stops as soon as that has ended, or its process has ended meanwhile.
        stop: bool,
    },
    /// Its process is there and holds no GPU memory.
    Sleeping {
        since: Instant,
    },
    /// Its process was asked to end, and is not gone yet.
    Stopping {
        /// It ended by itself, or its start failed.
        failed: bool,
    },
    /// Failed more than once: no start before then.
    BackingOff {
        until: Instant,
    },
    /// Failed; the next request tries again.
    Failed,
}

/// Who or what stops an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// A user: it starts again for the next request, and for nothing else that is not a user.
    User,
    /// The agent ends: the engine is never started again.
    Shutdown,
    /// The configuration has no more use for it: it is never started again, and running requests may take as long as they
    /// take.
    Retirement,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request waits for the engine.
    Request(WaiterId),
    /// A user starts the engine and waits until it is ready. Takes no place of a request.
    UserStart(WaiterId),
    /// It is likely to be needed soon. Any number of these count as one.
    Prewarm,
    /// There is memory for it beside the other engines.
    MemoryAvailable,
    /// A waiter does not wait any more.
    WaiterLeft(WaiterId),
    /// A guard of this start was dropped. `suspect`: the engine did not respond as a healthy one does.
    Released { start: u32, held: Duration, suspect: bool },
    /// The ready engine of this start may have broken unnoticed.
    HealthCheckRequested { start: u32 },
    /// The engine of this start responds.
    HealthCheckPassed { start: u32 },
    /// The engine of this start does not respond.
    HealthCheckFailed { start: u32, error: EngineError },
    /// Another engine needs the memory that this start holds.
    Preempted { start: u32 },
    /// It has to drain and stop.
    Stop(StopCause),
    /// The start, or the waking, led to a ready engine.
    Started,
    /// The start, or the waking, failed. `process_left`: there is a process that has to be ended.
    StartFailed { error: EngineError, process_left: bool },
    /// The engine fell asleep.
    FellAsleep,
    /// The engine did not fall asleep.
    SleepFailed { error: EngineError },
    /// The process of this start ended by itself.
    Exited { start: u32, error: EngineError },
    /// The process that was asked to end is gone, with everything that it started.
    ProcessEnded,
    /// A deadline may have passed.
    Tick,
}

/// What the actor has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Begin a start.
    Start,
    /// Wake the sleeping process; it is reported as a start is.
    Wake,
    /// Cancel the start, the waking or the falling asleep; its result is reported all the same.
    Cancel,
    /// Put the engine to sleep.
    Sleep,
    /// Check whether it still responds.
    CheckHealth,
    /// End the process, and report when it is gone.
    EndProcess,
    /// Give a waiter its guard.
    Grant(WaiterId),
    /// Give a waiter the reason why it gets none.
    Reject(WaiterId, EngineError),
    /// Report `Event::MemoryAvailable` once a start would preempt no other engine.
    AwaitMemory,
    /// Answer everyone who stopped the engine.
    ReportStopped,
}

/// How long a request is taken to last before one has ended.
const FIRST_ESTIMATE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    id: WaiterId,
    /// It takes a place of those that `Policy::concurrency` and `Policy::queue` count.
    is_request: bool,
}

/// An engine's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    name: String,
    policy: Policy,
    stage: Stage,
    /// Those that wait for it, or for a place on it, in their order. Empty where it does nothing that would end a wait.
    waiters: VecDeque<Waiter>,
    /// Guards of the current start; none once its process has to end.
    in_flight: usize,
    /// Failed starts in a row.
    failures: u32,
    starts: u32,
    last_error: Option<EngineError>,
    /// It is never started again.
    ending: bool,
    /// A user was the last to stop it, and neither a user nor a request has come since.
    stopped_by_user: bool,
    /// It has to become ready although no request waits, until then.
    prewarming: Option<Instant>,
    /// `Effect::AwaitMemory` is not answered yet.
    awaiting_memory: bool,
    /// After a failed start of an engine that is kept ready.
    retry_at: Option<Instant>,
    /// A moving average of how long requests last.
    typical: Duration,
}

impl Lifecycle {
    pub(crate) fn new(name: String, policy: Policy) -> Self {
        Self {
            name,
            policy,
            stage: Stage::Stopped,
            waiters: VecDeque::new(),
            in_flight: 0,
            failures: 0,
            starts: 0,
            last_error: None,
            ending: false,
            stopped_by_user: false,
            prewarming: None,
            awaiting_memory: false,
            retry_at: None,
            typical: FIRST_ESTIMATE,
        }
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The number of the current or last start, from 1.
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    pub(crate) fn last_error(&self) -> Option<&EngineError> {
        self.last_error.as_ref()
    }

    /// Whether it has stopped and is never started again.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.ending && self.stage == Stage::Stopped
    }

    /// When a `Tick` is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.stage_deadline().into_iter().chain(self.retry_deadline()).chain(self.prewarming).min()
    }

    /// Whether a prewarm would change nothing: it is ready, or one is pending.
    pub(crate) fn is_prewarmed(&self) -> bool {
        self.prewarming.is_some() || matches!(self.stage, Stage::Ready { .. })
    }

    fn stage_deadline(&self) -> Option<Instant> {
        match &self.stage {
            // A waking ends soon, and to cancel it would lose the process.
            Stage::Starting { abandoned_since, waking: false, .. } => {
                abandoned_since.zip(self.policy.abandon_after).map(|(since, limit)| since + limit)
            }
            Stage::Ready { idle_since, checking: false, .. } if self.in_flight == 0 => {
                self.policy.idle_timeout.map(|idle| *idle_since + idle)
            }
            Stage::Draining { until, .. } => *until,
            Stage::Sleeping { since } => Some(*since + self.policy.standby_timeout),
            Stage::BackingOff { until } => Some(*until),
            Stage::Stopped
            | Stage::Starting { .. }
            | Stage::Ready { .. }
            | Stage::FallingAsleep { .. }
            | Stage::Stopping { .. }
            | Stage::Failed => None,
        }
    }

    /// How many wait for it, or for a place on it.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// How many requests run on it.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether it could take one more request.
    pub(crate) fn has_place(&self) -> bool {
        self.in_flight < self.policy.concurrency
    }

    /// The lifecycle after an event, and what has to be done.
    pub(crate) fn step(mut self, event: Event, now: Instant) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        let out = &mut effects;
        match event {
            Event::Request(id) => self.wait(Waiter { id, is_request: true }, now, out),
            Event::UserStart(id) => self.wait(Waiter { id, is_request: false }, now, out),
            Event::Prewarm => self.prewarm(now, out),
            Event::MemoryAvailable => self.memory_available(now, out),
            Event::WaiterLeft(id) => self.waiter_left(id, now, out),
            Event::Stop(cause) => self.stop(cause, now, out),
            Event::Started => self.started(now, out),
            Event::StartFailed { error, process_left } => self.start_failed(error, process_left, now, out),
            Event::FellAsleep => self.fell_asleep(now, out),
            Event::SleepFailed { error } => self.sleep_failed(error, out),
            Event::ProcessEnded => self.process_ended(now, out),
            Event::Tick => self.tick(now, out),
            // An event of an earlier start does not concern this one.
            Event::Released { start, held, suspect } if start == self.starts => {
                if suspect {
                    self.request_health_check(out);
                }
                self.released(held, now, out);
            }
            Event::HealthCheckRequested { start } if start == self.starts => self.request_health_check(out),
            Event::HealthCheckPassed { start } if start == self.starts => self.health_check_passed(now, out),
            Event::HealthCheckFailed { start, error } if start == self.starts => {
                self.health_check_failed(error, now, out);
            }
            Event::Preempted { start } if start == self.starts => self.preempt(out),
            Event::Exited { start, error } if start == self.starts => self.exited(error, now, out),
            Event::Released { .. }
            | Event::HealthCheckRequested { .. }
            | Event::HealthCheckPassed { .. }
            | Event::HealthCheckFailed { .. }
            | Event::Preempted { .. }
            | Event::Exited { .. } => {}
        }
        self.keep_ready(now, &mut effects);
        (self, effects)
    }

    /// Ends a prewarm too.
    fn reject_waiters(&mut self, error: &EngineError, effects: &mut Vec<Effect>) {
        self.prewarming = None;
        effects.extend(self.waiters.drain(..).map(|waiter| Effect::Reject(waiter.id, error.clone())));
    }
}

#[cfg(test)]
mod tests;
