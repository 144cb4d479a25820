//! Tokens: the caller's own as a list with new ones, and any that the caller may view, with new secrets and their end. A secret is shown
//! once, on the page that answers the form.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use jiff::Timestamp;
use mcpctl_access::Stored;
use mcpctl_api::{
    Id, Kind, Name, Revision, Spec,
    error::ErrorBody,
    question::{IssuedToken, RotationRequest, TokenRequest},
    spec::{Rule, Subject},
    token_status::{TokenState, TokenStatus},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, path::Path, query::Query, token_status, tokens},
    confirmation::{self, Confirmation},
    fields::{self, address, items},
    form::{self, Form},
    frame::{Frame, Section},
    links::{self, Link},
    note::{self, Done},
    page, text,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock, consequences::Direction, writes::Intent};

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
    form: NewTokenForm,
    error: Option<ErrorBody>,
}

/// How long a token can be good, as the form sends and shows it.
const PERIODS: [(&str, &str); 4] =
    [("1d", "1 day"), ("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days")];

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
            TokenState::Expired | TokenState::Other => "plain",
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
    let page = TokensPage { revoked: revoked.filter(confirms), ..list(&app, &visit, &caller).await? };
    page::show(StatusCode::OK, &page)
}

/// The page with an empty form.
async fn list(app: &App, visit: &Visit, caller: &Caller) -> Result<TokensPage, HttpError> {
    let now = clock::now();
    let mut rows: Vec<Row> = token_status::statuses(app, caller, Some(&caller.principal.subject))
        .await?
        .items
        .into_iter()
        .map(|status| Row::new(status, caller, now))
        .collect();
    // What a person makes before what signing in makes.
    rows.sort_by_key(|row| (row.status.session, row.status.token.clone()));
    Ok(TokensPage {
        frame: Frame::new(visit, Some(Section::Tokens), Section::Tokens.label()),
        account: caller.principal.subject.name.to_string(),
        rows,
        issued: None,
        revoked: None,
        form: NewTokenForm::default(),
        error: None,
    })
}

/// The form of a new token.
#[derive(Deserialize)]
pub struct NewTokenForm {
    name: String,
    expires_in: String,
    #[serde(default)]
    llms: String,
}

impl Default for NewTokenForm {
    fn default() -> Self {
        Self { name: String::new(), expires_in: "30d".to_owned(), llms: String::new() }
    }
}

impl NewTokenForm {
    /// What it asks for, of a token of this account.
    fn request(&self, subject: Subject) -> Result<TokenRequest, HttpError> {
        let wrong = |error| HttpError::invalid("expires_in", format!("{error}"));
        Ok(TokenRequest {
            name: own_name(&subject, self.name.trim())?,
            expires_in: Some(self.expires_in.parse().map_err(wrong)?),
            rules: rules(&self.llms)?,
            subject,
        })
    }
}

/// Makes a token, and shows its secret; the form again where it cannot.
pub async fn create(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Form(form): Form<NewTokenForm>,
) -> Result<Response, HttpError> {
    let issued = match form.request(caller.principal.subject.clone()) {
        Ok(request) => Box::pin(tokens::make(&app, caller.clone(), request)).await,
        Err(error) => Err(error),
    };
    let caller = app.authenticate(caller.bearer()).await?;
    let page = list(&app, &visit, &caller).await?;
    match issued {
        Ok(issued) => page::show(StatusCode::OK, &TokensPage { issued: Some(issued), ..page }),
        Err(error) => {
            let page = TokensPage { form, error: Some(error.body().clone()), ..page };
            page::refused(error, &page)
        }
    }
}

/// The name with the account's before it, as own tokens have.
fn own_name(account: &Subject, typed: &str) -> Result<Name, HttpError> {
    let prefix = format!("{}-", account.name);
    let name = if typed.starts_with(&prefix) { typed.to_owned() } else { format!("{prefix}{typed}") };
    fields::name(&name, typed)
}

/// Rules for these Llms alone; none where none is named.
fn rules(llms: &str) -> Result<Option<Vec<Rule>>, HttpError> {
    let names: Vec<&str> = items(llms).collect();
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
    /// The page above it.
    above: Link,
    /// Which a form about it repeats, so that it means no later token of the name.
    revision: Option<Revision>,
    may_rotate: bool,
    may_revoke: bool,
    /// Whether the session in use was begun with it.
    began_session: bool,
    issued: Option<IssuedToken>,
    error: Option<ErrorBody>,
}

/// The list that a token is in: the caller's own, or the page of another account.
fn above(caller: &Caller, account: &Subject) -> (Section, Link) {
    let own = Section::Tokens;
    match *account == caller.principal.subject {
        true => (own, own.link()),
        false => (Section::People, links::to_person(account)),
    }
}

/// Shows one token, with the forms that renew and end it.
pub async fn one(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    page::show(StatusCode::OK, &of_token(&app, &visit, &caller, &name).await?)
}

async fn of_token(app: &App, visit: &Visit, caller: &Caller, name: &str) -> Result<TokenPage, HttpError> {
    // One's own take no rule.
    let own = token_status::statuses(app, caller, Some(&caller.principal.subject)).await?.items;
    let status = match own.into_iter().find(|status| status.token.as_str() == name) {
        Some(status) => status,
        None => token_status::one(app, caller, name).await?.0,
    };
    let (row, now) = (Row::new(status, caller, clock::now()), clock::now());
    let Caller { principal, snapshot, .. } = caller;
    let stored = snapshot.by_id(&row.status.id);
    let (section, above) = above(caller, &row.status.subject);
    Ok(TokenPage {
        frame: Frame::new(visit, Some(section), row.status.token.to_string()),
        above,
        revision: stored.map(|stored| stored.resource.revision),
        began_session: begun_with(caller).is_some_and(|token| *token == row.status.id),
        may_rotate: stored.is_some_and(|stored| snapshot.may_rotate_token(principal, stored)),
        may_revoke: stored.is_some_and(|stored| snapshot.may_revoke_token(principal, stored, now)),
        row,
        issued: None,
        error: None,
    })
}

/// The token that the session in use was begun with.
fn begun_with(caller: &Caller) -> Option<&Id> {
    match &caller.snapshot.by_id(&caller.principal.token)?.resource.spec {
        Spec::Token(session) => session.begun_with.as_ref(),
        _ => None,
    }
}

fn deletion(token: &str, expected: Option<Revision>) -> Intent {
    Intent::Delete { kind: Kind::Token, target: token.to_owned(), expected }
}

/// The form of a rotation.
#[derive(Deserialize)]
pub struct RotateForm {
    grace: String,
    expected: Option<u64>,
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
    let expected = Revision(form.expected.unwrap_or_default());
    let issued = match Box::pin(tokens::renew(&app, caller.clone(), name.clone(), expected, request)).await {
        Ok(issued) => issued,
        Err(error) => {
            return match of_token(&app, &visit, &caller, &name).await {
                Ok(page) if page.may_rotate => {
                    let page = TokenPage { error: Some(error.body().clone()), ..page };
                    page::refused(error, &page)
                }
                _ => Err(error),
            };
        }
    };
    // The session may have been begun with the old secret, and ended with it: what is shown is the last that it shows.
    let caller = app.authenticate(caller.bearer()).await.unwrap_or(caller);
    let page = of_token(&app, &visit, &caller, issued.name.as_str()).await?;
    page::show(StatusCode::OK, &TokenPage { issued: Some(issued), ..page })
}

/// Shows what the revocation of a token does.
pub async fn revoke_page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    let notes = vec![
        "No later request with it is accepted, and what runs with it ends within a second. This cannot be undone."
            .to_owned(),
    ];
    let token = shown(&caller, &name);
    let owner = token.and_then(|token| owner(&caller, token));
    let (section, above) = above(&caller, owner.as_ref().unwrap_or(&caller.principal.subject));
    // A token of another name or none leads to the error that its revocation would cause.
    let name = token.map_or(name.as_str(), |token| token.name().as_str());
    let revision = caller.snapshot.resolve(Kind::Token, name).map(|token| token.resource.revision);
    let confirmation = Confirmation {
        section,
        title: format!("Revoke {name}"),
        notes,
        direction: Direction::Loss,
        shows_rights: false,
        action: format!("/console/tokens/{name}/revoke"),
        fields: revision.map(|revision| ("expected", revision.to_string())).into_iter().collect(),
        back: above.address.clone(),
        above,
        others: Vec::new(),
    };
    confirmation::show(&app, &visit, &caller, vec![deletion(name, revision)], confirmation).await
}

/// The token of this id or name, for a caller who may view it.
fn shown<'a>(caller: &'a Caller, name: &str) -> Option<&'a Arc<Stored>> {
    let stored = caller.snapshot.resolve(Kind::Token, name)?;
    caller.snapshot.may_view_token(&caller.principal, stored).then_some(stored)
}

fn owner(caller: &Caller, token: &Stored) -> Option<Subject> {
    match &token.resource.spec {
        Spec::Token(token) => Some(caller.snapshot.owner_of(token)),
        _ => None,
    }
}

/// The form of a revocation, with the revision of the token that was shown.
#[derive(Deserialize)]
pub struct RevokeForm {
    expected: Option<u64>,
}

/// Ends a token.
pub async fn revoke(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    Form(form): Form<RevokeForm>,
) -> Result<Response, HttpError> {
    let owner = shown(&caller, &name).and_then(|token| owner(&caller, token));
    let next = match owner {
        Some(owner) if owner != caller.principal.subject => Done::TokenRevoked.page(&links::person(&owner)),
        _ => without(&name),
    };
    let expected = Revision(form.expected.unwrap_or_default());
    confirmation::make(&app, &visit, caller, vec![deletion(&name, Some(expected))], &next).await
}

/// The page after a token of the caller is revoked.
fn without(name: &str) -> String {
    address("/console/tokens", &[("revoked", Some(name.to_owned()))])
}
