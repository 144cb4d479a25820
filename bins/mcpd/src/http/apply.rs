//! `POST /api/v1/apply`: many documents, all or nothing.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use mcpctl_api::{Document, question::ApplyReport};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::OpenApi;

use super::{error::HttpError, query::Query};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    writes::Intent,
};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(apply))]
pub struct Docs;

/// Maximum of documents of one apply; bounds the work of one request.
const MAX_DOCUMENTS: usize = 1000;

/// The query of an apply.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplyQuery {
    dry_run: bool,
    skip_check: bool,
}

/// Makes or changes all documents of a JSON array, or none of them
#[utoipa::path(
    post, path = "/api/v1/apply", tag = "resources",
    params(("dryRun" = Option<bool>, Query, description = "judge everything, store nothing"),
           ("skipCheck" = Option<bool>, Query, description = "ask no provider whether it accepts a new key")),
    request_body(description = "an array of documents, each with its `kind`", content_type = "application/json"),
    responses((status = 200, body = ApplyReport), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 412, body = mcpctl_api::ApiError)),
)]
pub async fn apply(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<ApplyQuery>,
    body: Bytes,
) -> Result<Json<ApplyReport>, HttpError> {
    let documents: Vec<&RawValue> = serde_json::from_slice(&body)
        .map_err(|error| HttpError::invalid("", format!("the body is not an array of documents: {error}")))?;
    if documents.len() > MAX_DOCUMENTS {
        return Err(HttpError::invalid("", format!("at most {MAX_DOCUMENTS} documents at once")));
    }
    let mut intents = Vec::with_capacity(documents.len());
    for (at, raw) in documents.iter().enumerate() {
        let document = Document::from_json(raw.get().as_bytes())
            .map_err(|error| HttpError::from(error).in_document(at))?;
        intents.push(Intent::Apply(document.into()));
    }
    let ApplyQuery { dry_run, skip_check } = query.0;
    let plan = commit(&app, caller, intents, WriteOptions { dry_run, skip_check })
        .await
        .map_err(|error| HttpError::from(error.cause).in_document(error.intent))?;
    Ok(Json(ApplyReport { results: plan.results, dry_run, warnings: plan.warnings }))
}
