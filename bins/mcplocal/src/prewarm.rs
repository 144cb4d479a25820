//! The prewarm trigger: with `prewarm: onTrouble` the local provider's engine is started when the primary is slow or fails,
//! before a request needs it. It is only made ready; nothing of a request goes there.

use std::sync::Arc;

use mcpctl_client::Probe;
use mcpctl_dialect::Form;
use mcpctl_failover::{Access, Bearer, FailoverRouter, ProviderRegistry};
use mcpctl_telemetry::McplocalMetrics;

use crate::{config::Prewarm, providers::LocalProvider};

/// Starts the local provider of one request's Llm when the primary shows signs of failing.
#[derive(Clone)]
pub struct PrewarmTrigger {
    metrics: Arc<McplocalMetrics>,
    router: Arc<FailoverRouter<Probe, Form>>,
    provider: LocalProvider,
    llm: String,
    bearer: Bearer,
}

impl PrewarmTrigger {
    /// The trigger of one request; `None` where the Llm has no local provider with `prewarm: onTrouble`.
    pub fn new(
        metrics: &Arc<McplocalMetrics>,
        router: &Arc<FailoverRouter<Probe, Form>>,
        registry: &ProviderRegistry<LocalProvider>,
        llm: &str,
        bearer: &Bearer,
    ) -> Option<Self> {
        let (_, provider) = registry.failover_for(llm)?;
        (provider.config.prewarm() == Prewarm::OnTrouble).then(|| Self {
            metrics: Arc::clone(metrics),
            router: Arc::clone(router),
            provider: provider.clone(),
            llm: llm.to_owned(),
            bearer: bearer.clone(),
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
            let Self { metrics, router, provider, llm, bearer } = this;
            let access = router.check_access(&llm, &bearer).await;
            metrics.probe(access.as_str());
            tracing::info!(
                llm,
                provider = %provider.config.name,
                reason,
                access = access.as_str(),
                "prewarm triggered by the primary"
            );
            drop(probing);
            // Only after the probe: a denied caller must not keep an allowed one from starting the engine.
            if access == Access::Allowed {
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
