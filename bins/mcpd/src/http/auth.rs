//! Sessions, and questions about who may do what.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use mcpctl_access::{Change, Confidential, Reason, Snapshot, Stored};
use mcpctl_api::{
    ErrorKind, HumanDuration, Id, Kind, Name, Spec, Verb,
    question::{CanI, CanIAnswer, IssuedToken, LoginRequest, WhoAmI, WhoCan},
    spec::{Subject, SubjectKind},
};
use mcpctl_secret::{
    password,
    token::{self, Prefix},
};
use mcpctl_server::Peer;
use mcpctl_store::CommitError;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::OpenApi;

use super::{
    caller::Caller,
    commit::{self, Attempts},
    error::HttpError,
    query::Query,
    tokens::{self, Draft},
};
use crate::{
    app::App,
    audit,
    http::resources,
    login::{LoginAttempt, Network, NotChecked},
    writers::Lane,
};

/// These routes' part of the OpenAPI document.
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
              (status = 429, body = mcpctl_api::ApiError, description = "too many attempts; `Retry-After` says for how long")),
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
    // What cannot be a user's name or password is refused before anything is spent on it.
    let name = user.parse::<Name>().ok();
    let Some(name) = name.as_ref().filter(|_| password.expose().len() <= password::MAX_BYTES) else {
        let revision = app.replica.latest().revision();
        audit::refused_login(&app, name.as_ref(), revision, network, "no name or no password").await?;
        return Err(wrong());
    };
    let verified = verify(&app, name, network, password.expose()).await?;
    let admitted = app.writers.admit(&verified.user, Instant::now());
    let _admission = admitted.map_err(|wait| throttled(NotChecked::Busy(wait)))?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    for attempt in 0..commit::ATTEMPTS {
        let lock = if attempt >= commit::LOCKED_FROM { Some(app.store.lock_writes().await?) } else { None };
        // The user may be disabled meanwhile, or have another password.
        let snapshot = app.fresh().await?;
        let Some((user, hash)) = who_may_sign_in(&snapshot, name) else { return Err(wrong()) };
        if hash != verified.hash || *user.id() != verified.user {
            return Err(wrong());
        }
        let makers = password_set_by(user);
        // Only the owner of the password gets here, so the answer may say more than that it failed.
        if !snapshot.are_active(&makers) {
            return Err(void_password());
        }
        let subject = Subject { kind: SubjectKind::User, name: user.name().clone() };
        let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
        let now = app.now();
        let draft = Draft {
            name: session_name()?,
            subject: subject.clone(),
            expires_at: tokens::end(now, SESSION)?,
            session: true,
            issued_by: makers,
        };
        let (stored, issued) = draft.issue(&snapshot, &minted, now)?;
        let mut changes = vec![Change::Put(stored)];
        end_oldest_sessions(&snapshot, user.id(), app.logins.max_sessions(), &mut changes);
        let rows = audit::login(&app, &subject, user.id(), &changes);
        let (base, actor) = (snapshot.revision(), subject.to_string());
        let committed = match lock {
            None => app.store.commit(base, &actor, changes, rows).await,
            Some(lock) => app.store.commit_locked(lock, base, &actor, changes, rows).await,
        };
        match committed {
            Ok(_) => return Ok(tokens::answer(issued)),
            Err(CommitError::Moved { .. } | CommitError::NameTaken { .. }) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(HttpError::unavailable("too many writers at once"))
}

/// The 401 for every refused login.
fn wrong() -> HttpError {
    HttpError::unauthenticated("user or password is wrong").hint("try again, or ask an administrator")
}

/// The answer to a right password that is capped by an account which is gone.
fn void_password() -> HttpError {
    let message = "the account that set this password is gone or disabled, so it is void";
    HttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "void_password", message)
        .hint("ask an administrator to set it again")
}

/// A user whose password was right.
struct Verified {
    user: Id,
    hash: String,
}

async fn verify(app: &App, name: &Name, network: Network, password: &str) -> Result<Verified, HttpError> {
    let snapshot = app.fresh().await?;
    let user = who_may_sign_in(&snapshot, name);
    let attempt = LoginAttempt {
        name: name.as_str(),
        network,
        password: SecretString::from(password),
        stored: user.map(|(_, hash)| hash),
    };
    let (reason, error) = match (app.logins.check(attempt).await, user) {
        (Ok(true), Some((user, hash))) => {
            return Ok(Verified { user: user.id().clone(), hash: hash.to_owned() });
        }
        (Ok(_), _) => ("user or password is wrong".to_owned(), wrong()),
        (Err(not_checked), _) => (not_checked.to_string(), throttled(not_checked)),
    };
    tracing::warn!(user = %name, %network, reason, "a login was refused");
    audit::refused_login(app, Some(name), snapshot.revision(), network, &reason).await?;
    Err(error)
}

/// The user of a name and the hash of its password, where there is one and it is not disabled.
fn who_may_sign_in<'a>(snapshot: &'a Snapshot, name: &Name) -> Option<(&'a Arc<Stored>, &'a str)> {
    let user = snapshot.by_name(Kind::User, name.as_str())?;
    match (&user.resource.spec, &user.confidential) {
        (Spec::User(spec), Some(Confidential::PasswordHash(hash))) if !spec.disabled => Some((user, hash)),
        _ => None,
    }
}

/// Makes room for one more session of a user, so that signing in again and again does not fill the store.
fn end_oldest_sessions(snapshot: &Snapshot, user: &Id, most: usize, changes: &mut Vec<Change>) {
    let is_session = |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Token(token) if token.session && token.subject_id == *user);
    let mut sessions: Vec<&Arc<Stored>> = snapshot.all(Kind::Token).filter(is_session).collect();
    sessions.sort_by_key(|stored| stored.resource.revision);
    let ended = (sessions.len() + 1).saturating_sub(most);
    let mut revision = changes.last().map_or(snapshot.revision(), Change::revision);
    for stored in sessions.into_iter().take(ended) {
        revision = revision.next();
        let (id, name) = (stored.id().clone(), stored.name().clone());
        changes.push(Change::Delete { kind: Kind::Token, id, name, revision });
    }
}

/// 429 with the time to wait, in the message too.
fn throttled(not_checked: NotChecked) -> HttpError {
    let (NotChecked::Name(wait) | NotChecked::Network(wait) | NotChecked::Busy(wait)) = not_checked else {
        return match not_checked {
            NotChecked::Store(error) => error.into(),
            _ => HttpError::internal(),
        };
    };
    let message = format!("{not_checked}; try again in {} s", wait.as_millis().div_ceil(1000).max(1));
    HttpError::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "login_throttled", message)
        .hint(
            "wait; if you forgot the password, an administrator can set a new one, which may be used at once",
        )
        .retry_after(wait)
}

/// The accounts that set the password with which this user signs in.
fn password_set_by(user: &Stored) -> Vec<Id> {
    match &user.resource.spec {
        Spec::User(spec) => spec.password_set_by.clone(),
        _ => Vec::new(),
    }
}

fn session_name() -> Result<Name, HttpError> {
    let id = Id::mint().to_string();
    format!("session-{id}").parse().map_err(|_| HttpError::internal())
}

/// Ends the session whose token is presented
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    responses((status = 204, description = "the token is no longer good"), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, HttpError> {
    let _admission = commit::admit(&app, &caller)?;
    // Refused without a turn, so that no other token can hold up writers.
    if !caller.principal.session {
        let message = "this token was not made by a login, so it does not end with a logout";
        return Err(HttpError::invalid("", message).hint("delete it with `mcpctl delete token NAME`"));
    }
    let mut attempts = Attempts::begin(&app, Lane::Urgent, &caller).await;
    while let Some((caller, lock)) = attempts.next().await? {
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
