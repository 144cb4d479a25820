//! `GET /api/v1/tokens/:idOrName/status` and `GET /api/v1/auth/token-status`: whether tokens are accepted, and when they were
//! last used.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;
use mcpctl_access::{Rejected, Snapshot, Stored, verb::View};
use mcpctl_api::{
    Id, Kind, Spec,
    token_status::{TokenState, TokenStatus, TokenStatusList},
};
use utoipa::OpenApi;

use super::{error::HttpError, viewed::viewed};
use crate::{app::App, caller::Caller, clock};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(one, all))]
pub struct Docs;

/// Shows whether a token is accepted, and when it was last used
#[utoipa::path(
    get, path = "/api/v1/tokens/{idOrName}/status", tag = "resources",
    params(("idOrName" = String, Path)),
    responses((status = 200, body = TokenStatus), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError)),
)]
pub(super) async fn one(app: &App, caller: &Caller, target: &str) -> Result<Json<TokenStatus>, HttpError> {
    let stored = viewed(app, caller, Kind::Token, target).await?;
    let uses = app.token_uses.all(&app.store).await?;
    status(&caller.snapshot, &stored, &uses, clock::now()).map(Json).ok_or_else(HttpError::internal)
}

/// Shows the same of every token that the caller may view
#[utoipa::path(
    get, path = "/api/v1/auth/token-status", tag = "auth",
    responses((status = 200, body = TokenStatusList), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn all(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<TokenStatusList>, HttpError> {
    let permits = caller.snapshot.permitted::<View>(&caller.principal, Kind::Token);
    let uses = app.token_uses.all(&app.store).await?;
    let now = clock::now();
    let items = permits.iter().filter_map(|permit| status(&caller.snapshot, permit.resource(), &uses, now));
    Ok(Json(TokenStatusList { items: items.collect() }))
}

fn status(
    snapshot: &Snapshot,
    stored: &Stored,
    uses: &HashMap<Id, Timestamp>,
    now: Timestamp,
) -> Option<TokenStatus> {
    let Spec::Token(token) = &stored.resource.spec else { return None };
    let rejected = snapshot.check_token(token, now).err();
    Some(TokenStatus {
        id: stored.id().clone(),
        token: stored.name().clone(),
        subject: token.subject.clone(),
        state: match rejected {
            None => TokenState::Active,
            Some(Rejected::Expired) => TokenState::Expired,
            Some(_) => TokenState::Void,
        },
        reason: rejected.map(|rejected| rejected.to_string()),
        expires_at: token.expires_at,
        session: token.session,
        last_used_at: uses.get(stored.id()).copied(),
    })
}
