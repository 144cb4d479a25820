//! The keys by which agents verify what mcpd signs: their list, which needs no credential, and their rotation.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_access::proof::{KeyState, ListedKey};
use mcpctl_api::{
    Kind, Verb,
    signing_keys::{RotateKeys, SigningKeyInfo, SigningKeyList},
};
use utoipa::OpenApi;

use super::error::HttpError;
use crate::{app::App, caller::Caller, signing::LoadedKeys};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, rotate))]
pub struct Docs;

/// How long caches may keep the list: an agent that meets a new key asks again after that.
const LIST_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=10");
/// What the audit calls the keys.
const TARGET: &str = "signing-keys";

/// Lists the keys by which agents verify answers to probes, signed by the current one
#[utoipa::path(
    get, path = "/.well-known/mcpctl-keys", tag = "signing keys", security(()),
    responses((status = 200, body = SigningKeyList)),
)]
pub async fn list(State(app): State<Arc<App>>) -> Response {
    let mut response = Json(listed(&app.signing.keys())).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, LIST_MAX_AGE);
    response
}

/// Makes the next signing key the current one, and a new next key; for an account that may do everything
#[utoipa::path(
    post, path = "/api/v1/admin/rotate-keys", tag = "signing keys", request_body = RotateKeys,
    responses((status = 200, body = SigningKeyList), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 409, body = mcpctl_api::ApiError, description = "another key is the current one, or the keys were rotated within the hour")),
)]
pub async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<SigningKeyList>, HttpError> {
    let RotateKeys { current, again } = match body.is_empty() {
        true => RotateKeys::default(),
        false => serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?,
    };
    let expected = current
        .map(|current| current.parse().map_err(|error| HttpError::invalid("current", format!("{error}"))))
        .transpose()?;
    let Caller { principal, snapshot, .. } = &caller;
    if !snapshot.holds_everything(principal) {
        let denied = snapshot.forbidden(principal, Verb::Edit, Kind::Secret, TARGET);
        let entry = app.audit.denial(
            principal,
            Verb::Edit,
            Kind::Secret,
            TARGET,
            snapshot.revision(),
            "only an account that may do everything may rotate the signing keys",
        );
        app.audit.record(entry).await?;
        return Err(HttpError::from(denied)
            .hint("an account that may do everything, such as one with the role `admin`, can do it"));
    }
    let row = app.audit.change(principal, "rotate-keys", Kind::Secret, snapshot.revision());
    Ok(Json(listed(&*app.signing.rotate(expected.as_ref(), again, row).await?)))
}

fn listed(keys: &LoadedKeys) -> SigningKeyList {
    let info = |key: &ListedKey| SigningKeyInfo {
        kid: key.kid.to_string(),
        public_key: key.public_key.to_string(),
        fingerprint: key.fingerprint.to_string(),
        state: match key.state {
            KeyState::Current => "current",
            KeyState::Next => "next",
        }
        .to_owned(),
    };
    SigningKeyList { keys: keys.list.keys.iter().map(info).collect(), signed: keys.signed_list.clone() }
}
