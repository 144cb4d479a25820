//! Routes of the sign-in by an OpenID provider.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use mcpctl_api::{
    oidc::{CodeLogin, DeviceLogin, DeviceLoginRequest, DevicePending, DevicePoll, SignInMethods},
    question::IssuedToken,
};
use mcpctl_issuer::ExchangeError;
use mcpctl_server::Peer;
use serde::de::DeserializeOwned;
use utoipa::OpenApi;

use super::{error::HttpError, tokens};
use crate::{
    app::App,
    issuance::IssueError,
    sign_on::{self, SignOnDenial},
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(methods, code, device, poll))]
pub struct Docs;

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))
}

/// Lists the ways to sign in, with what a program needs for each; needs no credential
#[utoipa::path(get, path = "/api/v1/auth/methods", tag = "auth", responses((status = 200, body = SignInMethods)))]
pub async fn methods(State(app): State<Arc<App>>) -> Json<SignInMethods> {
    Json(SignInMethods { password: true, oidc: app.sign_on.methods().await })
}

/// Exchanges the code of an OpenID provider for a token
#[utoipa::path(
    post, path = "/api/v1/auth/oidc/code", tag = "auth", request_body = CodeLogin,
    responses((status = 201, body = IssuedToken), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError, description = "the provider does not vouch for the caller"),
              (status = 403, body = mcpctl_api::ApiError, description = "no user is linked to the account"),
              (status = 429, body = mcpctl_api::ApiError), (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn code(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let login: CodeLogin = json(&body)?;
    let network = app.logins.network(peer, &headers);
    Ok(tokens::show(sign_on::with_code(&app, network, &login).await?))
}

/// Begins a sign-in that a person approves in a browser on any machine (RFC 8628)
#[utoipa::path(
    post, path = "/api/v1/auth/oidc/device", tag = "auth", request_body = DeviceLoginRequest,
    responses((status = 200, body = DeviceLogin), (status = 400, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError), (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn device(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let DeviceLoginRequest { issuer } = json(&body)?;
    let network = app.logins.network(peer, &headers);
    let begun = sign_on::begin_device(&app, network, &issuer).await?;
    Ok(tokens::not_stored(Json(begun).into_response()))
}

/// Exchanges an approved device code for a token; 202 while it is not approved
#[utoipa::path(
    post, path = "/api/v1/auth/oidc/device/poll", tag = "auth", request_body = DevicePoll,
    responses((status = 201, body = IssuedToken), (status = 202, body = DevicePending),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 429, body = mcpctl_api::ApiError),
              (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn poll(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let poll: DevicePoll = json(&body)?;
    let network = app.logins.network(peer, &headers);
    match sign_on::poll_device(&app, network, &poll).await {
        Err(IssueError::Denied(SignOnDenial::Exchange(ExchangeError::Pending { slow_down }))) => {
            Ok((StatusCode::ACCEPTED, Json(DevicePending { slow_down })).into_response())
        }
        polled => Ok(tokens::show(polled?)),
    }
}
