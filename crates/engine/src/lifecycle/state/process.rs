//! What becomes of an engine's process: it starts, is woken, drains, sleeps, is ended, ends by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Effect, Lifecycle, Rest, Stage, StopCause};
use crate::error::EngineError;

impl Lifecycle {
    pub(super) fn start(&mut self, effects: &mut Vec<Effect>) {
        self.starts += 1;
        self.stage = Stage::Starting { abandoned_since: None, waking: false, preempted: false };
        effects.push(Effect::Start);
    }

    pub(super) fn wake(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Starting { abandoned_since: None, waking: true, preempted: false };
        effects.push(Effect::Wake);
    }

    /// Rejects all waiters, because they came before the stop. Running requests may go on for a while.
    pub(super) fn stop(&mut self, cause: StopCause, now: Instant, effects: &mut Vec<Effect>) {
        self.ending |= cause != StopCause::User;
        self.stopped_by_user |= cause == StopCause::User;
        let until = (cause != StopCause::Retirement).then(|| now + self.policy.drain_timeout);
        let error = self.stopped();
        self.reject_waiters(&error, effects);
        match &mut self.stage {
            Stage::Stopped | Stage::BackingOff { .. } | Stage::Failed => {
                self.failures = 0;
                self.stage = Stage::Stopped;
                effects.push(Effect::ReportStopped);
            }
            Stage::Starting { .. } => self.cancel_start(effects),
            Stage::Sleeping { .. } => self.end_proven(effects),
            Stage::Ready { .. } if self.in_flight == 0 => self.end_proven(effects),
            Stage::Ready { .. } => self.stage = Stage::Draining { until, rest: Rest::Stop },
            Stage::Draining { until: earlier, rest } => {
                *earlier = earlier.or(until);
                *rest = Rest::Stop;
            }
            Stage::FallingAsleep { .. } => self.cancel_sleep(effects),
            Stage::Stopping { .. } => {}
        }
    }

    /// Another engine needs its memory. Running requests may end, and waiters get a later start.
    pub(super) fn preempt(&mut self, effects: &mut Vec<Effect>) {
        let (rest, abandoned) = (self.policy.rest, self.is_abandoned());
        match &mut self.stage {
            Stage::Starting { waking: false, .. } if abandoned => self.cancel_start(effects),
            Stage::Starting { preempted, .. } => *preempted = true,
            // A sleeping engine has kept some of the memory.
            Stage::Sleeping { .. } => self.end_proven(effects),
            Stage::Ready { .. } if self.in_flight == 0 => self.rest(rest, effects),
            Stage::Ready { .. } => self.stage = Stage::Draining { until: None, rest },
            _ => {}
        }
    }

    pub(super) fn started(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Starting { preempted, .. } => {
                self.last_error = None;
                self.prewarming = None;
                self.retry_at = None;
                let served = self.waiters.len().min(self.policy.concurrency);
                effects.extend(self.waiters.drain(..served).map(|waiter| Effect::Grant(waiter.id)));
                self.in_flight = served;
                let rest = self.policy.rest;
                match (preempted, served) {
                    (false, _) => {
                        self.stage = Stage::Ready { since: now, idle_since: now, checking: false };
                    }
                    (true, 0) => self.rest(rest, effects),
                    (true, _) => self.stage = Stage::Draining { until: None, rest },
                }
            }
            // Cancelled at the very moment at which it was ready. No other stage has a start.
            Stage::Stopping { .. } => effects.push(Effect::EndProcess),
            _ => self.end(false, effects),
        }
    }

    pub(super) fn start_failed(
        &mut self,
        error: EngineError,
        process_left: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match self.stage {
            // It was not woken yet, and other engines may leave it room another time.
            Stage::Starting { waking: true, .. } if matches!(error, EngineError::NoRoom { .. }) => {
                self.reject_waiters(&error, effects);
                self.last_error = Some(error);
                self.stage = Stage::Sleeping { since: now };
                self.retry_later(now);
                return;
            }
            // A process that cannot be woken is replaced, for those that wait.
            Stage::Starting { waking: true, .. } => {
                self.failed(error);
                self.stage = Stage::Stopping { failed: true };
            }
            Stage::Starting { .. } => {
                // At once: waiters need not wait until the rest of the process is gone.
                self.reject_waiters(&error, effects);
                self.failed(error);
                self.stage = Stage::Stopping { failed: true };
                self.retry_later(now);
            }
            _ => {}
        }
        if process_left {
            effects.push(Effect::EndProcess);
        } else {
            self.process_ended(now, effects);
        }
    }

    pub(super) fn fell_asleep(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::FallingAsleep { stop: true } => self.end_proven(effects),
            Stage::FallingAsleep { .. } if self.is_abandoned() => {
                self.failures = 0;
                self.stage = Stage::Sleeping { since: now };
            }
            Stage::FallingAsleep { .. } => self.wake(effects),
            _ => {}
        }
    }

    /// An engine that cannot sleep is stopped; waiters get the next start.
    pub(super) fn sleep_failed(&mut self, error: EngineError, effects: &mut Vec<Effect>) {
        if let Stage::FallingAsleep { stop } = self.stage {
            if !stop {
                self.last_error = Some(error);
            }
            self.end_proven(effects);
        }
    }

    /// An exit that nothing asked for is a failure, with code 0 too.
    pub(super) fn exited(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Sleeping { .. } => {
                self.failed(error);
                self.end(true, effects);
            }
            _ => self.lost(error, now, effects),
        }
    }

    /// The process is gone, or as good as gone. Requests that run on it are lost with it; waiters get the next start, unless
    /// the engine fails again and again.
    pub(super) fn lost(&mut self, error: EngineError, now: Instant, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Ready { since, .. } => {
                if now.duration_since(since) >= self.policy.proven_after {
                    self.failures = 0;
                }
                self.failed(error);
                self.end(true, effects);
            }
            Stage::Draining { .. } => self.end(false, effects),
            Stage::FallingAsleep { .. } => self.cancel_sleep(effects),
            // A start and a waking notice it themselves.
            _ => {}
        }
    }

    pub(super) fn process_ended(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Stage::Stopping { failed } = self.stage else { return };
        self.stage = Stage::Stopped;
        effects.push(Effect::ReportStopped);
        if self.ending {
            // There is no waiter: the stop rejected them, and every later one was rejected at once.
            return;
        }
        let costly = failed && self.last_error.as_ref().is_some_and(EngineError::is_costly);
        let wait = if costly { mcpctl_supervisor::restart_delay(self.failures) } else { Duration::ZERO };
        if !wait.is_zero() {
            let error = self.backing_off(wait);
            self.reject_waiters(&error, effects);
            self.stage = Stage::BackingOff { until: now + wait };
        } else if !self.is_abandoned() {
            self.start(effects);
        } else if failed {
            self.stage = Stage::Failed;
        }
    }

    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.expire_prewarm(now);
        if self.stage_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.stage {
            Stage::Starting { .. } => self.cancel_start(effects),
            Stage::Sleeping { .. } | Stage::Draining { .. } => self.end_proven(effects),
            Stage::Ready { .. } => self.rest(self.policy.rest, effects),
            Stage::BackingOff { .. } => self.stage = Stage::Failed,
            Stage::Stopped | Stage::FallingAsleep { .. } | Stage::Stopping { .. } | Stage::Failed => {}
        }
    }

    pub(super) fn rest(&mut self, rest: Rest, effects: &mut Vec<Effect>) {
        match rest {
            Rest::Stop => self.end_proven(effects),
            Rest::Sleep => {
                effects.push(Effect::Sleep);
                self.stage = Stage::FallingAsleep { stop: false };
            }
        }
    }

    /// A start that no waiter waits for any more is no failure.
    pub(super) fn cancel_start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Cancel);
        self.stage = Stage::Stopping { failed: false };
    }

    /// An engine that has to stop need not fall asleep first.
    fn cancel_sleep(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::FallingAsleep { stop: stop @ false } = &mut self.stage {
            *stop = true;
            effects.push(Effect::Cancel);
        }
    }

    /// Ends an engine that worked until it had to stop.
    fn end_proven(&mut self, effects: &mut Vec<Effect>) {
        self.failures = 0;
        self.end(false, effects);
    }

    fn end(&mut self, failed: bool, effects: &mut Vec<Effect>) {
        self.in_flight = 0;
        self.stage = Stage::Stopping { failed };
        effects.push(Effect::EndProcess);
    }

    fn failed(&mut self, error: EngineError) {
        if error.is_costly() {
            self.failures = self.failures.saturating_add(1);
        }
        self.last_error = Some(error);
    }
}
