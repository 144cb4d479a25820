//! `POST /api/v1/auth/token-exchange`: a workload's own token for a short-lived one of a service account.

use std::sync::Arc;

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use mcpctl_api::question::{ExchangeRequest, IssuedToken};
use mcpctl_server::Peer;
use utoipa::OpenApi;

use super::{error::HttpError, tokens};
use crate::{app::App, exchange};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(exchange))]
pub struct Docs;

/// Exchanges the token of a trusted workload for a short-lived token of a service account
#[utoipa::path(
    post, path = "/api/v1/auth/token-exchange", tag = "auth", security(()), request_body = ExchangeRequest,
    responses((status = 201, body = IssuedToken), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError, description = "the token is not valid, or not trusted for the account"),
              (status = 403, body = mcpctl_api::ApiError, description = "the account that wrote `trust` is gone"),
              (status = 429, body = mcpctl_api::ApiError),
              (status = 503, body = mcpctl_api::ApiError, description = "the issuer's keys cannot be had")),
)]
pub async fn exchange(
    State(app): State<Arc<App>>,
    peer: Peer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    let request: ExchangeRequest =
        serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    drop(body);
    let network = app.logins.network(peer, &headers);
    Ok(tokens::show(exchange::exchange(&app, network, &request).await?))
}
