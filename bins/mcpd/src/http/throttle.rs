//! `POST /api/v1/admin/lift-throttle`: lets attempts to sign in count anew, as a user or from a network.

use std::sync::Arc;

use axum::{body::Bytes, extract::State, http::StatusCode};
use mcpctl_api::{Kind, Verb, throttle::LiftThrottle};
use utoipa::OpenApi;

use super::error::HttpError;
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    login::Network,
    writes::Intent,
};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(lift))]
pub struct Docs;

/// Lets attempts to sign in count anew: as a user, for callers who may edit the user; from a network, for an account that may do everything
#[utoipa::path(
    post, path = "/api/v1/admin/lift-throttle", tag = "auth", request_body = LiftThrottle,
    responses((status = 204, description = "they count anew"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 404, body = mcpctl_api::ApiError)),
)]
pub async fn lift(State(app): State<Arc<App>>, caller: Caller, body: Bytes) -> Result<StatusCode, HttpError> {
    let LiftThrottle { user, address } =
        serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    if user.is_none() && address.is_none() {
        return Err(HttpError::invalid("", "neither `user` nor `address` is given"));
    }
    let (principal, revision) = (caller.principal.clone(), caller.snapshot.revision());
    let network = address.map(Network::containing);
    if let Some(network) = network
        && !caller.snapshot.holds_everything(&principal)
    {
        let reason = "only an account that may do everything lifts the throttling of a network";
        let target = network.to_string();
        let entry = app.audit.denial(&principal, Verb::Edit, Kind::User, &target, revision, reason);
        app.audit.record(entry).await?;
        return Err(HttpError::from(caller.snapshot.forbidden(&principal, Verb::Edit, Kind::User, "*"))
            .hint("an account that may do everything, such as one with the role `admin`, can do it"));
    }
    if let Some(user) = user {
        let intent = Intent::LiftThrottle(user.to_string());
        commit(&app, caller, vec![intent], WriteOptions::default()).await.map_err(|error| error.cause)?;
        app.audit.record(app.audit.lifted_throttle(&principal, user.as_str(), revision)).await?;
    }
    if let Some(network) = network {
        // Recorded before, so that none is lifted without a record.
        app.audit.record(app.audit.lifted_throttle(&principal, &network.to_string(), revision)).await?;
        app.logins.lift(network);
    }
    Ok(StatusCode::NO_CONTENT)
}
