//! Sessions, and questions about who may do what.

use std::{sync::Arc, time::Instant};

use axum::{Json, body::Bytes, extract::State, http::StatusCode, response::Response};
use mcpctl_access::{Change, Confidential, Reason};
use mcpctl_api::{
    ErrorKind, HumanDuration, Kind, Name, Spec, Verb,
    question::{CanI, CanIAnswer, IssuedToken, LoginRequest, WhoAmI, WhoCan},
    spec::{Subject, SubjectKind},
};
use mcpctl_secret::token::{self, Prefix};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::OpenApi;

use super::{
    caller::Caller,
    commit::{self, Attempts},
    error::HttpError,
    query::Query,
    tokens::{self, Draft, Stores},
};
use crate::{app::App, audit, http::resources, writers::Lane};

/// What the OpenAPI document says of these routes.
#[derive(OpenApi)]
#[openapi(paths(login, logout, whoami, can_i, who_can))]
pub struct Docs;

/// How long a login lasts: a working day and some.
const SESSION: HumanDuration = HumanDuration::from_secs(12 * 3600);

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))
}

/// Exchanges a user's password for a token
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest,
    responses((status = 201, body = IssuedToken), (status = 401, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError, description = "too many attempts")),
)]
pub async fn login(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, HttpError> {
    let request: LoginRequest = json(&body)?;
    if let Err(wait) = app.logins.attempt(&request.user, Instant::now()) {
        let message = "too many attempts to sign in as this user";
        return Err(HttpError::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::RateLimitError,
            "login_throttled",
            message,
        )
        .retry_after(wait));
    }
    let refused =
        || HttpError::unauthenticated("user or password is wrong").hint("try again, or ask an administrator");
    loop {
        let snapshot = app.fresh().await?;
        let user = snapshot.by_name(Kind::User, &request.user).cloned();
        let usable = user.as_ref().filter(|u| matches!(&u.resource.spec, Spec::User(spec) if !spec.disabled));
        let hash = usable.and_then(|stored| match &stored.confidential {
            Some(Confidential::PasswordHash(hash)) => Some(hash.clone()),
            _ => None,
        });
        let good = app.logins.verify(request.password.expose().to_owned(), hash).await;
        let Some(user) = usable.filter(|_| good) else {
            tracing::warn!("a login was refused");
            return Err(refused());
        };
        let subject = Subject { kind: SubjectKind::User, name: user.name().clone() };
        let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
        let now = app.now();
        let draft = Draft {
            name: session_name()?,
            subject: subject.clone(),
            expires_at: tokens::end(now, SESSION)?,
            session: true,
            issued_by: password_set_by(user),
        };
        let (stored, issued) = draft.issue(&snapshot, &minted, now)?;
        let rows = audit::login(&app, &subject, &[Change::Put(Arc::clone(&stored))]);
        match tokens::store(&app, &snapshot, &subject, stored, rows).await? {
            Stores::Done => {
                app.logins.succeeded(&request.user);
                return Ok(tokens::answer(issued));
            }
            // The user may have been disabled meanwhile, so look again.
            Stores::Again => {}
        }
    }
}

/// The accounts that set the password with which this user signs in.
fn password_set_by(user: &mcpctl_access::Stored) -> Vec<mcpctl_api::Id> {
    match &user.resource.spec {
        Spec::User(spec) => spec.password_set_by.clone(),
        _ => Vec::new(),
    }
}

fn session_name() -> Result<Name, HttpError> {
    let id = mcpctl_api::Id::mint().to_string();
    format!("session-{id}").parse().map_err(|_| HttpError::internal())
}

/// Ends the session whose token is presented
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    responses((status = 204, description = "the token is no longer good"), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, HttpError> {
    let mut attempts = Attempts::begin(&app, Lane::Urgent, &caller).await;
    while let Some((caller, lock)) = attempts.next().await? {
        if !caller.principal.session {
            let message = "this token was not made by a login, so it does not end with a logout";
            return Err(HttpError::invalid("", message).hint("delete it with `mcpctl delete token NAME`"));
        }
        // Everybody may end what their own login began, without the right to delete tokens.
        let Some(stored) = caller.snapshot.by_id(&caller.principal.token) else {
            return Ok(StatusCode::NO_CONTENT);
        };
        let change = Change::Delete {
            kind: Kind::Token,
            id: stored.id().clone(),
            name: stored.name().clone(),
            revision: caller.snapshot.revision().next(),
        };
        let rows = audit::changes(&app, &caller, std::slice::from_ref(&change));
        if commit::try_commit(&app.store, lock, &caller, vec![change], rows).await? {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(HttpError::unavailable("too many writers at once"))
}

/// Says who is calling
#[utoipa::path(
    get, path = "/api/v1/auth/whoami", tag = "auth",
    responses((status = 200, body = WhoAmI), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn whoami(caller: Caller) -> Json<WhoAmI> {
    let Caller { principal, snapshot, .. } = caller;
    Json(WhoAmI {
        groups: snapshot.groups_of(&principal.subject),
        roles: snapshot.roles_of(&principal.subject),
        subject: principal.subject,
        id: principal.id,
        expires_at: principal.expires_at,
    })
}

/// Answers whether the caller may do something, and why
#[utoipa::path(
    post, path = "/api/v1/auth/can-i", tag = "auth", request_body = CanI,
    responses((status = 200, body = CanIAnswer), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn can_i(caller: Caller, body: Bytes) -> Result<Json<CanIAnswer>, HttpError> {
    let question: CanI = json(&body)?;
    let verb: Verb = question.verb.parse().map_err(|e| HttpError::invalid("verb", format!("{e}")))?;
    let kind = resources::kind(&question.kind)
        .or_else(|_| question.kind.parse().map_err(|e| HttpError::invalid("kind", format!("{e}"))))?;
    // Rules go by name; an id is as good as the name of what it stands for.
    let name = question.name.as_deref().map(|asked| {
        caller.snapshot.resolve(kind, asked).map_or_else(|| asked.to_owned(), |s| s.name().to_string())
    });
    let reason = caller.snapshot.reason(&caller.principal, verb, kind, name.as_deref());
    Ok(Json(CanIAnswer {
        allowed: reason.is_some(),
        reason: explain(reason),
        revision: caller.snapshot.revision(),
    }))
}

fn explain(reason: Option<Reason>) -> String {
    match reason {
        None => "no rule allows it".to_owned(),
        Some(Reason { binding, role, via_group: None }) => {
            format!("role `{role}`, given by rolebinding `{binding}`")
        }
        Some(Reason { binding, role, via_group: Some(group) }) => {
            format!("role `{role}`, given to group `{group}` by rolebinding `{binding}`")
        }
    }
}

/// What who-can is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoCanQuery {
    verb: String,
    kind: String,
    name: String,
}

/// Lists everybody who may do something, and why; for those who may view users, roles and bindings
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
    // The answer shows people, roles and bindings, so it is for those who may view them all.
    for shown in [Kind::User, Kind::ServiceAccount, Kind::Group, Kind::Role, Kind::RoleBinding] {
        let needed = caller.snapshot.authorize(&caller.principal, Verb::View, shown, "*");
        if let Err(denied @ mcpctl_access::Denied::Forbidden { .. }) = needed {
            return Err(denied.into());
        }
    }
    let name = caller.snapshot.resolve(kind, &name).map_or(name, |s| s.name().to_string());
    let subjects = caller.snapshot.who_can(verb, kind, &name);
    Ok(Json(WhoCan { subjects, revision: caller.snapshot.revision() }))
}
