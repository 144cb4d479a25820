//! The caller's own tokens: what they are, new ones, new secrets, and their end. A secret is shown once, on the page that answers the form.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use jiff::Timestamp;
use mcpctl_api::{
    HumanDuration, Kind, Name, Verb,
    question::{IssuedToken, RotationRequest, TokenRequest},
    spec::{Rule, Subject},
    token_status::{TokenState, TokenStatus},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, path::Path, query::Query, token_status, tokens},
    fields::address,
    form::Form,
    frame::{Frame, Section},
    note, page,
    visit::Visit,
};
use crate::{
    app::App,
    caller::Caller,
    clock,
    commit::{WriteOptions, commit},
    writes::Intent,
};

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensQuery {
    revoked: Option<Name>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    frame: Frame,
    account: String,
    rows: Vec<Row>,
    issued: Option<IssuedToken>,
    revoked: Option<Name>,
}

struct Row {
    status: TokenStatus,
    is_current: bool,
    ends_soon: bool,
}

/// How long before its end a token is marked.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

impl Row {
    fn new(status: TokenStatus, caller: &Caller, now: Timestamp) -> Self {
        let is_current = status.id == caller.principal.token;
        let ends_soon = !status.session
            && status.state == TokenState::Active
            && status.expires_at.duration_since(now) < SOON;
        Self { status, is_current, ends_soon }
    }

    /// The class of the state in the style sheet.
    const fn class(&self) -> &'static str {
        match self.status.state {
            TokenState::Active if self.ends_soon => "warn",
            TokenState::Active => "good",
            TokenState::Expired => "plain",
            TokenState::Void => "bad",
        }
    }

    /// What the token may do.
    fn rules(&self) -> &[Rule] {
        self.status.rules.as_deref().unwrap_or_default()
    }
}

/// Shows the tokens.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<TokensQuery>,
) -> Result<Response, HttpError> {
    let TokensQuery { revoked, done } = query.0;
    let confirms = |name: &Name| {
        note::confirms(&visit.form_token, &without(name.as_str()), done.as_deref(), clock::now())
    };
    show(&app, &visit, &caller, None, revoked.filter(confirms)).await
}

async fn show(
    app: &App,
    visit: &Visit,
    caller: &Caller,
    issued: Option<IssuedToken>,
    revoked: Option<Name>,
) -> Result<Response, HttpError> {
    let now = clock::now();
    let mut rows: Vec<Row> = token_status::statuses(app, caller, Some(&caller.principal.subject))
        .await?
        .items
        .into_iter()
        .map(|status| Row::new(status, caller, now))
        .collect();
    // What a person makes before what signing in makes.
    rows.sort_by_key(|row| (row.status.session, row.status.token.clone()));
    let page = TokensPage {
        frame: Frame::new(visit, Some(Section::Tokens), Section::Tokens.label()),
        account: caller.principal.subject.name.to_string(),
        rows,
        issued,
        revoked,
    };
    page::show(StatusCode::OK, &page)
}

/// The form of a new token.
#[derive(Deserialize)]
pub struct NewTokenForm {
    name: String,
    expires_in: HumanDuration,
    #[serde(default)]
    llms: String,
}

/// Makes a token, and shows its secret.
pub async fn create(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Form(form): Form<NewTokenForm>,
) -> Result<Response, HttpError> {
    let subject = caller.principal.subject.clone();
    let request = TokenRequest {
        name: own_name(&subject, form.name.trim())?,
        expires_in: Some(form.expires_in),
        rules: rules(&form.llms)?,
        subject,
    };
    let issued = tokens::make(&app, caller.clone(), request).await?;
    let caller = app.authenticate(caller.bearer()).await?;
    show(&app, &visit, &caller, Some(issued), None).await
}

/// The name with the account's before it, as own tokens have.
fn own_name(account: &Subject, typed: &str) -> Result<Name, HttpError> {
    let prefix = format!("{}-", account.name);
    let name = if typed.starts_with(&prefix) { typed.to_owned() } else { format!("{prefix}{typed}") };
    name.parse().map_err(|error| HttpError::invalid("name", format!("{error}")))
}

/// Rules for these Llms alone; none where none is named.
fn rules(llms: &str) -> Result<Option<Vec<Rule>>, HttpError> {
    let names: Vec<&str> = llms.split([',', ' ', '\n', '\r', '\t']).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let rule = format!("view,run llms {}", names.join(",")).parse::<Rule>();
    rule.map(|rule| Some(vec![rule])).map_err(|error| HttpError::invalid("llms", error.to_string()))
}

#[derive(Template)]
#[template(path = "token.html")]
struct TokenPage {
    frame: Frame,
    row: Row,
    /// What else ends with it; `None` for a caller who may not end it.
    ends_too: Option<Vec<String>>,
    issued: Option<IssuedToken>,
}

/// Shows one token, with the forms that renew and end it.
pub async fn one(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    show_one(&app, &visit, caller, &name, None).await
}

async fn show_one(
    app: &App,
    visit: &Visit,
    caller: Caller,
    name: &str,
    issued: Option<IssuedToken>,
) -> Result<Response, HttpError> {
    // One's own take no rule.
    let own = token_status::statuses(app, &caller, Some(&caller.principal.subject)).await?.items;
    let status = match own.into_iter().find(|status| status.token.as_str() == name) {
        Some(status) => status,
        None => token_status::one(app, &caller, name).await?.0,
    };
    let row = Row::new(status, &caller, clock::now());
    let frame = Frame::new(visit, Some(Section::Tokens), row.status.token.to_string());
    let Caller { principal, snapshot, .. } = &caller;
    let token = row.status.token.as_str();
    let may_end = snapshot.may_own_token(principal, Verb::Delete, token)
        && row.status.subject == principal.subject
        || snapshot.authorize_name(principal, Verb::Delete, Kind::Token, token).is_ok();
    let ends_too = if may_end {
        let options = WriteOptions { dry_run: true, ..WriteOptions::default() };
        let plan = commit(app, caller, vec![deletion(token)], options).await.map_err(|error| error.cause)?;
        Some(plan.warnings)
    } else {
        None
    };
    page::show(StatusCode::OK, &TokenPage { frame, row, ends_too, issued })
}

fn deletion(token: &str) -> Intent {
    Intent::Delete { kind: Kind::Token, target: token.to_owned(), expected: None }
}

/// The form of a rotation.
#[derive(Deserialize)]
pub struct RotateForm {
    grace: String,
}

/// Gives a token a new secret, and shows it.
pub async fn rotate(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    Form(form): Form<RotateForm>,
) -> Result<Response, HttpError> {
    let grace = match form.grace.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| HttpError::invalid("grace", format!("{error}")))?),
    };
    let request = RotationRequest { grace, expires_in: None };
    let issued = tokens::renew(&app, caller.clone(), name, request).await?;
    // The session may have been begun with the old secret, and ended with it: what is shown is the last that it shows.
    let caller = app.authenticate(caller.bearer()).await.unwrap_or(caller);
    let token = issued.name.to_string();
    show_one(&app, &visit, caller, &token, Some(issued)).await
}

/// The form of a revocation has no fields but its token.
#[derive(Deserialize)]
pub struct RevokeForm {}

/// Ends a token.
pub async fn revoke(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    Form(RevokeForm {}): Form<RevokeForm>,
) -> Result<Response, HttpError> {
    commit(&app, caller, vec![deletion(&name)], WriteOptions::default())
        .await
        .map_err(|error| error.cause)?;
    let next = note::confirming(&visit.form_token, &without(&name), clock::now());
    Ok(Redirect::to(&next).into_response())
}

/// The page after a token is revoked.
fn without(name: &str) -> String {
    address("/console/tokens", &[("revoked", Some(name.to_owned()))])
}
