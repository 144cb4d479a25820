//! Engines that are started before they are needed: `always` with the agent, and `onTrouble` when the primary first shows
//! trouble to a caller who may use the stand-in. Neither holds a place on the engine: it is only made ready.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcpctl_engine::{Engine, EngineError, EngineState, EngineStatus};
use mcpctl_failover::{Access, Bearer};
use tokio::time::Instant;

use crate::{
    app::{App, Runtime},
    config::Prewarm,
    providers::LocalProvider,
};

/// Before an engine that could not be started is tried again, where it does not say itself how long it rests.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a start that nobody else waits for may take; it ends by itself before that.
const START_TIMEOUT: Duration = Duration::from_secs(3600);

/// Questions to the centre that go on at a time for one provider: any caller can cause one, and it outlives the request.
const MAX_CHECKS: usize = 8;

/// What a request knows of the primary, kept for the moment in which that shows trouble.
#[derive(Clone)]
pub struct PrewarmTrigger {
    app: Arc<App>,
    runtime: Arc<Runtime>,
    llm: String,
    bearer: Bearer,
}

impl PrewarmTrigger {
    /// For one request; nothing where no trouble would start anything.
    pub fn watch(app: &Arc<App>, runtime: &Arc<Runtime>, llm: &str, bearer: &Bearer) -> Option<Self> {
        let (_, running) = runtime.registry.failover_for(llm)?;
        (running.provider.prewarm() == Prewarm::OnTrouble).then(|| Self {
            app: Arc::clone(app),
            runtime: Arc::clone(runtime),
            llm: llm.to_owned(),
            bearer: bearer.clone(),
        })
    }

    /// The primary showed trouble: beside the request, and not ended with it, the stand-in is made ready, once the centre
    /// has said that this caller may use it. Nothing of the request goes there.
    pub fn shown(&self, how: &'static str) {
        let Some((name, running)) = self.runtime.registry.failover_for(&self.llm) else { return };
        if !running.warming.is_needed(running) {
            return;
        }
        let Some(check) = running.warming.check() else { return };
        let (this, name, running) = (self.clone(), name.to_owned(), running.clone());
        tokio::spawn(async move {
            let access =
                this.runtime.router(this.runtime.probe.clone()).check_access(&this.llm, &this.bearer).await;
            this.app.metrics.probe(access.as_str());
            tracing::info!(
                llm = this.llm,
                provider = name,
                how,
                access = access.as_str(),
                "the primary shows trouble"
            );
            drop(check);
            // Only now: a caller who is not allowed keeps no other from having it started.
            if access == Access::Allowed
                && let Some(begun) = running.warming.begin(&running)
            {
                make_ready(begun, running).await;
            }
        });
    }
}

/// For a caller whom the centre has just allowed: the start goes on even if that caller does not wait for its end.
pub fn go_on_without(running: &LocalProvider) {
    if running.provider.prewarm() == Prewarm::OnTrouble
        && let Some(begun) = running.warming.begin(running)
    {
        tokio::spawn(make_ready(begun, running.clone()));
    }
}

async fn make_ready(_begun: PrewarmStart, running: LocalProvider) {
    let Some(engine) = &running.engine else { return };
    if let Err(error) = engine.warm_up(Instant::now() + running.wait_timeout()).await {
        tracing::warn!(provider = %running.provider.name, %error, "the stand-in could not be made ready");
    }
}

/// At most one start ahead of need at a time, for each provider.
#[derive(Clone, Default)]
pub struct PrewarmState(Arc<PrewarmCounts>);

#[derive(Default)]
struct PrewarmCounts {
    /// Whether a start goes on.
    begun: AtomicBool,
    /// How many questions to the centre go on.
    checks: AtomicUsize,
}

/// Held while a start goes on.
struct PrewarmStart(Arc<PrewarmCounts>);

/// Held while the centre is asked.
struct PrewarmCheck(Arc<PrewarmCounts>);

impl PrewarmState {
    /// A ready engine is left alone, so that nobody's place in its queue is taken for nothing.
    fn begin(&self, running: &LocalProvider) -> Option<PrewarmStart> {
        let needed = self.is_needed(running) && !self.0.begun.swap(true, Ordering::AcqRel);
        needed.then(|| PrewarmStart(Arc::clone(&self.0)))
    }

    fn is_needed(&self, running: &LocalProvider) -> bool {
        let ready = |engine: &Engine| engine.progress().borrow().state == EngineState::Ready;
        let stopped = running.engine.as_ref().is_some_and(|engine| !ready(engine));
        stopped && !self.0.begun.load(Ordering::Acquire)
    }

    fn check(&self) -> Option<PrewarmCheck> {
        let check = PrewarmCheck(Arc::clone(&self.0));
        // Dropped where there is no room, it takes itself off again.
        (self.0.checks.fetch_add(1, Ordering::AcqRel) < MAX_CHECKS).then_some(check)
    }
}

impl Drop for PrewarmStart {
    fn drop(&mut self) {
        self.0.begun.store(false, Ordering::Release);
    }
}

impl Drop for PrewarmCheck {
    fn drop(&mut self) {
        self.0.checks.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps an engine ready for as long as it exists: starts it with the agent, again when it ended by itself, and when
/// another that took its memory has gone. Stopped by hand, it stays so until it is started by hand or by a request.
pub async fn keep(engine: Engine, by_hand: Arc<AtomicBool>) {
    let mut progress = engine.progress();
    let mut reported = None;
    loop {
        engine.until_vacant().await;
        if by_hand.load(Ordering::Acquire) {
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
                // Once: what is missing may be so for days.
                if reported.as_ref() != Some(&error) {
                    tracing::warn!(%error, "an engine that is to be kept ready is not");
                }
                reported = Some(error);
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        let wanted = |status: &EngineStatus| {
            let there =
                matches!(status.state, EngineState::Starting | EngineState::Ready | EngineState::Draining);
            !there && !by_hand.load(Ordering::Acquire)
        };
        if progress.wait_for(wanted).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_to_the_centre_have_a_bound() {
        let warming = PrewarmState::default();
        let held: Vec<_> = (0..MAX_CHECKS * 2).map(|_| warming.check()).collect();
        assert_eq!(held.iter().flatten().count(), MAX_CHECKS);
        assert!(warming.check().is_none());
        drop(held);
        assert!(warming.check().is_some() && warming.0.checks.load(Ordering::Acquire) == 0);
    }
}
