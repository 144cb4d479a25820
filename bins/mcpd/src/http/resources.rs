//! `GET HEAD PUT PATCH DELETE /api/v1/<kind>/:idOrName` and `GET POST /api/v1/<kind>`: one set of handlers for all kinds.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use mcpctl_access::{
    Permit, Stored,
    verb::{Edit, View},
};
use mcpctl_api::{Document, Kind, Resource, Revision, Verb, question::List};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    dry_run,
    error::HttpError,
    merge_patch,
    path::{Path, kind},
    probe,
    query::{ListQuery, Page, Query},
    tokens,
};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    writes::Intent,
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, create, get, put, patch, delete))]
pub struct Docs;

/// Lists the resources of a kind that the caller may view, ordered by name: all of them, or with `limit` or `after` a page
#[utoipa::path(
    get, path = "/api/v1/{kind}", tag = "resources",
    params(("kind" = String, Path, description = "plural of a kind, e.g. `llms`"),
           ("labelSelector" = Option<String>, Query, description = "as in Kubernetes, e.g. `team=a,tier notin (dev),!old`"),
           ("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000; with `after` alone 100; with neither, everything")),
    responses((status = 200, description = "`{revision, items, next}`"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn list(
    caller: Caller,
    Path(segment): Path<String>,
    query: Query<ListQuery>,
) -> Result<Json<List<Resource>>, HttpError> {
    let kind = kind(&segment)?;
    let (selector, Page { after, limit, looked_at }) = (query.0.selector()?, query.0.page()?);
    let mut permits = caller.snapshot.permitted_after::<View>(&caller.principal, kind, after);
    let (mut items, mut last) = (Vec::new(), None);
    for stored in permits.by_ref().take(looked_at).map(Permit::into_resource) {
        if selector.matches(&stored.resource.labels) {
            items.push(stored.resource.clone());
        }
        // A name that the caller may view, whether or not it is selected.
        last = Some(stored);
        if items.len() >= limit {
            break;
        }
    }
    let next = last.filter(|_| permits.next().is_some()).map(|last| last.name().clone());
    Ok(Json(List { revision: caller.snapshot.revision(), items, next }))
}

/// Shows one resource; with HEAD, whether the caller may see it now
#[utoipa::path(
    get, path = "/api/v1/{kind}/{idOrName}", tag = "resources",
    params(("kind" = String, Path), ("idOrName" = String, Path)),
    responses((status = 200, description = "the resource, with its revision as `ETag`"),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "may not view it, whether or not it exists"),
              (status = 404, body = mcpctl_api::ApiError, description = "may view all of the kind, but there is none")),
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    method: Method,
    Path((segment, target)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let kind = kind(&segment)?;
    if method == Method::HEAD && kind == Kind::Llm {
        return probe(&app, &caller, &target, &headers).await;
    }
    let Caller { principal, snapshot, .. } = &caller;
    let decision = snapshot.authorize::<View>(principal, kind, &target);
    if decision.is_err() {
        let entry = app.audit.decision(principal, kind, &target, snapshot.revision(), &decision);
        app.audit.record(entry).await?;
    }
    Ok(show(StatusCode::OK, &decision?.into_resource()))
}

/// Answers a probe: as GET would, and with a nonce with a signed proof of the decision.
async fn probe(app: &App, caller: &Caller, target: &str, headers: &HeaderMap) -> Result<Response, HttpError> {
    let question = probe::question(headers, target)?;
    let Caller { principal, snapshot, .. } = caller;
    let decision = snapshot.authorize::<View>(principal, Kind::Llm, target);
    let failover = snapshot.failover_decision(principal, target);
    // A probe lets mcplocal use a local provider, so its decision is recorded. Before it is signed: what is not on record is
    // not decided.
    let entry = match &decision {
        Ok(_) if question.is_some() && !failover.is_allowed() => {
            app.audit.failover_denial(principal, target, &failover)
        }
        _ => app.audit.decision(principal, Kind::Llm, target, snapshot.revision(), &decision),
    };
    app.audit.record(entry).await?;
    let mut response = match decision {
        Ok(permit) => show(StatusCode::OK, &permit.into_resource()),
        Err(denied) => HttpError::from(denied).into_response(),
    };
    if let Some(question) = question {
        response.headers_mut().extend(probe::answer(app, question, Some(principal), &failover).await);
    }
    Ok(response)
}

/// Makes a resource
#[utoipa::path(
    post, path = "/api/v1/{kind}", tag = "resources",
    params(("kind" = String, Path),
           ("skipCheck" = Option<bool>, Query, description = "ask no provider whether it accepts a new key"),
           ("dryRun" = Option<bool>, Query, description = "judge everything, store nothing")),
    request_body(description = "a document; for `tokens`, `{name, subject, expiresIn, rules}`", content_type = "application/json"),
    responses((status = 201, description = "the resource; for `tokens`, the secret, once"),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 409, body = mcpctl_api::ApiError)),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(segment): Path<String>,
    query: Query<WriteQuery>,
    body: Bytes,
) -> Result<Response, HttpError> {
    let kind = kind(&segment)?;
    if kind == Kind::Token {
        return tokens::create(&app, caller, &body, query.0.dry_run).await;
    }
    let write = Document::from_json_as(kind, &body)?.into();
    one(&app, caller, Intent::Create(write), query.0, StatusCode::CREATED).await
}

/// Makes or replaces a resource
#[utoipa::path(
    put, path = "/api/v1/{kind}/{idOrName}", tag = "resources",
    params(("kind" = String, Path), ("idOrName" = String, Path),
           ("skipCheck" = Option<bool>, Query, description = "ask no provider whether it accepts a new key"),
           ("dryRun" = Option<bool>, Query, description = "judge everything, store nothing"),
           ("If-Match" = Option<String>, Header, description = "the revision that it must still have")),
    request_body(description = "a document", content_type = "application/json"),
    responses((status = 200, description = "the resource"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 412, body = mcpctl_api::ApiError, description = "it changed meanwhile")),
)]
pub async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
    query: Query<WriteQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let kind = kind(&segment)?;
    let expected = if_match(&headers)?;
    let write = Document::from_json_as(kind, &body)?.into();
    one(&app, caller, Intent::Replace { target, write, expected }, query.0, StatusCode::OK).await
}

/// Changes the given fields of a resource (JSON merge patch, RFC 7396)
#[utoipa::path(
    patch, path = "/api/v1/{kind}/{idOrName}", tag = "resources",
    params(("kind" = String, Path), ("idOrName" = String, Path),
           ("skipCheck" = Option<bool>, Query, description = "ask no provider whether it accepts a new key"),
           ("dryRun" = Option<bool>, Query, description = "judge everything, store nothing"),
           ("If-Match" = Option<String>, Header)),
    request_body(description = "a merge patch; `null` removes a field", content_type = "application/merge-patch+json"),
    responses((status = 200, description = "the resource"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 404, body = mcpctl_api::ApiError), (status = 412, body = mcpctl_api::ApiError)),
)]
pub async fn patch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
    query: Query<WriteQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let kind = kind(&segment)?;
    let current = editable(&app, &caller, kind, &target).await?;
    let patch: serde_json::Value = serde_json::from_slice(&body)
        .map_err(|error| HttpError::invalid("", format!("the patch is not JSON: {error}")))?;
    // The patch applies to the revision that it was merged with, whatever revision the patch contains.
    let expected = if_match(&headers)?.unwrap_or(current.resource.revision);
    let intent = merged(&current, target, patch, expected)?;
    one(&app, caller, intent, query.0, StatusCode::OK).await
}

/// The resource, for a caller who may edit it; a denial is recorded.
pub(super) async fn editable(
    app: &App,
    caller: &Caller,
    kind: Kind,
    target: &str,
) -> Result<Arc<Stored>, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let decision = snapshot.authorize::<Edit>(principal, kind, target);
    if decision.is_err() {
        let entry = app.audit.decision(principal, kind, target, snapshot.revision(), &decision);
        app.audit.record(entry).await?;
    }
    Ok(decision?.into_resource())
}

/// The write of a resource with a merge patch.
pub(super) fn merged(
    current: &Stored,
    target: String,
    patch: serde_json::Value,
    expected: Revision,
) -> Result<Intent, HttpError> {
    let kind = current.kind();
    let mut merged = serde_json::to_value(&current.resource).map_err(|_| HttpError::internal())?;
    merge_patch::patch(kind, &mut merged, patch);
    let document =
        Document::from_json_as(kind, &serde_json::to_vec(&merged).map_err(|_| HttpError::internal())?)?;
    Ok(Intent::Replace { target, write: document.into(), expected: Some(expected) })
}

/// The query of a write.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WriteQuery {
    dry_run: bool,
    skip_check: bool,
}

/// The query of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeleteQuery {
    dry_run: bool,
}

/// Removes a resource, and with an account, group or role what goes by its name; `mcpctl-warning` lists that
#[utoipa::path(
    delete, path = "/api/v1/{kind}/{idOrName}", tag = "resources",
    params(("kind" = String, Path), ("idOrName" = String, Path), ("If-Match" = Option<String>, Header),
           ("dryRun" = Option<bool>, Query, description = "judge everything, store nothing")),
    responses((status = 204, description = "removed"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError),
              (status = 412, body = mcpctl_api::ApiError)),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
    query: Query<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let kind = kind(&segment)?;
    let expected = if_match(&headers)?;
    let intent = Intent::Delete { kind, target, expected };
    let options = WriteOptions { dry_run: query.0.dry_run, ..WriteOptions::default() };
    let planned_by = options.dry_run.then(|| caller.clone());
    let mut plan = commit(&app, caller, vec![intent], options).await.map_err(|error| error.cause)?;
    dry_run::warn_of_losses(&app, planned_by, &mut plan).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    warn(&mut response, &plan.warnings);
    Ok(response)
}

async fn one(
    app: &Arc<App>,
    caller: Caller,
    intent: Intent,
    query: WriteQuery,
    status: StatusCode,
) -> Result<Response, HttpError> {
    let principal = caller.principal.clone();
    let WriteQuery { dry_run, skip_check } = query;
    let planned_by = dry_run.then(|| caller.clone());
    let mut plan = commit(app, caller, vec![intent], WriteOptions { dry_run, skip_check })
        .await
        .map_err(|error| error.cause)?;
    dry_run::warn_of_losses(app, planned_by, &mut plan).await?;
    let stored = plan.resources.first().ok_or_else(HttpError::internal)?;
    // The right to write is not the right to view, so the response shows only what the writer may view.
    let may_view =
        plan.after.authorize_name(&principal, Verb::View, stored.kind(), stored.name().as_str()).is_ok();
    let mut response = if may_view { show(status, stored) } else { show_name(status, stored) };
    warn(&mut response, &plan.warnings);
    Ok(response)
}

/// Maximum length of the warnings header, in bytes: proxies reject responses with longer headers.
const MAX_WARNINGS_BYTES: usize = 4096;

/// Puts all warnings into one header; those that do not fit are counted.
fn warn(response: &mut Response, warnings: &[String]) {
    let mut text = String::new();
    for (at, warning) in warnings.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        if text.len() + separator.len() + warning.len() > MAX_WARNINGS_BYTES {
            text.push_str(&format!("{separator}and {} more", warnings.len() - at));
            break;
        }
        text.push_str(separator);
        text.push_str(warning);
    }
    if let Ok(value) = HeaderValue::from_str(&text)
        && !text.is_empty()
    {
        response.headers_mut().insert(mcpctl_api::header::WARNING, value);
    }
}

/// The response to a writer that may not view the resource: which one was written.
fn show_name(status: StatusCode, stored: &Stored) -> Response {
    let body = serde_json::json!({
        "kind": stored.kind(), "name": stored.name(), "revision": stored.resource.revision,
    });
    let mut response = (status, Json(body)).into_response();
    etag(&mut response, stored);
    response
}

fn show(status: StatusCode, stored: &Stored) -> Response {
    let mut response = (status, Json(&stored.resource)).into_response();
    etag(&mut response, stored);
    if stored.kind() == Kind::Llm {
        probe::llm_id(&mut response, stored.id());
    }
    response
}

fn etag(response: &mut Response, stored: &Stored) {
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", stored.resource.revision)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<Revision>, HttpError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let revision = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
    match revision {
        Some(revision) => Ok(Some(Revision(revision))),
        None => {
            Err(HttpError::invalid("If-Match", "If-Match holds the revision of one resource, e.g. `\"42\"`"))
        }
    }
}
