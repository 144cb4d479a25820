//! `POST /api/v1/tokens`: makes a credential for an account; the response is the only one that ever contains it.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_api::question::{IssuedToken, TokenRequest};
use mcpctl_secret::token::{self, Prefix};

use super::error::HttpError;
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    writes::{
        Intent,
        token::{NewToken, issued},
    },
};

/// Makes a token for a user or service account.
pub(super) async fn create(app: &App, caller: Caller, body: &[u8]) -> Result<Response, HttpError> {
    let TokenRequest { name, subject, expires_in, rules } =
        serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
    let intent = Intent::IssueToken(NewToken { name, subject, expires_in, rules, hash: minted.hash() });
    let plan =
        commit(app, caller, vec![intent], WriteOptions::default()).await.map_err(|error| error.cause)?;
    let token = plan.resources.first().and_then(|stored| issued(stored, &minted));
    Ok(show(token.ok_or_else(HttpError::internal)?))
}

/// The response with a new token.
pub(super) fn show(issued: IssuedToken) -> Response {
    let mut response = (StatusCode::CREATED, Json(issued)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
