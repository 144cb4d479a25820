//! What an engine does next: `(Machine, Event, now) -> (Machine, Effects)`, without processes, sockets or clocks, so
//! that every order of events is a test. The actor performs the effects; which process runs is not known here.
//!
//! At most one process exists at a time: `Start` is only asked for in a state that has none, and a state that has one
//! is left only through `Stopping`, which waits for `Event::Ended`.

use std::time::Duration;

use tokio::time::Instant;

use crate::{backoff, error::EngineError};

/// Somebody who waits for the engine.
pub(crate) type WaiterId = u64;

/// For how long what is borne.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Without a request, until it is stopped.
    pub(crate) idle: Duration,
    /// With running requests, once it is to stop.
    pub(crate) drain: Duration,
    /// With a start that nobody waits for; none: it goes on to the end.
    pub(crate) unwanted: Option<Duration>,
    /// After so long in the state ready an exit is a new misfortune and no crash loop.
    pub(crate) proven: Duration,
}

/// Where an engine is in its life, with what belongs to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Stopped,
    Starting {
        waiters: Vec<WaiterId>,
        unwanted_since: Option<Instant>,
    },
    Ready {
        in_flight: usize,
        since: Instant,
        idle_since: Instant,
    },
    /// Takes nobody new; whoever comes waits for the next start.
    Draining {
        in_flight: usize,
        until: Instant,
        waiters: Vec<WaiterId>,
    },
    /// Told to end, and not gone yet. `failed`: it was its own end, or a start that failed.
    Stopping {
        waiters: Vec<WaiterId>,
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
    /// A waiter went away.
    Left(WaiterId),
    /// A guard of this start was dropped.
    Released { start: u32 },
    /// It is to drain and stop; for good where the agent ends.
    Stop { for_good: bool },
    /// The start came to a ready engine.
    Started,
    /// The start failed; `left`: there is a process that has to be ended.
    StartFailed { error: EngineError, left: bool },
    /// The ready engine of this start ended by itself.
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
    /// Break the start off; it reports how it ended all the same.
    CancelStart,
    /// End the process, and report when it is gone.
    EndProcess,
    /// Give a guard.
    Grant(WaiterId),
    /// Let a waiter down.
    Refuse(WaiterId, EngineError),
    /// Whoever asked for a stop has got it.
    StopsDone,
}

/// An engine's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    name: String,
    patience: Patience,
    state: State,
    /// In a row.
    failures: u32,
    starts: u32,
    last_error: Option<EngineError>,
    /// Stopped for good: nothing is started any more.
    ending: bool,
}

impl Machine {
    pub(crate) fn new(name: String, patience: Patience) -> Self {
        Self {
            name,
            patience,
            state: State::Stopped,
            failures: 0,
            starts: 0,
            last_error: None,
            ending: false,
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
    pub(crate) fn is_over(&self) -> bool {
        self.ending && self.state == State::Stopped
    }

    /// When a `Tick` is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Starting { unwanted_since, .. } => {
                unwanted_since.zip(self.patience.unwanted).map(|(since, limit)| since + limit)
            }
            State::Ready { in_flight: 0, idle_since, .. } => Some(*idle_since + self.patience.idle),
            State::Draining { until, .. } | State::BackingOff { until } => Some(*until),
            State::Stopped | State::Ready { .. } | State::Stopping { .. } | State::Failed => None,
        }
    }

    /// The next state, and what is to be done.
    pub(crate) fn step(mut self, event: Event, now: Instant) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        match event {
            Event::Ask(waiter) => self.ask(waiter, now, &mut effects),
            Event::Left(waiter) => self.left(waiter, now),
            Event::Released { start } if start == self.starts => self.released(now, &mut effects),
            Event::Released { .. } => {}
            Event::Stop { for_good } => self.stop(for_good, now, &mut effects),
            Event::Started => self.started(now, &mut effects),
            Event::StartFailed { error, left } => self.start_failed(error, left, now, &mut effects),
            Event::Exited { start, error } if start == self.starts => {
                self.exited(error, now, &mut effects);
            }
            Event::Exited { .. } => {}
            Event::Ended => self.ended(now, &mut effects),
            Event::Tick => self.tick(now, &mut effects),
        }
        (self, effects)
    }

    fn ask(&mut self, waiter: WaiterId, now: Instant, effects: &mut Vec<Effect>) {
        if self.ending {
            effects.push(Effect::Refuse(waiter, self.shutting_down()));
            return;
        }
        match &mut self.state {
            State::Starting { waiters, unwanted_since } => {
                waiters.push(waiter);
                *unwanted_since = None;
            }
            State::Ready { in_flight, .. } => {
                *in_flight += 1;
                effects.push(Effect::Grant(waiter));
            }
            State::Draining { waiters, .. } | State::Stopping { waiters, .. } => waiters.push(waiter),
            State::BackingOff { until } if now < *until => {
                let wait = until.duration_since(now);
                effects.push(Effect::Refuse(waiter, self.resting(wait)));
            }
            State::Stopped | State::BackingOff { .. } | State::Failed => self.start(vec![waiter], effects),
        }
    }

    fn left(&mut self, waiter: WaiterId, now: Instant) {
        match &mut self.state {
            State::Starting { waiters, unwanted_since } => {
                waiters.retain(|other| *other != waiter);
                if waiters.is_empty() && unwanted_since.is_none() {
                    *unwanted_since = Some(now);
                }
            }
            State::Draining { waiters, .. } | State::Stopping { waiters, .. } => {
                waiters.retain(|other| *other != waiter);
            }
            // Answered meanwhile: a guard that nobody took comes back as a release.
            State::Stopped | State::Ready { .. } | State::BackingOff { .. } | State::Failed => {}
        }
    }

    fn released(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Ready { in_flight, idle_since, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                *idle_since = now;
            }
            State::Draining { in_flight, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                if *in_flight == 0 {
                    self.end_drained(effects);
                }
            }
            _ => {}
        }
    }

    /// A stop lets down whoever waits: they asked before it was to stop.
    fn stop(&mut self, for_good: bool, now: Instant, effects: &mut Vec<Effect>) {
        self.ending |= for_good;
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Stopped | State::BackingOff { .. } | State::Failed => {
                self.failures = 0;
                effects.push(Effect::StopsDone);
            }
            State::Starting { waiters, .. } => {
                self.refuse(waiters, &self.stopped(), effects);
                effects.push(Effect::CancelStart);
                self.state = State::Stopping { waiters: Vec::new(), failed: false };
            }
            State::Ready { in_flight: 0, .. } => self.end_proven(effects),
            State::Ready { in_flight, .. } => {
                let until = now + self.patience.drain;
                self.state = State::Draining { in_flight, until, waiters: Vec::new() };
            }
            State::Draining { in_flight, until, waiters } => {
                self.refuse(waiters, &self.stopped(), effects);
                self.state = State::Draining { in_flight, until, waiters: Vec::new() };
            }
            State::Stopping { waiters, failed } => {
                self.refuse(waiters, &self.stopped(), effects);
                self.state = State::Stopping { waiters: Vec::new(), failed };
            }
        }
    }

    fn started(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Starting { waiters, .. } => {
                self.last_error = None;
                self.state = State::Ready { in_flight: waiters.len(), since: now, idle_since: now };
                effects.extend(waiters.into_iter().map(Effect::Grant));
            }
            // Broken off in the very moment in which it was ready. In no other state is there a start.
            other => {
                effects.push(Effect::EndProcess);
                self.state = match other {
                    stopping @ State::Stopping { .. } => stopping,
                    _ => State::Stopping { waiters: Vec::new(), failed: false },
                };
            }
        }
    }

    fn start_failed(&mut self, error: EngineError, left: bool, now: Instant, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Starting { waiters, .. } => {
                // At once: nobody waits for what is left of it to go.
                self.refuse(waiters, &error, effects);
                self.failed(error);
                self.state = State::Stopping { waiters: Vec::new(), failed: true };
            }
            other => self.state = other,
        }
        if left {
            effects.push(Effect::EndProcess);
        } else {
            self.ended(now, effects);
        }
    }

    /// Ended without being asked to, with code 0 too: that is a failure.
    fn exited(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Ready { since, .. } => {
                if now.duration_since(since) >= self.patience.proven {
                    self.failures = 0;
                }
                self.failed(error);
                effects.push(Effect::EndProcess);
                self.state = State::Stopping { waiters: Vec::new(), failed: true };
            }
            State::Draining { waiters, .. } => {
                effects.push(Effect::EndProcess);
                self.state = State::Stopping { waiters, failed: false };
            }
            other => self.state = other,
        }
    }

    fn ended(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (waiters, failed) = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Stopping { waiters, failed } => (waiters, failed),
            other => {
                self.state = other;
                return;
            }
        };
        effects.push(Effect::StopsDone);
        if self.ending {
            // Nobody waits: the stop let down whoever did, and whoever came after it.
            return;
        }
        // What is missing is looked for anew by every request, which costs nothing: only engines that ran rest.
        let costly = failed && !matches!(self.last_error, Some(EngineError::Spec { .. }));
        let rest = if costly { backoff::rest(self.failures) } else { Duration::ZERO };
        if !rest.is_zero() {
            self.refuse(waiters, &self.resting(rest), effects);
            self.state = State::BackingOff { until: now + rest };
        } else if !waiters.is_empty() {
            self.start(waiters, effects);
        } else if failed {
            self.state = State::Failed;
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.state {
            State::Starting { .. } => {
                effects.push(Effect::CancelStart);
                self.state = State::Stopping { waiters: Vec::new(), failed: false };
            }
            State::Ready { .. } => self.end_proven(effects),
            State::Draining { .. } => self.end_drained(effects),
            State::BackingOff { .. } => self.state = State::Failed,
            State::Stopped | State::Stopping { .. } | State::Failed => {}
        }
    }

    fn start(&mut self, waiters: Vec<WaiterId>, effects: &mut Vec<Effect>) {
        self.starts += 1;
        self.state = State::Starting { waiters, unwanted_since: None };
        effects.push(Effect::Start);
    }

    /// Ends an engine that worked until it was asked to stop.
    fn end_proven(&mut self, effects: &mut Vec<Effect>) {
        self.failures = 0;
        self.state = State::Stopping { waiters: Vec::new(), failed: false };
        effects.push(Effect::EndProcess);
    }

    fn end_drained(&mut self, effects: &mut Vec<Effect>) {
        if let State::Draining { waiters, .. } = std::mem::replace(&mut self.state, State::Stopped) {
            self.end_proven(effects);
            self.state = State::Stopping { waiters, failed: false };
        }
    }

    fn failed(&mut self, error: EngineError) {
        if !matches!(error, EngineError::Spec { .. }) {
            self.failures = self.failures.saturating_add(1);
        }
        self.last_error = Some(error);
    }

    fn refuse(&self, waiters: Vec<WaiterId>, error: &EngineError, effects: &mut Vec<Effect>) {
        effects.extend(waiters.into_iter().map(|waiter| Effect::Refuse(waiter, error.clone())));
    }

    fn shutting_down(&self) -> EngineError {
        EngineError::ShuttingDown { name: self.name.clone() }
    }

    fn stopped(&self) -> EngineError {
        if self.ending { self.shutting_down() } else { EngineError::Stopped { name: self.name.clone() } }
    }

    fn resting(&self, wait: Duration) -> EngineError {
        EngineError::BackingOff {
            name: self.name.clone(),
            failures: self.failures,
            wait,
            last: self.last_error.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
