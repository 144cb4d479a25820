//! Keeping engines warm: bounds for prewarming, and the task that keeps an engine with `prewarm: always` ready.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpctl_engine::{Engine, EngineError, EngineState, EngineStatus};
use tokio::time::Instant;

/// Before an engine that failed to start is started again, where its own backoff does not apply.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Bound of a start without waiters; the engine's own start timeout ends it earlier.
const START_TIMEOUT: Duration = Duration::from_secs(3600);

/// Most concurrent probes of the prewarm trigger for one provider: any caller can cause one, and it outlives the request.
const MAX_PROBES: usize = 8;

/// At most one prewarm at a time for each provider, and a bounded number of probes. Clones share it.
#[derive(Clone, Default)]
pub struct Prewarming(Arc<PrewarmingState>);

#[derive(Default)]
struct PrewarmingState {
    starting: AtomicBool,
    probes: AtomicUsize,
}

/// Held during a prewarm.
pub struct PrewarmStart(Arc<PrewarmingState>);

/// Held during a probe.
pub struct PrewarmProbe(Arc<PrewarmingState>);

impl Prewarming {
    /// Begins a prewarm, unless one is under way.
    pub fn begin_start(&self) -> Option<PrewarmStart> {
        (!self.0.starting.swap(true, Ordering::AcqRel)).then(|| PrewarmStart(Arc::clone(&self.0)))
    }

    /// Whether a prewarm is under way.
    pub fn is_starting(&self) -> bool {
        self.0.starting.load(Ordering::Acquire)
    }

    /// Begins a probe, unless too many are under way.
    pub fn begin_probe(&self) -> Option<PrewarmProbe> {
        let probe = PrewarmProbe(Arc::clone(&self.0));
        // Where there is no room, dropping it restores the count.
        (self.0.probes.fetch_add(1, Ordering::AcqRel) < MAX_PROBES).then_some(probe)
    }
}

impl Drop for PrewarmStart {
    fn drop(&mut self) {
        self.0.starting.store(false, Ordering::Release);
    }
}

impl Drop for PrewarmProbe {
    fn drop(&mut self) {
        self.0.probes.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps an engine ready for as long as it exists: starts it with the agent, again when its process ended, and after it was
/// preempted. One that the user stopped stays stopped until the user or a request starts it.
pub async fn keep(engine: Engine, stopped_by_user: Arc<AtomicBool>) {
    let mut progress = engine.progress();
    let mut reported = None;
    loop {
        engine.until_vacant().await;
        if stopped_by_user.load(Ordering::Acquire) {
            let started = |status: &EngineStatus| status.state == EngineState::Ready;
            if progress.wait_for(started).await.is_err() {
                return;
            }
        }
        match engine.warm_up(Instant::now() + START_TIMEOUT).await {
            Ok(()) => reported = None,
            Err(EngineError::ShuttingDown { .. }) => return,
            Err(EngineError::BackingOff { wait, .. }) => tokio::time::sleep(wait).await,
            Err(error) => {
                // Once: a missing program may be missing for days.
                if reported.as_ref() != Some(&error) {
                    tracing::warn!(%error, "an engine with `prewarm: always` is not ready");
                }
                reported = Some(error);
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        let needs_start = |status: &EngineStatus| {
            let running =
                matches!(status.state, EngineState::Starting | EngineState::Ready | EngineState::Draining);
            !running && !stopped_by_user.load(Ordering::Acquire)
        };
        if progress.wait_for(needs_start).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_probes_have_a_bound() {
        let prewarming = Prewarming::default();
        let held: Vec<_> = (0..MAX_PROBES * 2).map(|_| prewarming.begin_probe()).collect();
        assert_eq!(held.iter().flatten().count(), MAX_PROBES);
        assert!(prewarming.begin_probe().is_none());
        drop(held);
        assert!(prewarming.begin_probe().is_some() && prewarming.0.probes.load(Ordering::Acquire) == 0);
    }
}
