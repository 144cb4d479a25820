//! Questions about rights: the caller's own, and for callers who may view accounts and their rights those of others.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use mcpctl_access::Reason;
use mcpctl_api::{
    Kind, Spec, Verb,
    question::{CanI, CanIAnswer, Grantee, Rights, WhoCan},
    spec::Subject,
};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    error::HttpError,
    path,
    query::{Query, account},
};
use crate::{app::App, caller::Caller, record_questions::NoAnswer};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(can_i, who_can, rights))]
pub struct Docs;

/// The name that stands for all.
const EVERY: &str = "*";

/// Shows whether the caller may do something, and why; with `as`, whether another account may
#[utoipa::path(
    post, path = "/api/v1/auth/can-i", tag = "auth", request_body = CanI,
    responses((status = 200, body = CanIAnswer), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "may not view accounts and their rights")),
)]
pub async fn can_i(caller: Caller, body: Bytes) -> Result<Json<CanIAnswer>, HttpError> {
    let question: CanI =
        serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    let verb: Verb = question.verb.parse().map_err(|e| HttpError::invalid("verb", format!("{e}")))?;
    let kind = path::kind(&question.kind)
        .or_else(|_| question.kind.parse().map_err(|e| HttpError::invalid("kind", format!("{e}"))))?;
    if let Some(other) = &question.account {
        may_view_rights(&caller)?;
        check_account(&caller, other)?;
    }
    let Caller { principal, snapshot, .. } = &caller;
    let name = question.name.as_deref().map(|asked| named(&caller, kind, asked)).transpose()?;
    let name = name.as_deref();
    let reason = match &question.account {
        None => snapshot.reason(principal, verb, kind, name),
        Some(other) => snapshot.reason_for(other, verb, kind, name),
    };
    // As for the routes of tokens: a narrowed credential needs its rules to allow it.
    let within_rules = match name {
        _ if question.account.is_some() => true,
        Some(name) => snapshot.may_own_token(principal, verb, name),
        None => principal.narrowing.is_none(),
    };
    let account = question.account.as_ref().unwrap_or(&principal.subject);
    let own = kind == Kind::Token && within_rules && snapshot.takes_no_rule(account, verb, name);
    let own_records = !kind.is_resource()
        && verb == Verb::View
        && name.is_none_or(|name| name == account.path())
        && (question.account.is_some() || principal.narrowing.is_none());
    let allowed = reason.is_some() || own || own_records;
    let reason = match (reason, &question.account) {
        (Some(reason), _) => explain(&reason),
        (None, _) if own => "a person's own tokens take no rule".to_owned(),
        (None, Some(other)) if !snapshot.is_active(other) => format!("{other} is disabled"),
        (None, _) if own_records => "an account's own records take no rule".to_owned(),
        (None, None) => snapshot.denial_reason(principal, verb, kind, name).to_owned(),
        (None, Some(_)) => "no rule allows it".to_owned(),
    };
    Ok(Json(CanIAnswer { allowed, reason, revision: snapshot.revision() }))
}

/// What rules match: of a resource its name, also where its id is asked for; of records the account that they are about.
fn named(caller: &Caller, kind: Kind, asked: &str) -> Result<String, HttpError> {
    if kind.is_resource() {
        let stored = caller.snapshot.resolve(kind, asked);
        return Ok(stored.map_or_else(|| asked.to_owned(), |stored| stored.name().to_string()));
    }
    if asked == EVERY { Ok(asked.to_owned()) } else { Ok(account(asked)?.path()) }
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

/// Lists all accounts that may do something, and why; for those who may view accounts and their rights
#[utoipa::path(
    get, path = "/api/v1/auth/who-can", tag = "auth",
    params(("verb" = String, Query), ("kind" = String, Query), ("name" = String, Query)),
    responses((status = 200, body = WhoCan), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn who_can(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<WhoCanQuery>,
) -> Result<Json<WhoCan>, HttpError> {
    let WhoCanQuery { verb, kind, name } = query.0;
    let verb: Verb = verb.parse().map_err(|e| HttpError::invalid("verb", format!("{e}")))?;
    let kind: Kind = kind.parse().map_err(|e| HttpError::invalid("kind", format!("{e}")))?;
    may_view_rights(&caller)?;
    let name = named(&caller, kind, &name)?;
    let subjects = grantees(&app, &caller, verb, kind, name).await?;
    Ok(Json(WhoCan { subjects, revision: caller.snapshot.revision() }))
}

/// All accounts that may do something. It looks at each account, so it has a turn as questions about records have.
pub(super) async fn grantees(
    app: &App,
    caller: &Caller,
    verb: Verb,
    kind: Kind,
    name: String,
) -> Result<Vec<Grantee>, NoAnswer> {
    let snapshot = Arc::clone(&caller.snapshot);
    app.record_questions.answer(&caller.principal.id, move || snapshot.who_can(verb, kind, &name)).await
}

/// The query of rights.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RightsQuery {
    subject: Option<String>,
}

/// Lists what the caller may do, and by which roles and bindings; with `subject`, what another account may do
#[utoipa::path(
    get, path = "/api/v1/auth/rights", tag = "auth",
    params(("subject" = Option<String>, Query, description = "an account, e.g. `user/alice`, for callers who may view accounts and their rights")),
    responses((status = 200, body = Rights), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn rights(caller: Caller, query: Query<RightsQuery>) -> Result<Json<Rights>, HttpError> {
    let Caller { principal, snapshot, .. } = &caller;
    let revision = snapshot.revision();
    let Some(subject) = query.0.subject.as_deref().map(account).transpose()? else {
        let token = snapshot.by_id(&principal.token).map(|token| &token.resource.spec);
        return Ok(Json(Rights {
            disabled: false,
            groups: snapshot.groups_of(principal),
            rules: snapshot.rules_of(principal),
            narrowed_to: token.and_then(|spec| match spec {
                Spec::Token(token) => token.rules.clone(),
                _ => None,
            }),
            makers: principal.makers.len(),
            subject: principal.subject.clone(),
            revision,
        }));
    };
    may_view_rights(&caller)?;
    check_account(&caller, &subject)?;
    Ok(Json(Rights {
        disabled: !snapshot.is_active(&subject),
        groups: snapshot.groups_for(&subject),
        rules: snapshot.rules_for(&subject),
        narrowed_to: None,
        makers: 0,
        subject,
        revision,
    }))
}

/// The answers show accounts, groups, roles and bindings, so the caller must be allowed to view them all.
pub(super) fn may_view_rights(caller: &Caller) -> Result<(), HttpError> {
    for shown in [Kind::User, Kind::ServiceAccount, Kind::Group, Kind::Role, Kind::RoleBinding] {
        caller.snapshot.authorize_all(&caller.principal, Verb::View, shown)?;
    }
    Ok(())
}

/// Rejects what is no account of this mcpd, for a caller who may view them all.
pub(super) fn check_account(caller: &Caller, account: &Subject) -> Result<(), HttpError> {
    let kind = account.kind.kind();
    let exists = caller.snapshot.by_name(kind, account.name.as_str()).is_some();
    match kind {
        Kind::User | Kind::ServiceAccount if exists => Ok(()),
        Kind::User | Kind::ServiceAccount => {
            Err(HttpError::invalid("subject", format!("there is no {account}")))
        }
        _ => Err(HttpError::invalid("subject", "rights are asked for of a User or a ServiceAccount")),
    }
}
