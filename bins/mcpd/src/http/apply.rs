//! `POST /api/v1/apply`: many documents, all or nothing.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use mcpctl_api::{
    Document, Verb,
    question::{ApplyReport, Removal},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::OpenApi;

use super::{dry_run, error::HttpError, query::Query};
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

/// Maximum of documents and removals of one apply; bounds the work of one request.
const MAX_DOCUMENTS: usize = 1000;

/// The body of an apply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    documents: Vec<&'a RawValue>,
    /// Removed before the documents are written, in the same commit.
    #[serde(default)]
    delete: Vec<Removal>,
}

impl<'a> Batch<'a> {
    fn read(body: &'a [u8]) -> Result<Self, HttpError> {
        let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let batch = if is_array {
            serde_json::from_slice(body).map(|documents| Self { documents, delete: Vec::new() })
        } else {
            serde_json::from_slice(body)
        };
        let batch: Self = batch.map_err(|error| {
            let what = "neither an array of documents nor `{documents, delete}`";
            HttpError::invalid("", format!("the body is {what}: {error}"))
        })?;
        if batch.documents.len().saturating_add(batch.delete.len()) > MAX_DOCUMENTS {
            return Err(HttpError::invalid("", format!("at most {MAX_DOCUMENTS} documents at once")));
        }
        Ok(batch)
    }
}

/// The query of an apply.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplyQuery {
    dry_run: bool,
    skip_check: bool,
    resources: bool,
}

/// Makes or changes all documents of a JSON array, or none of them; with `{documents, delete}`, removes resources in the same commit
#[utoipa::path(
    post, path = "/api/v1/apply", tag = "resources",
    params(("dryRun" = Option<bool>, Query, description = "judge everything, store nothing"),
           ("skipCheck" = Option<bool>, Query, description = "ask no provider whether it accepts a new key"),
           ("resources" = Option<bool>, Query, description = "show each resource as it is then, where the caller may view it")),
    request_body(description = "an array of documents, each with its `kind`; or `{documents, delete}`, where `delete` has `{kind, idOrName, revision}` each", content_type = "application/json"),
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
    let Batch { documents, delete } = Batch::read(&body)?;
    let mut intents = Vec::with_capacity(documents.len() + delete.len());
    for (at, raw) in documents.iter().enumerate() {
        let document = Document::from_json(raw.get().as_bytes())
            .map_err(|error| HttpError::from(error).in_document(at))?;
        intents.push(Intent::Apply(document.into()));
    }
    for Removal { kind, target, revision: expected } in delete {
        if !kind.is_resource() {
            return Err(HttpError::invalid("delete", format!("there are no resources of the kind {kind}")));
        }
        intents.push(Intent::Delete { kind, target, expected });
    }
    let ApplyQuery { dry_run, skip_check, resources } = query.0;
    let principal = caller.principal.clone();
    let planned_by = dry_run.then(|| caller.clone());
    let mut plan = commit(&app, caller, intents, WriteOptions { dry_run, skip_check })
        .await
        .map_err(|error| HttpError::from(error.cause).in_document(error.intent))?;
    dry_run::warn_of_losses(&app, planned_by, &mut plan).await?;
    let mut results = plan.results;
    if resources {
        for (applied, stored) in results.iter_mut().zip(&plan.resources) {
            let may_view = plan
                .after
                .authorize_name(&principal, Verb::View, stored.kind(), stored.name().as_str())
                .is_ok();
            applied.resource = may_view.then(|| stored.resource.clone());
        }
    }
    Ok(Json(ApplyReport { results, dry_run, warnings: plan.warnings }))
}
