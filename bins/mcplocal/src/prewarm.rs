//! The prewarm trigger: with `prewarm: onTrouble` the local provider's engine is started when the primary is slow or fails,
//! before a request needs it. It is only made ready; nothing of a request goes there.

use std::sync::Arc;

use mcpctl_client::Probe;
use mcpctl_dialect::Form;
use mcpctl_failover::{AccessVerdict, FailoverRouter, LlmRef, ProviderRegistry};
use mcpctl_telemetry::McplocalMetrics;

use crate::{config::Prewarm, identity::Caller, providers::LocalProvider};

/// Starts the local provider of one request's Llm when the primary shows signs of failing.
#[derive(Clone)]
pub struct PrewarmTrigger {
    metrics: Arc<McplocalMetrics>,
    router: Arc<FailoverRouter<Probe, Form>>,
    provider: LocalProvider,
    llm: LlmRef,
    caller: Caller,
}

impl PrewarmTrigger {
    /// The trigger of one request; `None` where the Llm has no local provider with `prewarm: onTrouble`.
    pub fn new(
        metrics: &Arc<McplocalMetrics>,
        router: &Arc<FailoverRouter<Probe, Form>>,
        registry: &ProviderRegistry<LocalProvider>,
        llm: &LlmRef,
        caller: &Caller,
    ) -> Option<Self> {
        let (_, provider) = registry.failover_for(&llm.name)?;
        (provider.config.prewarm() == Prewarm::OnTrouble).then(|| Self {
            metrics: Arc::clone(metrics),
            router: Arc::clone(router),
            provider: provider.clone(),
            llm: llm.clone(),
            caller: caller.clone(),
        })
    }

    /// Starts the local provider in the background, after a probe has allowed this caller to use it. The start continues when
    /// the request has ended.
    pub fn fire(&self, reason: &'static str) {
        if !self.provider.needs_prewarm() {
            return;
        }
        let Some(probing) = self.provider.prewarm_probes.begin() else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let Self { metrics, router, provider, llm, caller } = this;
            let verdict = router.check_access(&llm, &caller.bearer, caller.local).await;
            let access = verdict.access();
            metrics.probe(access.as_str());
            tracing::info!(
                llm = llm.name,
                provider = %provider.config.name,
                reason,
                access = access.as_str(),
                "prewarm triggered by the primary"
            );
            drop(probing);
            // Only after the probe: a denied caller must not keep an allowed one from starting the engine.
            if let AccessVerdict::Allowed(_) | AccessVerdict::Leased { .. } = verdict {
                provider.prewarm();
            }
        });
    }
}

/// Starts the engine of a provider with `prewarm: onTrouble` for a caller whom the probe has just allowed; the start continues
/// if that caller leaves.
pub fn start_detached(provider: &LocalProvider) {
    if provider.config.prewarm() == Prewarm::OnTrouble {
        provider.prewarm();
    }
}
