//! `GET /api/v1/tokens/:idOrName/status` and `GET /api/v1/auth/token-status`: whether tokens are accepted, and when they were
//! last used.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;
use mcpctl_access::{Permit, Rejected, Snapshot, Stored, verb::View};
use mcpctl_api::{
    Id, Kind, Spec,
    spec::Subject,
    token_status::{TokenState, TokenStatus, TokenStatusList},
};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    error::HttpError,
    query::{Query, account},
    viewed::viewed,
};
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

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusQuery {
    subject: Option<String>,
}

/// Shows the same of every token that the caller may view, the caller's own among them, or of those of one account
#[utoipa::path(
    get, path = "/api/v1/auth/token-status", tag = "auth",
    params(("subject" = Option<String>, Query, description = "an account, e.g. `user/alice`")),
    responses((status = 200, body = TokenStatusList), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn all(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<StatusQuery>,
) -> Result<Json<TokenStatusList>, HttpError> {
    let account = query.0.subject.as_deref().map(account).transpose()?;
    Ok(Json(statuses(&app, &caller, account.as_ref()).await?))
}

/// The tokens that the caller may view, of all accounts or of one, by name.
pub(super) async fn statuses(
    app: &App,
    caller: &Caller,
    account: Option<&Subject>,
) -> Result<TokenStatusList, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let uses = app.token_uses.all(&app.store).await?;
    let now = clock::now();
    let shown = |stored: &&Arc<Stored>| snapshot.may_view_token(principal, stored);
    let is_own = |stored: &Stored| matches!(&stored.resource.spec, Spec::Token(token) if token.subject_id == principal.id);
    let listed = |stored: &Arc<Stored>| status(snapshot, stored, &uses, now);
    let mut items: Vec<TokenStatus> = match account {
        None => {
            let permits = snapshot.permitted::<View>(principal, Kind::Token);
            let others = permits.iter().map(Permit::resource).filter(|stored| !is_own(stored));
            let own = snapshot.tokens_of(&principal.id).filter(shown);
            others.chain(own).filter_map(listed).collect()
        }
        Some(account) => {
            let id = snapshot.by_name(account.kind.kind(), account.name.as_str()).map(|account| account.id());
            let tokens = id.into_iter().flat_map(|id| snapshot.tokens_of(id));
            tokens.filter(shown).filter_map(listed).collect()
        }
    };
    items.sort_by(|one, other| one.token.cmp(&other.token));
    Ok(TokenStatusList { items })
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
        prefix: token.prefix.clone(),
        created_at: Some(stored.resource.created_at),
        rules: token.rules.clone(),
        expires_at: token.expires_at,
        session: token.session,
        last_used_at: uses.get(stored.id()).copied(),
    })
}
