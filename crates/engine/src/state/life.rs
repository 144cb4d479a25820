//! What becomes of an engine's process: it starts, is woken, drains, sleeps, is ended, ends by itself.

use std::{collections::VecDeque, mem, time::Duration};

use mcpctl_supervisor::restart_delay;
use tokio::time::Instant;

use super::{Effect, Machine, Rest, State, WaiterId};
use crate::error::EngineError;

impl Machine {
    pub(super) fn start(&mut self, waiters: VecDeque<WaiterId>, effects: &mut Vec<Effect>) {
        self.starts += 1;
        self.state = State::Starting { waiters, unwanted_since: None, waking: false, yields: false };
        effects.push(Effect::Start);
    }

    pub(super) fn wake(&mut self, waiters: VecDeque<WaiterId>, effects: &mut Vec<Effect>) {
        self.state = State::Starting { waiters, unwanted_since: None, waking: true, yields: false };
        effects.push(Effect::Wake);
    }

    /// A stop lets down whoever waits: they asked before it was to stop. What runs may go on until then.
    pub(super) fn stop(&mut self, for_good: bool, until: Option<Instant>, effects: &mut Vec<Effect>) {
        self.ending |= for_good;
        let nobody = VecDeque::new;
        match mem::replace(&mut self.state, State::Stopped) {
            State::Stopped | State::BackingOff { .. } | State::Failed => {
                self.failures = 0;
                effects.push(Effect::StopsDone);
            }
            State::Starting { waiters, .. } => {
                self.refuse(waiters, &self.stopped(), effects);
                effects.push(Effect::Cancel);
                self.broken_off();
            }
            State::Ready { in_flight: 0, queue, .. } => {
                self.refuse(queue, &self.stopped(), effects);
                self.end_proven(nobody(), effects);
            }
            State::Sleeping { .. } => self.end_proven(nobody(), effects),
            State::Ready { in_flight, queue: waiters, .. } => {
                self.refuse(waiters, &self.stopped(), effects);
                self.state = State::Draining { in_flight, until, waiters: nobody(), rest: Rest::Stop };
            }
            State::Draining { in_flight, until: already, waiters, .. } => {
                self.refuse(waiters, &self.stopped(), effects);
                let until = already.or(until);
                self.state = State::Draining { in_flight, until, waiters: nobody(), rest: Rest::Stop };
            }
            State::Dozing { waiters, stop } => {
                self.refuse(waiters, &self.stopped(), effects);
                self.state = State::Dozing { waiters: nobody(), stop };
                self.break_sleep_off(effects);
            }
            State::Stopping { waiters, failed } => {
                self.refuse(waiters, &self.stopped(), effects);
                self.state = State::Stopping { waiters: nobody(), failed };
            }
        }
    }

    /// It is to stop, so there is no use in waiting until it sleeps.
    fn break_sleep_off(&mut self, effects: &mut Vec<Effect>) {
        if let State::Dozing { stop: stop @ false, .. } = &mut self.state {
            *stop = true;
            effects.push(Effect::Cancel);
        }
    }

    /// Another engine wants its room: whoever runs on it may end, and whoever waits gets a later turn.
    pub(super) fn yield_room(&mut self, effects: &mut Vec<Effect>) {
        let rest = self.policy.rest;
        match mem::replace(&mut self.state, State::Stopped) {
            State::Starting { waiters, waking: false, .. } if waiters.is_empty() => {
                effects.push(Effect::Cancel);
                self.broken_off();
            }
            State::Starting { waiters, unwanted_since, waking, .. } => {
                self.state = State::Starting { waiters, unwanted_since, waking, yields: true };
            }
            // What it kept of the memory.
            State::Sleeping { .. } => self.end_proven(VecDeque::new(), effects),
            State::Ready { in_flight: 0, queue, .. } => self.rest(rest, queue, effects),
            State::Ready { in_flight, queue, .. } => {
                self.state = State::Draining { in_flight, until: None, waiters: queue, rest };
            }
            other => self.state = other,
        }
    }

    pub(super) fn started(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Starting { mut waiters, yields, .. } => {
                self.last_error = None;
                let served = waiters.len().min(self.policy.concurrency);
                effects.extend(waiters.drain(..served).map(Effect::Grant));
                self.state = match (yields, served) {
                    (false, _) => State::Ready {
                        in_flight: served,
                        queue: waiters,
                        since: now,
                        idle_since: now,
                        checking: false,
                    },
                    (true, 0) => return self.rest(self.policy.rest, waiters, effects),
                    (true, in_flight) => {
                        State::Draining { in_flight, until: None, waiters, rest: self.policy.rest }
                    }
                };
            }
            // Broken off in the very moment in which it was ready. In no other state is there a start.
            other => {
                effects.push(Effect::EndProcess);
                self.state = match other {
                    stopping @ State::Stopping { .. } => stopping,
                    _ => State::Stopping { waiters: VecDeque::new(), failed: false },
                };
            }
        }
    }

    pub(super) fn start_failed(
        &mut self,
        error: EngineError,
        left: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match mem::replace(&mut self.state, State::Stopped) {
            // It never was told to wake, and others may leave it room another time.
            State::Starting { waiters, waking: true, .. } if matches!(error, EngineError::NoRoom { .. }) => {
                self.refuse(waiters, &error, effects);
                self.last_error = Some(error);
                self.state = State::Sleeping { since: now };
                return;
            }
            // What cannot be woken is started anew, for those who wait.
            State::Starting { waiters, waking: true, .. } => {
                self.failed(error);
                self.state = State::Stopping { waiters, failed: true };
            }
            State::Starting { waiters, .. } => {
                // At once: nobody waits for what is left of it to go.
                self.refuse(waiters, &error, effects);
                self.failed(error);
                self.state = State::Stopping { waiters: VecDeque::new(), failed: true };
            }
            other => self.state = other,
        }
        if left {
            effects.push(Effect::EndProcess);
        } else {
            self.ended(now, effects);
        }
    }

    pub(super) fn slept(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Dozing { stop: true, waiters } => self.end_proven(waiters, effects),
            State::Dozing { waiters, .. } if waiters.is_empty() => {
                self.failures = 0;
                self.state = State::Sleeping { since: now };
            }
            State::Dozing { waiters, .. } => self.wake(waiters, effects),
            other => self.state = other,
        }
    }

    /// What cannot sleep is stopped; whoever waits gets the next start.
    pub(super) fn sleep_failed(&mut self, error: EngineError, effects: &mut Vec<Effect>) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Dozing { waiters, stop } => {
                if !stop {
                    self.last_error = Some(error);
                }
                self.end_proven(waiters, effects);
            }
            other => self.state = other,
        }
    }

    /// Ended without being asked to, with code 0 too: that is a failure.
    pub(super) fn exited(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        match self.state {
            State::Sleeping { .. } => {
                self.failed(error);
                effects.push(Effect::EndProcess);
                self.state = State::Stopping { waiters: VecDeque::new(), failed: true };
            }
            _ => self.fell(error, now, effects),
        }
    }

    /// What ran is gone, or as good as gone. Requests that run on it are lost with it; those that wait get the next start,
    /// unless it fails again and again.
    pub(super) fn fell(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        match mem::replace(&mut self.state, State::Stopped) {
            State::Ready { since, queue, .. } => {
                if now.duration_since(since) >= self.policy.proven {
                    self.failures = 0;
                }
                self.failed(error);
                effects.push(Effect::EndProcess);
                self.state = State::Stopping { waiters: queue, failed: true };
            }
            State::Draining { waiters, .. } => {
                effects.push(Effect::EndProcess);
                self.state = State::Stopping { waiters, failed: false };
            }
            dozing @ State::Dozing { .. } => {
                self.state = dozing;
                self.break_sleep_off(effects);
            }
            // A start and a waking notice it themselves.
            other => self.state = other,
        }
    }

    pub(super) fn ended(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (waiters, failed) = match mem::replace(&mut self.state, State::Stopped) {
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
        let costly = failed && self.last_error.as_ref().is_some_and(EngineError::is_costly);
        let rest = if costly { restart_delay(self.failures) } else { Duration::ZERO };
        if !rest.is_zero() {
            self.refuse(waiters, &self.resting(rest), effects);
            self.state = State::BackingOff { until: now + rest };
        } else if !waiters.is_empty() {
            self.start(waiters, effects);
        } else if failed {
            self.state = State::Failed;
        }
    }

    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.state {
            State::Starting { .. } => {
                effects.push(Effect::Cancel);
                self.broken_off();
            }
            State::Sleeping { .. } => self.end_proven(VecDeque::new(), effects),
            State::Ready { .. } => self.rest(self.policy.rest, VecDeque::new(), effects),
            State::Draining { .. } => {
                if let State::Draining { waiters, .. } = mem::replace(&mut self.state, State::Stopped) {
                    self.end_proven(waiters, effects);
                }
            }
            State::BackingOff { .. } => self.state = State::Failed,
            State::Stopped | State::Dozing { .. } | State::Stopping { .. } | State::Failed => {}
        }
    }

    /// The last request that ran while it was draining has ended.
    pub(super) fn drained(&mut self, effects: &mut Vec<Effect>) {
        if let State::Draining { waiters, rest, .. } = mem::replace(&mut self.state, State::Stopped) {
            self.rest(rest, waiters, effects);
        }
    }

    fn rest(&mut self, rest: Rest, waiters: VecDeque<WaiterId>, effects: &mut Vec<Effect>) {
        match rest {
            Rest::Stop => self.end_proven(waiters, effects),
            Rest::Sleep => {
                effects.push(Effect::Sleep);
                self.state = State::Dozing { waiters, stop: false };
            }
        }
    }

    /// A start that nobody waits for any more is no failure.
    pub(super) fn broken_off(&mut self) {
        self.state = State::Stopping { waiters: VecDeque::new(), failed: false };
    }

    /// Ends an engine that worked until it was asked to stop.
    fn end_proven(&mut self, waiters: VecDeque<WaiterId>, effects: &mut Vec<Effect>) {
        self.failures = 0;
        self.state = State::Stopping { waiters, failed: false };
        effects.push(Effect::EndProcess);
    }

    pub(super) fn failed(&mut self, error: EngineError) {
        if error.is_costly() {
            self.failures = self.failures.saturating_add(1);
        }
        self.last_error = Some(error);
    }
}
