//! Routes of sessions and passwords, and of who is calling.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use mcpctl_api::{
    Spec,
    question::{IssuedToken, LoginRequest, PasswordChange, WhoAmI},
};
use mcpctl_secret::token::Prefix;
use mcpctl_server::Peer;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;

use super::{error::HttpError, tokens};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    passwords, sessions,
    writes::Intent,
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(login, logout, password, whoami))]
pub struct Docs;

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))
}

/// Exchanges a user's password for a token
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest,
    responses((status = 201, body = IssuedToken), (status = 401, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError, description = "too many attempts; `Retry-After` has the time to wait")),
)]
pub async fn login(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let LoginRequest { user, password } = json(&body)?;
    drop(body);
    let network = app.logins.network(peer, &headers);
    Ok(tokens::show(sessions::begin(&app, network, &user, &password, Prefix::Mcpd).await?))
}

/// Ends the session whose token is presented
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    responses((status = 204, description = "the token is no longer good"), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, HttpError> {
    commit(&app, caller, vec![Intent::EndSession], WriteOptions::default())
        .await
        .map_err(|error| error.cause)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the caller's own password; other sessions of the caller end
#[utoipa::path(
    post, path = "/api/v1/auth/password", tag = "auth", request_body = PasswordChange,
    responses((status = 204, description = "the new one is stored"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "the present one is wrong, or the token is narrowed"),
              (status = 409, body = mcpctl_api::ApiError, description = "the account has no password"),
              (status = 429, body = mcpctl_api::ApiError, description = "too many attempts; `Retry-After` has the time to wait")),
)]
pub async fn password(
    State(app): State<Arc<App>>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    let change: PasswordChange = json(&body)?;
    drop(body);
    let network = app.logins.network(peer, &headers);
    passwords::change(&app, caller, network, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows who is calling
#[utoipa::path(
    get, path = "/api/v1/auth/whoami", tag = "auth",
    responses((status = 200, body = WhoAmI), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn whoami(caller: Caller) -> Json<WhoAmI> {
    let Caller { principal, snapshot, .. } = caller;
    let token = snapshot.by_id(&principal.token);
    let rules = token.and_then(|token| match &token.resource.spec {
        Spec::Token(spec) => spec.rules.clone(),
        _ => None,
    });
    Json(WhoAmI {
        groups: snapshot.groups_of(&principal),
        roles: snapshot.roles_of(&principal),
        subject: principal.subject,
        id: principal.id,
        expires_at: principal.expires_at,
        token: token.map(|token| token.name().clone()),
        rules,
    })
}
