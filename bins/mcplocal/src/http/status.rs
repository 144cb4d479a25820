//! What the agent is doing, for its user and for monitoring.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app::App, providers::Running};

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
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server": config.server,
        "inference": config.inference,
        "pid": std::process::id(),
        "listen": app.listen.to_string(),
        "startedAt": app.started_at,
        "signedInAs": app.identity.user(&config.server),
        "providers": runtime.registry.providers().map(|(_, running)| provider(running)).collect::<Vec<_>>(),
        "failovers": failovers,
        "breakers": breakers,
        "lastFailover": app.last_failover(),
    }))
}

fn provider(running: &Running) -> Value {
    let provider = &running.provider;
    json!({
        "name": provider.name,
        "type": provider.type_word(),
        "model": provider.model().map(str::to_owned).or_else(|| running.known.last()?.model.clone()),
        "capabilities": running.capabilities(),
        "tokensPerSecond": running.meter.tokens_per_second().map(|rate| (rate * 10.0).round() / 10.0),
        "failoverFor": provider.failover_for,
        "engine": running.engine.as_ref().map(|engine| engine.status()),
    })
}

/// Counts, in the OpenMetrics format.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, mcpctl_telemetry::metrics::CONTENT_TYPE)], app.metrics.render()).into_response()
}
