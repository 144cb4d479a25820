//! What the agent is doing, for its user and for monitoring.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app::App, providers::LocalProvider};

/// Everything at a glance.
pub async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let runtime = app.runtime.load_full();
    let config = &runtime.config;
    let failovers: Vec<Value> = runtime
        .registry
        .failovers()
        .map(|(llm, provider)| json!({"llm": llm, "provider": provider}))
        .collect();
    let breakers: Vec<Value> = runtime
        .breakers
        .open(Instant::now())
        .into_iter()
        .map(|llm| json!({"llm": llm, "state": "open"}))
        .collect();
    let providers = runtime.registry.providers().map(|(_, running)| provider(running));
    let providers = futures::future::join_all(providers).await;
    let unknown_llms = app.llm_names.get(&app).into_iter().map(|unknown| {
        json!({
            "llm": unknown.llm,
            "provider": unknown.provider,
            "reason": unknown.to_string(),
            "hint": unknown.hint(),
        })
    });
    let unknown_llms: Vec<Value> = unknown_llms.collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server": config.server,
        "inference": config.inference,
        "pid": std::process::id(),
        "listen": app.listen.to_string(),
        "startedAt": app.started_at,
        "signedInAs": app.identity.user(&config.server),
        "providers": providers,
        "failovers": failovers,
        "breakers": breakers,
        "unknownLlms": unknown_llms,
        "journal": app.journal.problem().map(|error| error.to_string()),
        "lastFailover": app.last_failover(),
    }))
}

async fn provider(running: &LocalProvider) -> Value {
    let provider = &running.provider;
    let unavailable = running.unavailable().await;
    json!({
        "name": provider.name,
        "type": provider.type_word(),
        "model": provider.model().map(str::to_owned).or_else(|| running.known.last()?.model.clone()),
        "capabilities": running.capabilities(),
        "tokensPerSecond": running.meter.tokens_per_second().map(|rate| (rate * 10.0).round() / 10.0),
        "failoverFor": provider.failover_for,
        "unavailable": unavailable.map(|error| json!({"reason": error.to_string(), "hint": error.hint()})),
        "engine": running.engine.as_ref().map(|engine| engine.status()),
    })
}

/// Counts, in the OpenMetrics format.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, mcpctl_telemetry::metrics::CONTENT_TYPE)], app.metrics.render()).into_response()
}
