//! What requests do to an engine: they ask, wait for their turn, hold it, let go of it, and doubt it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Effect, Machine, State, WaiterId};
use crate::error::EngineError;

/// The share of the newest request in what requests typically take: one in so many.
const NEWEST: u32 = 4;
/// Bounds of what a caller is told to wait when there is no room.
const RETRY_SOONEST: Duration = Duration::from_secs(1);
const RETRY_LATEST: Duration = Duration::from_secs(60);

impl Machine {
    /// `warms`: ahead of need, which takes nobody's place and has room wherever others have none.
    pub(super) fn ask(&mut self, waiter: WaiterId, warms: bool, now: Instant, effects: &mut Vec<Effect>) {
        if self.ending {
            effects.push(Effect::Refuse(waiter, self.shutting_down()));
            return;
        }
        let concurrency = self.policy.concurrency;
        let bound = concurrency.saturating_add(self.policy.queue);
        // What still runs on a start that drains is not in the way of those who wait for the next one.
        let running = if matches!(self.state, State::Ready { .. }) { self.in_flight() } else { 0 };
        let has_room = warms || running + self.waiting().saturating_sub(self.warming.len()) < bound;
        let queue = match &mut self.state {
            State::Ready { in_flight, checking: false, .. } if *in_flight < concurrency => {
                *in_flight += 1;
                effects.push(Effect::Grant(waiter));
                return;
            }
            State::Starting { waiters, unwanted_since, .. } if has_room => {
                *unwanted_since = None;
                waiters
            }
            State::Ready { queue: waiters, .. }
            | State::Draining { waiters, .. }
            | State::Stopping { waiters, .. }
            | State::Dozing { waiters, .. }
                if has_room =>
            {
                waiters
            }
            State::Ready { .. }
            | State::Starting { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Dozing { .. } => {
                effects.push(Effect::Refuse(waiter, self.busy()));
                return;
            }
            State::BackingOff { until } if now < *until => {
                let wait = until.duration_since(now);
                effects.push(Effect::Refuse(waiter, self.resting(wait)));
                return;
            }
            State::Sleeping { .. } => {
                self.wake(VecDeque::from([waiter]), effects);
                return;
            }
            State::Stopped | State::BackingOff { .. } | State::Failed => {
                self.start(VecDeque::from([waiter]), effects);
                return;
            }
        };
        queue.push_back(waiter);
    }

    pub(super) fn left(&mut self, waiter: WaiterId, now: Instant, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Starting { waiters, unwanted_since, waking, yields } => {
                waiters.retain(|other| *other != waiter);
                if !waiters.is_empty() {
                    return;
                }
                unwanted_since.get_or_insert(now);
                // Somebody else waits for its room, and nobody for it.
                if *yields && !*waking {
                    effects.push(Effect::Cancel);
                    self.broken_off();
                }
            }
            State::Ready { queue: waiters, .. }
            | State::Draining { waiters, .. }
            | State::Stopping { waiters, .. }
            | State::Dozing { waiters, .. } => waiters.retain(|other| *other != waiter),
            // Answered meanwhile: a guard that nobody took comes back as a release.
            State::Stopped | State::Sleeping { .. } | State::BackingOff { .. } | State::Failed => {}
        }
    }

    pub(super) fn released(&mut self, held: Duration, now: Instant, effects: &mut Vec<Effect>) {
        self.typical = (self.typical * (NEWEST - 1) + held) / NEWEST;
        match &mut self.state {
            State::Ready { in_flight, idle_since, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                *idle_since = now;
                self.serve_queue(effects);
            }
            State::Draining { in_flight, .. } => {
                *in_flight = in_flight.saturating_sub(1);
                if *in_flight == 0 {
                    self.drained(effects);
                }
            }
            _ => {}
        }
    }

    /// Gives free places to those who wait, in the order in which they came.
    pub(super) fn serve_queue(&mut self, effects: &mut Vec<Effect>) {
        let State::Ready { in_flight, queue, checking: false, .. } = &mut self.state else { return };
        while *in_flight < self.policy.concurrency
            && let Some(waiter) = queue.pop_front()
        {
            *in_flight += 1;
            effects.push(Effect::Grant(waiter));
        }
    }

    pub(super) fn suspect(&mut self, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Ready { checking: checking @ false, .. } => {
                *checking = true;
                effects.push(Effect::Check);
            }
            // Whoever waits for the others that run on it may wait for nothing.
            State::Draining { in_flight: 2.., .. } => effects.push(Effect::Check),
            _ => {}
        }
    }

    pub(super) fn sound(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let State::Ready { checking: checking @ true, idle_since, .. } = &mut self.state {
            *checking = false;
            *idle_since = (*idle_since).max(now);
            self.serve_queue(effects);
        }
    }

    /// It does not answer: as bad as if it had ended.
    pub(super) fn broken(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        let checked = matches!(
            self.state,
            State::Ready { checking: true, .. } | State::Draining { .. } | State::Dozing { .. }
        );
        if checked {
            self.fell(error, now, effects);
        }
    }

    fn busy(&self) -> EngineError {
        let waiting = self.waiting();
        let turns = u32::try_from(waiting / self.policy.concurrency.max(1)).unwrap_or(u32::MAX);
        let retry_after = self.typical.saturating_mul(turns.saturating_add(1));
        EngineError::Busy {
            name: self.name.clone(),
            waiting,
            retry_after: retry_after.clamp(RETRY_SOONEST, RETRY_LATEST),
        }
    }

    pub(super) fn shutting_down(&self) -> EngineError {
        EngineError::ShuttingDown { name: self.name.clone() }
    }

    pub(super) fn stopped(&self) -> EngineError {
        if self.ending { self.shutting_down() } else { EngineError::Stopped { name: self.name.clone() } }
    }

    pub(super) fn resting(&self, wait: Duration) -> EngineError {
        EngineError::BackingOff {
            name: self.name.clone(),
            failures: self.failures,
            wait,
            last: self.last_error.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}
