//! Lists of users, service accounts and groups.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use jiff::Timestamp;
use mcpctl_access::{Permit, Stored, verb::View};
use mcpctl_api::{
    Id, Kind, Name, Spec,
    spec::{Subject, SubjectKind},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, query::Query},
    fields::{Pages, address, contains, given},
    frame::{Frame, Section},
    links, page,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Rows of one page.
const PAGE_ROWS: usize = 50;
/// Maximum of names that are examined for one page, because a filter may match few.
const MAX_EXAMINED: usize = 2000;
/// Groups that a row names; it counts the others.
const SHOWN_GROUPS: usize = 3;
/// The page.
const PATH: &str = "/console/people";

/// Which list, and its part.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeopleQuery {
    kind: Listed,
    #[serde(deserialize_with = "given")]
    name: Option<String>,
    #[serde(deserialize_with = "given")]
    after: Option<String>,
}

/// What is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listed {
    /// People.
    #[default]
    Users,
    /// Programs.
    ServiceAccounts,
    /// Groups of both.
    Groups,
}

impl Listed {
    const ALL: [Self; 3] = [Self::Users, Self::ServiceAccounts, Self::Groups];

    const fn kind(self) -> SubjectKind {
        match self {
            Self::Users => SubjectKind::User,
            Self::ServiceAccounts => SubjectKind::ServiceAccount,
            Self::Groups => SubjectKind::Group,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Users => "Users",
            Self::ServiceAccounts => "Service accounts",
            Self::Groups => "Groups",
        }
    }

    fn path(self) -> String {
        format!("{PATH}?kind={}", self.kind().kind().plural())
    }
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    frame: Frame,
    kind: Listed,
    name: Option<String>,
    rows: Vec<Row>,
    pages: Pages,
}

struct Row {
    subject: Subject,
    /// What people call it.
    title: String,
    disabled: bool,
    groups: String,
    members: usize,
    tokens: Vec<Id>,
    last_used_at: Option<Timestamp>,
}

impl Row {
    fn link(&self) -> String {
        links::person(&self.subject)
    }
}

/// Shows a list.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<PeopleQuery>,
) -> Result<Response, HttpError> {
    let PeopleQuery { kind, name, after } = query.0;
    let (mut rows, mut last, mut examined) = (Vec::new(), None, 0);
    let from = after.as_deref().unwrap_or_default();
    let mut permits = caller.snapshot.permitted_after::<View>(&caller.principal, kind.kind().kind(), from);
    while rows.len() < PAGE_ROWS && examined < MAX_EXAMINED {
        let Some(stored) = permits.next().map(Permit::into_resource) else { break };
        if contains(stored.name().as_str(), name.as_deref()) {
            rows.push(row(&caller, kind.kind(), &stored));
        }
        examined += 1;
        last = Some(stored.name().clone());
    }
    let tokens: Vec<Id> = rows.iter().flat_map(|row| row.tokens.iter().cloned()).collect();
    let uses = app.token_uses.of(&app.store, &tokens).await?;
    for row in &mut rows {
        row.last_used_at = row.tokens.iter().filter_map(|token| uses.get(token)).max().copied();
    }
    let page = |after: Option<String>| {
        let kind = kind.kind().kind().plural().to_owned();
        address(PATH, &[("kind", Some(kind)), ("name", name.clone()), ("after", after)])
    };
    let next = last.filter(|_| permits.next().is_some()).map(|last: Name| page(Some(last.to_string())));
    let pages = Pages { start: after.as_ref().map(|_| page(None)), next };
    let frame = Frame::new(&visit, Some(Section::People), Section::People.label());
    let page = PeoplePage { frame, kind, name, rows, pages };
    page::show(StatusCode::OK, &page)
}

fn row(caller: &Caller, kind: SubjectKind, stored: &Stored) -> Row {
    let Caller { principal, snapshot, .. } = caller;
    let subject = Subject { kind, name: stored.name().clone() };
    let (title, members) = match &stored.resource.spec {
        Spec::User(user) => (user.display_name.clone(), 0),
        Spec::ServiceAccount(account) => (account.description.clone(), 0),
        Spec::Group(group) => (group.description.clone(), group.members.len()),
        _ => (None, 0),
    };
    let may_view_groups = snapshot.authorize_all(principal, mcpctl_api::Verb::View, Kind::Group).is_ok();
    let groups: Vec<Name> = if may_view_groups { snapshot.groups_for(&subject) } else { Vec::new() };
    let tokens = snapshot.tokens_of(stored.id()).filter(|token| snapshot.may_view_token(principal, token));
    Row {
        disabled: kind != SubjectKind::Group && !snapshot.is_active(&subject),
        title: title.unwrap_or_default(),
        groups: listed(&groups),
        members,
        tokens: tokens.map(|token| token.id().clone()).collect(),
        last_used_at: None,
        subject,
    }
}

fn listed(groups: &[Name]) -> String {
    let shown: Vec<&str> = groups.iter().take(SHOWN_GROUPS).map(Name::as_str).collect();
    match groups.len().saturating_sub(SHOWN_GROUPS) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
