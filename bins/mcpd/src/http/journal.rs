//! `GET POST /api/v1/agents/:agent/journal`: agents hand over their journals.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
};
use mcpctl_api::{Id, Kind, Verb, audit::JournalReceipt};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{error::HttpError, path::Path, query::Query};
use crate::{app::App, caller::Caller, journal};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(head, receive))]
pub struct Docs;

/// The media type of lines, one JSON object each.
const LINES: &str = "application/x-ndjson";

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadQuery {}

/// The query of lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveQuery {
    gap: bool,
}

/// Shows the last line of an agent's journal that the caller handed over; line 0 before the first one
#[utoipa::path(
    get, path = "/api/v1/agents/{agent}/journal", tag = "audit",
    params(("agent" = String, Path, description = "the agent's id")),
    responses((status = 200, body = JournalReceipt), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "the token is narrowed")),
)]
pub async fn head(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(agent): Path<String>,
    _: Query<HeadQuery>,
) -> Result<Json<JournalReceipt>, HttpError> {
    refuse_narrowed(&caller)?;
    let head = journal::head(&app, &caller, &id(&agent)?).await?;
    Ok(Json(JournalReceipt { seq: head.seq, hash: head.hash.to_string(), recorded: 0 }))
}

/// Records lines of an agent's journal in the audit, each once
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/journal", tag = "audit",
    params(("agent" = String, Path, description = "the agent's id"),
           ("gap" = Option<bool>, Query, description = "whether lines before these are missing for good")),
    request_body(content = String, content_type = "application/x-ndjson", description = "1 to 500 lines, as the journal has them"),
    responses((status = 200, body = JournalReceipt), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "the token is narrowed"),
              (status = 409, body = mcpctl_api::ApiError, description = "lines before these are missing"),
              (status = 429, body = mcpctl_api::ApiError)),
)]
pub async fn receive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(agent): Path<String>,
    query: Query<ReceiveQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<JournalReceipt>, HttpError> {
    refuse_narrowed(&caller)?;
    let agent = id(&agent)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|media| media != LINES) {
        return Err(HttpError::invalid("", format!("the body is not `{LINES}`")));
    }
    let handed = journal::receive(&app, &caller, agent, &body, query.0.gap).await?;
    let (head, recorded) = (handed.head, handed.recorded);
    Ok(Json(JournalReceipt { seq: head.seq, hash: head.hash.to_string(), recorded }))
}

/// A narrowed token makes no statements in its account's name.
fn refuse_narrowed(caller: &Caller) -> Result<(), HttpError> {
    if caller.principal.narrowing.is_none() {
        return Ok(());
    }
    let what = "journals of the account's agents, with a narrowed token";
    Err(caller.snapshot.forbidden(&caller.principal, Verb::Edit, Kind::User, what).into())
}

fn id(text: &str) -> Result<Id, HttpError> {
    // Its text is not repeated: it may be anything.
    text.parse().map_err(|_| HttpError::invalid("agent", "that is not the id of an agent"))
}
