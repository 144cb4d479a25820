//! What requests do to an engine: they wait for their turn, run on it, release it, and have its health checked.

use std::time::Duration;

use tokio::time::Instant;

use super::{Effect, Lifecycle, Stage, Waiter, WaiterId};
use crate::error::EngineError;

/// The newest request weighs one part in so many in `Lifecycle::typical`.
const NEWEST_WEIGHT: u32 = 4;
/// Bounds of what a caller is asked to wait when there is no room.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Lifecycle {
    pub(super) fn wait(&mut self, waiter: Waiter, now: Instant, effects: &mut Vec<Effect>) {
        if self.ending {
            effects.push(Effect::Reject(waiter.id, self.shutting_down()));
            return;
        }
        self.stopped_by_user = false;
        let has_room = !waiter.is_request || self.has_room();
        let has_place = self.has_place();
        match &mut self.stage {
            Stage::Ready { checking: false, .. } if has_place => {
                self.in_flight += 1;
                effects.push(Effect::Grant(waiter.id));
            }
            Stage::BackingOff { until } if now < *until => {
                let wait = until.duration_since(now);
                effects.push(Effect::Reject(waiter.id, self.backing_off(wait)));
            }
            Stage::Sleeping { .. } => {
                self.waiters.push_back(waiter);
                self.wake(effects);
            }
            Stage::Stopped | Stage::BackingOff { .. } | Stage::Failed => {
                self.waiters.push_back(waiter);
                self.start(effects);
            }
            _ if !has_room => effects.push(Effect::Reject(waiter.id, self.busy())),
            Stage::Starting { abandoned_since, .. } => {
                *abandoned_since = None;
                self.waiters.push_back(waiter);
            }
            Stage::Ready { .. }
            | Stage::Draining { .. }
            | Stage::Stopping { .. }
            | Stage::FallingAsleep { .. } => self.waiters.push_back(waiter),
        }
    }

    /// Whether one more request may wait.
    fn has_room(&self) -> bool {
        // Requests that run on a draining engine are not ahead of those that wait for its next start.
        let running = if matches!(self.stage, Stage::Ready { .. }) { self.in_flight } else { 0 };
        let requests = self.waiters.iter().filter(|waiter| waiter.is_request).count();
        running + requests < self.policy.concurrency.saturating_add(self.policy.queue)
    }

    /// No-op for a waiter that was answered meanwhile: a guard that no caller took comes back as a release.
    pub(super) fn waiter_left(&mut self, id: WaiterId, now: Instant, effects: &mut Vec<Effect>) {
        self.waiters.retain(|waiter| waiter.id != id);
        if !self.is_abandoned() {
            return;
        }
        if let Stage::Starting { abandoned_since, waking, preempted } = &mut self.stage {
            abandoned_since.get_or_insert(now);
            // Another engine waits for its memory, and no waiter for it.
            if *preempted && !*waking {
                self.cancel_start(effects);
            }
        }
    }

    pub(super) fn released(&mut self, held: Duration, now: Instant, effects: &mut Vec<Effect>) {
        self.typical = (self.typical * (NEWEST_WEIGHT - 1) + held) / NEWEST_WEIGHT;
        self.in_flight = self.in_flight.saturating_sub(1);
        match &mut self.stage {
            Stage::Ready { idle_since, .. } => {
                *idle_since = now;
                self.serve_waiters(effects);
            }
            Stage::Draining { rest, .. } if self.in_flight == 0 => {
                let rest = *rest;
                self.rest(rest, effects);
            }
            _ => {}
        }
    }

    /// Gives free places to waiters, in their order.
    fn serve_waiters(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Ready { checking: false, .. }) {
            return;
        }
        while self.has_place()
            && let Some(waiter) = self.waiters.pop_front()
        {
            self.in_flight += 1;
            effects.push(Effect::Grant(waiter.id));
        }
    }

    pub(super) fn request_health_check(&mut self, effects: &mut Vec<Effect>) {
        match &mut self.stage {
            Stage::Ready { checking: checking @ false, .. } => {
                *checking = true;
                effects.push(Effect::CheckHealth);
            }
            // The stop waits for the other requests that run on it, perhaps in vain.
            Stage::Draining { .. } if self.in_flight >= 2 => effects.push(Effect::CheckHealth),
            _ => {}
        }
    }

    pub(super) fn health_check_passed(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Stage::Ready { checking: checking @ true, idle_since, .. } = &mut self.stage {
            *checking = false;
            *idle_since = (*idle_since).max(now);
            self.serve_waiters(effects);
        }
    }

    /// An engine that does not respond is as lost as one that has ended.
    pub(super) fn health_check_failed(
        &mut self,
        error: EngineError,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let checked = matches!(
            self.stage,
            Stage::Ready { checking: true, .. } | Stage::Draining { .. } | Stage::FallingAsleep { .. }
        );
        if checked {
            self.lost(error, now, effects);
        }
    }

    fn busy(&self) -> EngineError {
        let waiting = self.waiting();
        let turns = u32::try_from(waiting / self.policy.concurrency.max(1)).unwrap_or(u32::MAX);
        let retry_after = self.typical.saturating_mul(turns.saturating_add(1));
        EngineError::Busy {
            name: self.name.clone(),
            waiting,
            retry_after: retry_after.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER),
        }
    }

    fn shutting_down(&self) -> EngineError {
        EngineError::ShuttingDown { name: self.name.clone() }
    }

    pub(super) fn stopped(&self) -> EngineError {
        if self.ending { self.shutting_down() } else { EngineError::Stopped { name: self.name.clone() } }
    }

    pub(super) fn backing_off(&self, wait: Duration) -> EngineError {
        EngineError::BackingOff {
            name: self.name.clone(),
            failures: self.failures,
            wait,
            last: self.last_error.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}
