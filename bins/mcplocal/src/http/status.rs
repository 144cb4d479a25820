//! The agent's status, for its user and for monitoring.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use mcpctl_api::{
    agent::{
        AgentStatus, FailoverRecord, FailoverRoute, FeedStatus, FollowState, LeasedLlm, PrimaryBreaker,
        ProviderStatus, UnknownName,
    },
    breaker_status::BreakerStatus,
};
use mcpctl_engine::Arbiter;
use mcpctl_failover::{BreakerReport, FailureClass, LlmRef};
use mcpctl_telemetry::Configured;

use crate::{
    app::{App, Runtime},
    journal::{JournalEntry, Served},
    providers::LocalProvider,
};

/// The whole status.
pub async fn status(State(app): State<Arc<App>>) -> Json<AgentStatus> {
    let runtime = app.runtime.load_full();
    let config = &runtime.config;
    let failovers = runtime.registry.failovers();
    let breakers = runtime.router.breakers().reports(Instant::now()).into_iter();
    let providers = runtime.registry.providers().map(|(_, local)| provider(local, &app.host.arbiter));
    let problem = app.journal.problem();
    let unknown_llms = app.llm_names.get(config, app.identity.contexts()).into_iter();
    let signed_in_as = app.identity.account(&config.server);
    let (feed, feeds) = runtime.access.feeds();
    let has_failovers = runtime.registry.failovers().next().is_some();
    let (shown, feed) = match feed {
        Some(view) => (view.llms, view.status),
        None => (Arc::default(), unfollowed(signed_in_as.is_some(), has_failovers)),
    };
    // The feed is newer than the list of names.
    let is_shown = |llm: &str| shown.get(llm).is_some_and(|llm| llm.allowed);
    Json(AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server: config.server.clone(),
        inference: config.inference.clone(),
        pid: std::process::id(),
        agent_id: app.agent_id.clone(),
        listen: app.listen.to_string(),
        started_at: app.started_at,
        signed_in_as,
        proof: runtime.keys.status().await,
        leases: runtime.leases.len(),
        leased_llms: leased_llms(&app, &runtime),
        feed,
        feeds,
        providers: futures::future::join_all(providers).await,
        failovers: failovers
            .map(|(llm, provider)| FailoverRoute { llm: llm.to_string(), provider: provider.to_string() })
            .collect(),
        breakers: breakers.map(|(llm, report)| PrimaryBreaker { llm, status: breaker(&report) }).collect(),
        unknown_llms: unknown_llms
            .filter(|unknown| !is_shown(&unknown.llm))
            .map(|unknown| UnknownName {
                reason: unknown.to_string(),
                hint: unknown.hint(),
                llm: unknown.llm,
                provider: unknown.provider,
            })
            .collect(),
        journal: problem.as_ref().map(ToString::to_string),
        journal_hint: problem.as_ref().map(|problem| problem.hint().to_owned()),
        journal_backlog: app.journal.backlog(),
        ignored_config: app.ignored_config.load_full().map(Arc::unwrap_or_clone),
        last_failover: app.last_failover().and_then(failover),
        failover_counts: app.failovers.read(),
    })
}

/// The feed of a user whose access is not followed.
fn unfollowed(is_signed_in: bool, has_failovers: bool) -> FeedStatus {
    match (is_signed_in, has_failovers) {
        (false, _) => FeedStatus::off("no user is signed in"),
        (true, false) => FeedStatus::off("no provider has `failoverFor`"),
        // The file of contexts is read every few seconds.
        (true, true) => FeedStatus { state: FollowState::Connecting, ..FeedStatus::default() },
    }
}

/// The Llms that a lease of the signed-in user covers.
fn leased_llms(app: &App, runtime: &Runtime) -> Vec<LeasedLlm> {
    let Some(bearer) = app.identity.signed_in_bearer(&runtime.config.server) else { return Vec::new() };
    let llms = runtime.registry.failovers().map(|(llm, _)| llm.to_string());
    llms.filter_map(|llm| {
        let cover = runtime.leases.cover(&bearer.digest(), &LlmRef::named(llm.as_str()))?;
        Some(LeasedLlm { llm, seconds_left: cover.remaining.as_secs() })
    })
    .collect()
}

fn breaker(report: &BreakerReport) -> BreakerStatus {
    let class = report.last_failure.map(FailureClass::as_str);
    BreakerStatus::opened(report.open_for, report.next_try(), class, report.some_forms)
}

async fn provider(local: &LocalProvider, arbiter: &Arbiter) -> ProviderStatus {
    let provider = &local.config;
    let totals = local.meter.totals();
    let mut engine = local.engine.as_ref().map(|engine| engine.measured_status());
    if let Some(engine) = &mut engine {
        engine.gpu_bytes = arbiter.held_by(engine).await;
    }
    ProviderStatus {
        name: provider.name.to_string(),
        kind: provider.type_word().to_owned(),
        model: provider.model().map(str::to_owned).or_else(|| local.models.last()?.model.clone()),
        capabilities: local.capabilities(),
        without_tools: local.tools_gap(),
        tokens_per_second: local.meter.tokens_per_second().map(|rate| (rate * 10.0).round() / 10.0),
        running: totals.running,
        answers: totals.ended,
        output_tokens: totals.tokens,
        failover_for: provider.failover_for.clone(),
        unavailable: local.unavailable().await,
        engine,
    }
}

/// A failover as the status shows it; `None` for other entries of the journal.
fn failover(entry: JournalEntry) -> Option<FailoverRecord> {
    let JournalEntry::Failover { at, served, class, access, outcome, reason, .. } = entry else {
        return None;
    };
    let Served { request, who, llm, provider, .. } = served;
    let llm = llm.unwrap_or_default();
    Some(FailoverRecord { at, request, who, llm, provider, class, access, outcome, reason })
}

/// Counts, in the OpenMetrics format.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let runtime = app.runtime.load_full();
    let breakers = runtime.router.breakers().reports(Instant::now());
    let open = breakers.iter().map(|(llm, _)| (Configured::resolved(llm), 1));
    app.metrics.inference.open_breakers(open);
    ([(header::CONTENT_TYPE, mcpctl_telemetry::metrics::CONTENT_TYPE)], app.metrics.render()).into_response()
}
