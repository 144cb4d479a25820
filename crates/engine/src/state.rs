//! What an engine does next: `(Machine, Event, now) -> (Machine, Effects)`, without processes, sockets or clocks, so
//! that every order of events is a test. The actor performs the effects; which process runs is not known here.
//!
//! ```text
//! stopped ──▶ starting ──▶ ready ──▶ draining ──▶ stopping ──▶ stopped, failed, backing off
//!                ▲ waking    └─ idle, or its room is wanted ─▶ dozing ──▶ sleeping
//! ```
//!
//! At most one process exists at a time: `Start` is only asked for in a state that has none, and a state that has one
//! is left only through `Stopping`, which waits for `Event::Ended`. What requests do to it is in `requests`, what
//! becomes of its process in `life`.

mod life;
mod requests;

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use crate::error::EngineError;

/// Somebody who waits for the engine.
pub(crate) type WaiterId = u64;

/// What an engine is allowed and expected to do; the same for its whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Without a request, until it rests; none: never for that reason.
    pub(crate) idle: Option<Duration>,
    /// With running requests, once it is to stop.
    pub(crate) drain: Duration,
    /// With a start that nobody waits for; none: it goes on to the end.
    pub(crate) unwanted: Option<Duration>,
    /// Asleep, until it is stopped: its weights are in the machine's memory all the while.
    pub(crate) asleep: Duration,
    /// After so long in the state ready an exit is a new misfortune and no crash loop.
    pub(crate) proven: Duration,
    /// Requests at once; at least one.
    pub(crate) concurrency: usize,
    /// Requests that may wait for one of those to end.
    pub(crate) queue: usize,
    /// What it does when it is not needed.
    pub(crate) rest: Rest,
}

/// What an engine does when it is not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It stops.
    Stop,
    /// It gives its GPU memory back and stays, to be awake again soon.
    Sleep,
}

/// Where an engine is in its life, with what belongs to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Stopped,
    /// `waking`: there is a process, which slept. `yields`: somebody wants its room as soon as it has served.
    Starting {
        waiters: VecDeque<WaiterId>,
        unwanted_since: Option<Instant>,
        waking: bool,
        yields: bool,
    },
    /// `checking`: it may have broken unnoticed, so nobody new gets it until it has answered.
    Ready {
        in_flight: usize,
        queue: VecDeque<WaiterId>,
        since: Instant,
        idle_since: Instant,
        checking: bool,
    },
    /// Takes nobody new; whoever comes waits for the next start. Without `until` it serves to the end.
    Draining {
        in_flight: usize,
        until: Option<Instant>,
        waiters: VecDeque<WaiterId>,
        rest: Rest,
    },
    /// Told to sleep, and not asleep yet. `stop`: once that is known, it is to stop, or has ended meanwhile.
    Dozing {
        waiters: VecDeque<WaiterId>,
        stop: bool,
    },
    /// Its process is there and holds no GPU memory.
    Sleeping {
        since: Instant,
    },
    /// Told to end, and not gone yet. `failed`: it was its own end, or a start that failed.
    Stopping {
        waiters: VecDeque<WaiterId>,
        failed: bool,
    },
    /// Failed more than once, and rests.
    BackingOff {
        until: Instant,
    },
    /// Failed; the next request tries again.
    Failed,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody wants it ready.
    Ask(WaiterId),
    /// Somebody wants it ready ahead of need, and takes nobody's place for that.
    Warm(WaiterId),
    /// A waiter went away.
    Left(WaiterId),
    /// A guard of this start was dropped, after so long; `suspect`: the engine did not answer as one that is well.
    Released { start: u32, held: Duration, suspect: bool },
    /// The ready engine of this start may have broken unnoticed.
    Suspect { start: u32 },
    /// What was suspected of this start is untrue.
    Sound { start: u32 },
    /// It is true: the engine does not answer.
    Broken { start: u32, error: EngineError },
    /// Another engine wants the room that this start has.
    Yield { start: u32 },
    /// It is to drain and stop; for good where the agent ends.
    Stop { for_good: bool },
    /// Another configuration has no use for it: it stops for good when what runs has ended, however long that takes.
    Retire,
    /// The start, or the waking, came to a ready engine.
    Started,
    /// It failed; `left`: there is a process that has to be ended.
    StartFailed { error: EngineError, left: bool },
    /// The engine fell asleep.
    Slept,
    /// It did not.
    SleepFailed { error: EngineError },
    /// The engine of this start ended by itself.
    Exited { start: u32, error: EngineError },
    /// The process that was told to end is gone, and all it had started.
    Ended,
    /// A deadline may have passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Begin a start.
    Start,
    /// Wake what sleeps; reports as a start does.
    Wake,
    /// Break the start, the waking or the falling asleep off; it reports how it ended all the same.
    Cancel,
    /// Let it fall asleep.
    Sleep,
    /// See whether it still answers.
    Check,
    /// End the process, and report when it is gone.
    EndProcess,
    /// Give a guard.
    Grant(WaiterId),
    /// Let a waiter down.
    Refuse(WaiterId, EngineError),
    /// Whoever asked for a stop has got it.
    StopsDone,
}

/// How long a request takes, as long as none has ended.
const FIRST_GUESS: Duration = Duration::from_secs(5);

/// An engine's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    name: String,
    policy: Policy,
    state: State,
    /// In a row.
    failures: u32,
    starts: u32,
    last_error: Option<EngineError>,
    /// Stopped for good: nothing is started any more.
    ending: bool,
    /// How long requests have been taking of late.
    typical: Duration,
    /// Of those who wait, who does so ahead of need.
    warming: BTreeSet<WaiterId>,
}

impl Machine {
    pub(crate) fn new(name: String, policy: Policy) -> Self {
        Self {
            name,
            policy,
            state: State::Stopped,
            failures: 0,
            starts: 0,
            last_error: None,
            ending: false,
            typical: FIRST_GUESS,
            warming: BTreeSet::new(),
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The number of the current or last start, from 1.
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    pub(crate) fn last_error(&self) -> Option<&EngineError> {
        self.last_error.as_ref()
    }

    /// Whether nothing will ever happen again.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.ending && self.state == State::Stopped
    }

    /// When a `Tick` is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            // What is being woken is there soon, and broken off it would be lost.
            State::Starting { unwanted_since, waking: false, .. } => {
                unwanted_since.zip(self.policy.unwanted).map(|(since, limit)| since + limit)
            }
            State::Ready { in_flight: 0, idle_since, checking: false, .. } => {
                self.policy.idle.map(|idle| *idle_since + idle)
            }
            State::Draining { until, .. } => *until,
            State::Sleeping { since } => Some(*since + self.policy.asleep),
            State::BackingOff { until } => Some(*until),
            State::Stopped
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Dozing { .. }
            | State::Stopping { .. }
            | State::Failed => None,
        }
    }

    /// Who waits for it, or for a place on it.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters().map_or(0, VecDeque::len)
    }

    fn waiters(&self) -> Option<&VecDeque<WaiterId>> {
        match &self.state {
            State::Ready { queue: waiters, .. }
            | State::Starting { waiters, .. }
            | State::Draining { waiters, .. }
            | State::Dozing { waiters, .. }
            | State::Stopping { waiters, .. } => Some(waiters),
            State::Stopped | State::Sleeping { .. } | State::BackingOff { .. } | State::Failed => None,
        }
    }

    /// Requests that run on it.
    pub(crate) fn in_flight(&self) -> usize {
        match self.state {
            State::Ready { in_flight, .. } | State::Draining { in_flight, .. } => in_flight,
            _ => 0,
        }
    }

    /// Whether it could take one more request.
    pub(crate) fn has_place(&self) -> bool {
        self.in_flight() < self.policy.concurrency
    }

    /// The next state, and what is to be done.
    pub(crate) fn step(mut self, event: Event, now: Instant) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        let out = &mut effects;
        match event {
            Event::Ask(waiter) => self.ask(waiter, false, now, out),
            Event::Warm(waiter) => {
                self.ask(waiter, true, now, out);
                self.warming.insert(waiter);
            }
            Event::Left(waiter) => self.left(waiter, now, out),
            Event::Stop { for_good } => self.stop(for_good, Some(now + self.policy.drain), out),
            Event::Retire => self.stop(true, None, out),
            Event::Started => self.started(now, out),
            Event::StartFailed { error, left } => self.start_failed(error, left, now, out),
            Event::Slept => self.slept(now, out),
            Event::SleepFailed { error } => self.sleep_failed(error, out),
            Event::Ended => self.ended(now, out),
            Event::Tick => self.tick(now, out),
            // What is told of a start that is long over says nothing about this one.
            Event::Released { start, held, suspect } if start == self.starts => {
                if suspect {
                    self.suspect(out);
                }
                self.released(held, now, out);
            }
            Event::Suspect { start } if start == self.starts => self.suspect(out),
            Event::Sound { start } if start == self.starts => self.sound(now, out),
            Event::Broken { start, error } if start == self.starts => self.broken(error, now, out),
            Event::Yield { start } if start == self.starts => self.yield_room(out),
            Event::Exited { start, error } if start == self.starts => self.exited(error, now, out),
            Event::Released { .. }
            | Event::Suspect { .. }
            | Event::Sound { .. }
            | Event::Broken { .. }
            | Event::Yield { .. }
            | Event::Exited { .. } => {}
        }
        if !self.warming.is_empty() {
            let mut warming = mem::take(&mut self.warming);
            warming.retain(|waiter| self.waiters().is_some_and(|waiters| waiters.contains(waiter)));
            self.warming = warming;
        }
        (self, effects)
    }

    fn refuse(&self, waiters: VecDeque<WaiterId>, error: &EngineError, effects: &mut Vec<Effect>) {
        effects.extend(waiters.into_iter().map(|waiter| Effect::Refuse(waiter, error.clone())));
    }
}

#[cfg(test)]
mod tests;
