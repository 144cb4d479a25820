//! `POST /api/v1/tokens` makes a credential for an account, `POST /api/v1/tokens/:idOrName/rotate` renews one; the response is
//! the only one that ever contains it.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_api::{
    Kind, Revision,
    question::{IssuedToken, RotationRequest, TokenRequest},
};
use mcpctl_secret::token::{self, MintedToken, Prefix};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    error::HttpError,
    path::{self, Path},
    query::Query,
};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    writes::{
        Intent,
        rotation::Rotation,
        token::{NewToken, issued},
    },
};

/// The part of the OpenAPI document that is about renewing tokens.
#[derive(OpenApi)]
#[openapi(paths(rotate))]
pub struct Docs;

/// The query of a rotation.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RotateQuery {
    dry_run: bool,
}

/// Makes a token for a user or service account; a dry run makes none, and its answer has no secret.
pub(super) async fn create(
    app: &App,
    caller: Caller,
    body: &[u8],
    dry_run: bool,
) -> Result<Response, HttpError> {
    let request = serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    answer(app, caller, making(request)?, dry_run).await
}

/// Makes the token that is asked for.
pub(super) async fn make(app: &App, caller: Caller, request: TokenRequest) -> Result<IssuedToken, HttpError> {
    issue(app, caller, making(request)?).await
}

/// Gives the token of this id or name a new secret, if it still has this revision.
pub(super) async fn renew(
    app: &App,
    caller: Caller,
    target: String,
    expected: Revision,
    request: RotationRequest,
) -> Result<IssuedToken, HttpError> {
    issue(app, caller, renewing(target, Some(expected), request)?).await
}

/// A write that makes a secret, and the secret.
type Issuing = (Intent, MintedToken);

fn making(request: TokenRequest) -> Result<Issuing, HttpError> {
    let TokenRequest { name, subject, expires_in, rules } = request;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
    let (hash, prefix) = (minted.hash(), minted.beginning().to_owned());
    Ok((Intent::IssueToken(NewToken { name, subject, expires_in, rules, hash, prefix }), minted))
}

fn renewing(
    target: String,
    expected: Option<Revision>,
    request: RotationRequest,
) -> Result<Issuing, HttpError> {
    let RotationRequest { grace, expires_in } = request;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
    let (hash, prefix) = (minted.hash(), minted.beginning().to_owned());
    Ok((Intent::RotateToken(Rotation { target, expected, grace, expires_in, hash, prefix }), minted))
}

async fn issue(app: &App, caller: Caller, (intent, minted): Issuing) -> Result<IssuedToken, HttpError> {
    let plan =
        commit(app, caller, vec![intent], WriteOptions::default()).await.map_err(|error| error.cause)?;
    let token = plan.resources.first().and_then(|stored| issued(stored, &minted));
    token.ok_or_else(HttpError::internal)
}

async fn answer(app: &App, caller: Caller, issuing: Issuing, dry_run: bool) -> Result<Response, HttpError> {
    if !dry_run {
        return Ok(show(issue(app, caller, issuing).await?));
    }
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    let plan = commit(app, caller, vec![issuing.0], options).await.map_err(|error| error.cause)?;
    let stored = plan.resources.first().ok_or_else(HttpError::internal)?;
    Ok(Json(&stored.resource).into_response())
}

/// Gives a token a new secret; the old one ends, at once or after a grace period
#[utoipa::path(
    post, path = "/api/v1/tokens/{idOrName}/rotate", tag = "resources",
    params(("idOrName" = String, Path),
           ("dryRun" = Option<bool>, Query, description = "judge everything, store nothing")),
    request_body = RotationRequest,
    responses((status = 201, body = IssuedToken, description = "the new secret, once"),
              (status = 200, description = "of a dry run: the token as it would be, without its secret"),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "may not make such a token"),
              (status = 404, body = mcpctl_api::ApiError)),
)]
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
    query: Query<RotateQuery>,
    body: Bytes,
) -> Result<Response, HttpError> {
    if path::kind(&segment)? != Kind::Token {
        return Err(HttpError::no_route(&format!("/api/v1/{segment}/{target}/rotate")));
    }
    let request = serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    answer(&app, caller, renewing(target, None, request)?, query.0.dry_run).await
}

/// The response with a new token.
pub(super) fn show(issued: IssuedToken) -> Response {
    not_stored((StatusCode::CREATED, Json(issued)).into_response())
}

/// A response that no cache keeps.
pub(super) fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
