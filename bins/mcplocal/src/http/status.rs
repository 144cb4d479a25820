//! The agent's status, for its user and for monitoring.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use mcpctl_api::{
    agent::{AgentStatus, FailoverRecord, FailoverRoute, PrimaryBreaker, ProviderStatus, UnknownName},
    breaker_status::BreakerStatus,
};
use mcpctl_failover::{BreakerReport, FailureClass};
use mcpctl_telemetry::Configured;

use crate::{
    app::App,
    journal::{JournalEntry, Served},
    providers::LocalProvider,
};

/// The whole status.
pub async fn status(State(app): State<Arc<App>>) -> Json<AgentStatus> {
    let runtime = app.runtime.load_full();
    let config = &runtime.config;
    let failovers = runtime.registry.failovers();
    let breakers = runtime.router.breakers().reports(Instant::now()).into_iter();
    let providers = runtime.registry.providers().map(|(_, local)| provider(local));
    let problem = app.journal.problem();
    let unknown_llms = app.llm_names.get(config, app.identity.contexts()).into_iter();
    Json(AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server: config.server.clone(),
        inference: config.inference.clone(),
        pid: std::process::id(),
        agent_id: app.agent_id.clone(),
        listen: app.listen.to_string(),
        started_at: app.started_at,
        signed_in_as: app.identity.account(&config.server),
        proof: runtime.keys.status().await,
        leases: runtime.leases.len(),
        providers: futures::future::join_all(providers).await,
        failovers: failovers
            .map(|(llm, provider)| FailoverRoute { llm: llm.to_string(), provider: provider.to_string() })
            .collect(),
        breakers: breakers.map(|(llm, report)| PrimaryBreaker { llm, status: breaker(&report) }).collect(),
        unknown_llms: unknown_llms
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
        last_failover: app.last_failover().and_then(failover),
    })
}

fn breaker(report: &BreakerReport) -> BreakerStatus {
    let class = report.last_failure.map(FailureClass::as_str);
    BreakerStatus::opened(report.open_for, report.next_try(), class, report.some_forms)
}

async fn provider(local: &LocalProvider) -> ProviderStatus {
    let provider = &local.config;
    ProviderStatus {
        name: provider.name.to_string(),
        kind: provider.type_word().to_owned(),
        model: provider.model().map(str::to_owned).or_else(|| local.models.last()?.model.clone()),
        capabilities: local.capabilities(),
        tokens_per_second: local.meter.tokens_per_second().map(|rate| (rate * 10.0).round() / 10.0),
        failover_for: provider.failover_for.clone(),
        unavailable: local.unavailable().await,
        engine: local.engine.as_ref().map(|engine| engine.status()),
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
