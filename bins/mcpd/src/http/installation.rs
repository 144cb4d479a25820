//! `GET /api/v1/admin/installation`: how mcpd is installed, for `mcpctl doctor`.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use mcpctl_api::{
    Kind, Verb,
    installation::{DatabaseKind, Installation, ProxyState, TlsState},
};
use mcpctl_server::Peer;
use utoipa::OpenApi;

use super::error::HttpError;
use crate::{app::App, caller::Caller};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(installation))]
pub struct Docs;

/// How mcpd is installed, as far as it decides what goes on where a part of it fails; for those who may view all Llms
#[utoipa::path(
    get, path = "/api/v1/admin/installation", tag = "operation",
    responses((status = 200, body = Installation), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn installation(
    State(app): State<Arc<App>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Json<Installation>, HttpError> {
    // No denial in the audit: everyone's `mcpctl doctor` asks.
    caller.snapshot.authorize_all(&caller.principal, Verb::View, Kind::Llm)?;
    let facts = &app.facts;
    let tls = facts.tls.as_ref().map(|tls| TlsState {
        valid_until: tls.not_after(),
        client_certificates: tls.asks_for_certificates(),
        refused: tls.refused().map(|reason| shown(&caller, reason)),
    });
    let proxy = match (headers.contains_key("x-forwarded-for"), peer.ip()) {
        (false, _) => ProxyState::None,
        (true, Some(address)) if app.logins.trusts_proxy(address) => ProxyState::Trusted,
        (true, _) => ProxyState::Untrusted,
    };
    Ok(Json(Installation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database: if facts.shared { DatabaseKind::Postgres } else { DatabaseKind::Sqlite },
        inference_listener: facts.inference_listener,
        proxy,
        tls,
    }))
}

/// The reason names files of the server, for those who may do everything.
fn shown(caller: &Caller, reason: String) -> String {
    if caller.snapshot.holds_everything(&caller.principal) {
        return reason;
    }
    "its changed files cannot be used; the log of mcpd has the reason".to_owned()
}
