//! Routes of sessions, and of questions about rights.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use mcpctl_access::Reason;
use mcpctl_api::{
    Kind, Spec, Verb,
    question::{CanI, CanIAnswer, IssuedToken, LoginRequest, WhoAmI, WhoCan},
};
use mcpctl_server::Peer;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::OpenApi;

use super::{error::HttpError, path, query::Query, tokens};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    sessions,
    writes::Intent,
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(login, logout, whoami, can_i, who_can))]
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
    Ok(tokens::show(sessions::begin(&app, network, &user, &password).await?))
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

/// Shows whether the caller may do something, and why
#[utoipa::path(
    post, path = "/api/v1/auth/can-i", tag = "auth", request_body = CanI,
    responses((status = 200, body = CanIAnswer), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn can_i(caller: Caller, body: Bytes) -> Result<Json<CanIAnswer>, HttpError> {
    let question: CanI = json(&body)?;
    let verb: Verb = question.verb.parse().map_err(|e| HttpError::invalid("verb", format!("{e}")))?;
    let kind = path::kind(&question.kind)
        .or_else(|_| question.kind.parse().map_err(|e| HttpError::invalid("kind", format!("{e}"))))?;
    // Rules match names, so an id is resolved to its name.
    let name = question.name.as_deref().map(|asked| {
        caller.snapshot.resolve(kind, asked).map_or_else(|| asked.to_owned(), |s| s.name().to_string())
    });
    let reason = caller.snapshot.reason(&caller.principal, verb, kind, name.as_deref());
    Ok(Json(CanIAnswer {
        allowed: reason.is_some(),
        reason: match reason {
            Some(reason) => explain(&reason),
            None => caller.snapshot.denial_reason(&caller.principal, verb, kind, name.as_deref()).to_owned(),
        },
        revision: caller.snapshot.revision(),
    }))
}

fn explain(Reason { binding, role, via_group }: &Reason) -> String {
    match via_group {
        None => format!("role `{role}`, given by rolebinding `{binding}`"),
        Some(group) => format!("role `{role}`, given to group `{group}` by rolebinding `{binding}`"),
    }
}

/// The query of who-can.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoCanQuery {
    verb: String,
    kind: String,
    name: String,
}

/// Lists all accounts that may do something, and why; for those who may view users, roles and bindings
#[utoipa::path(
    get, path = "/api/v1/auth/who-can", tag = "auth",
    params(("verb" = String, Query), ("kind" = String, Query), ("name" = String, Query)),
    responses((status = 200, body = WhoCan), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn who_can(caller: Caller, query: Query<WhoCanQuery>) -> Result<Json<WhoCan>, HttpError> {
    let WhoCanQuery { verb, kind, name } = query.0;
    let verb: Verb = verb.parse().map_err(|e| HttpError::invalid("verb", format!("{e}")))?;
    let kind: Kind = kind.parse().map_err(|e| HttpError::invalid("kind", format!("{e}")))?;
    // The response shows accounts, groups, roles and bindings, so the caller must be allowed to view them all.
    for shown in [Kind::User, Kind::ServiceAccount, Kind::Group, Kind::Role, Kind::RoleBinding] {
        caller.snapshot.authorize_all(&caller.principal, Verb::View, shown)?;
    }
    let name = caller.snapshot.resolve(kind, &name).map_or(name, |s| s.name().to_string());
    let subjects = caller.snapshot.who_can(verb, kind, &name);
    Ok(Json(WhoCan { subjects, revision: caller.snapshot.revision() }))
}
