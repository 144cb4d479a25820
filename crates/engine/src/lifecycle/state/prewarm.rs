//! Starts that no request waits for: a prewarm, and an engine that is kept ready for as long as the agent runs.

use std::time::Duration;

use tokio::time::Instant;

use super::{Effect, Lifecycle, Stage};

/// How long an engine that is kept ready waits after a failed start, unless its backoff is longer.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

impl Lifecycle {
    /// Makes the engine ready although no request waits for it. No-op where it is ready, where a prewarm is pending already,
    /// while it backs off, and after a user has stopped it.
    pub(super) fn prewarm(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.ending || self.stopped_by_user {
            return;
        }
        match &mut self.stage {
            Stage::Ready { .. } => return,
            Stage::BackingOff { until } if now < *until => return,
            Stage::Sleeping { .. } => self.wake(effects),
            Stage::Stopped | Stage::BackingOff { .. } | Stage::Failed => self.start(effects),
            Stage::Starting { abandoned_since, .. } => *abandoned_since = None,
            // It starts again, or wakes, once that has ended.
            Stage::Draining { .. } | Stage::FallingAsleep { .. } | Stage::Stopping { .. } => {}
        }
        self.prewarming.get_or_insert(now + self.policy.prewarm_timeout);
    }

    /// Whether a start would be in vain: neither a waiter nor a prewarm wants the engine.
    pub(super) fn is_abandoned(&self) -> bool {
        self.waiters.is_empty() && self.prewarming.is_none()
    }

    /// Ends a prewarm that has taken too long, such as one that waits for memory that a long stream holds.
    pub(super) fn expire_prewarm(&mut self, now: Instant) {
        if self.prewarming.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.prewarming = None;
        if let (true, Stage::Starting { abandoned_since, .. }) = (self.waiters.is_empty(), &mut self.stage) {
            abandoned_since.get_or_insert(now);
        }
    }

    /// Looks for memory for an engine that is kept ready and does not run, as often as it takes.
    pub(super) fn keep_ready(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.has_to_start() && !self.awaiting_memory && self.retry_at.is_none_or(|at| now >= at) {
            self.retry_at = None;
            self.awaiting_memory = true;
            effects.push(Effect::AwaitMemory);
        }
    }

    /// A start would preempt no other engine now.
    pub(super) fn memory_available(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.awaiting_memory = false;
        if self.has_to_start() {
            self.prewarm(now, effects);
        }
    }

    /// When an engine that is kept ready looks for memory again.
    pub(super) fn retry_deadline(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.has_to_start() && !self.awaiting_memory)
    }

    pub(super) fn retry_later(&mut self, now: Instant) {
        self.retry_at = self.policy.keep.then(|| now + RETRY_INTERVAL);
    }

    fn has_to_start(&self) -> bool {
        let rests = matches!(self.stage, Stage::Stopped | Stage::Sleeping { .. } | Stage::Failed);
        self.policy.keep && rests && !self.stopped_by_user && !self.ending
    }
}
