//! One user, service account or group: what it is, what it may do and by what, and its tokens.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_api::{
    Kind, Name, Resource, Spec,
    question::HeldRule,
    spec::{Subject, SubjectKind},
    token_status::{TokenState, TokenStatus},
};
use serde::Deserialize;

use super::{
    super::{
        error::HttpError,
        path::{self, Path},
        query::Query,
        rights, token_status,
        viewed::viewed,
    },
    fields::address,
    frame::{Frame, Section},
    links, note, page,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock};

/// Members, bindings and tokens that the page lists; it counts the others.
const SHOWN: usize = 200;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonQuery {
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    frame: Frame,
    subject: Subject,
    revoked: bool,
    /// For those who may view it.
    resource: Option<Resource>,
    disabled: bool,
    /// For those who may view accounts and their rights, and for itself.
    rights: Option<Rights>,
    tokens: Vec<TokenStatus>,
    more_tokens: usize,
}

struct Rights {
    groups: Vec<Name>,
    rules: Vec<HeldRule>,
    /// Bindings that name a group, with the role of each.
    bindings: Vec<(Name, Name)>,
    may_revoke: bool,
}

/// Shows it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path((segment, name)): Path<(String, String)>,
    query: Query<PersonQuery>,
) -> Result<Response, HttpError> {
    let kind = match path::kind(&segment) {
        Ok(Kind::User) => SubjectKind::User,
        Ok(Kind::ServiceAccount) => SubjectKind::ServiceAccount,
        Ok(Kind::Group) => SubjectKind::Group,
        _ => return Err(HttpError::no_route(&format!("/console/people/{segment}/{name}"))),
    };
    let Caller { principal, snapshot, .. } = &caller;
    let is_own = kind == principal.subject.kind && name == principal.subject.name.as_str();
    let resource = match viewed(&app, &caller, kind.kind(), &name).await {
        Ok(stored) => Some(stored.resource.clone()),
        Err(_) if is_own => None,
        Err(error) => return Err(error),
    };
    let name = resource.as_ref().map_or_else(|| principal.subject.name.clone(), |found| found.name.clone());
    let subject = Subject { kind, name };
    let tokens = match kind {
        SubjectKind::Group => Vec::new(),
        _ => token_status::statuses(&app, &caller, Some(&subject)).await?.items,
    };
    let more_tokens = tokens.len().saturating_sub(SHOWN);
    let page = PersonPage {
        frame: Frame::new(&visit, Some(Section::People), subject.name.to_string()),
        disabled: kind != SubjectKind::Group && !snapshot.is_active(&subject),
        rights: rights_of(&caller, &subject, is_own),
        tokens: tokens.into_iter().take(SHOWN).collect(),
        revoked: note::confirms(
            &visit.form_token,
            &links::person(&subject),
            query.0.done.as_deref(),
            clock::now(),
        ),
        more_tokens,
        resource,
        subject,
    };
    page::show(StatusCode::OK, &page)
}

fn rights_of(caller: &Caller, subject: &Subject, is_own: bool) -> Option<Rights> {
    let Caller { principal, snapshot, .. } = caller;
    let may_view = rights::may_view_rights(caller).is_ok();
    if !may_view && !is_own {
        return None;
    }
    if subject.kind == SubjectKind::Group {
        let bindings = snapshot.naming(subject).filter_map(|stored| match &stored.resource.spec {
            Spec::RoleBinding(binding) => Some((stored.name().clone(), binding.role.clone())),
            _ => None,
        });
        let bindings = bindings.take(SHOWN).collect();
        return Some(Rights { groups: Vec::new(), rules: Vec::new(), bindings, may_revoke: may_view });
    }
    let (mut groups, rules) = match may_view {
        true => (snapshot.groups_for(subject), snapshot.rules_for(subject)),
        false => (snapshot.groups_of(principal), snapshot.rules_of(principal)),
    };
    groups.sort();
    groups.dedup();
    Some(Rights { groups, rules, bindings: Vec::new(), may_revoke: may_view })
}

impl PersonPage {
    fn revoke(&self, held: &HeldRule) -> String {
        links::revoke(&held.binding, Some(&self.subject), held.via_group.as_ref())
    }

    fn group(name: &Name) -> String {
        links::person(&Subject { kind: SubjectKind::Group, name: name.clone() })
    }

    /// The members of a group, as many as are listed, and how many more there are.
    fn members(&self) -> (&[Subject], usize) {
        match self.resource.as_ref().map(|resource| &resource.spec) {
            Some(Spec::Group(group)) => {
                let shown = group.members.len().min(SHOWN);
                (group.members.split_at(shown).0, group.members.len() - shown)
            }
            _ => (&[], 0),
        }
    }

    /// What people call it, its address, and who signs in as it: names and values of a list.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        match self.resource.as_ref().map(|resource| &resource.spec) {
            Some(Spec::User(user)) => {
                add("Name", user.display_name.clone());
                add("E-mail", user.email.clone());
            }
            Some(Spec::ServiceAccount(account)) => add("Description", account.description.clone()),
            Some(Spec::Group(group)) => {
                add("Description", group.description.clone());
                add(
                    "Claims",
                    (!group.claims.is_empty())
                        .then(|| format!("members by {} claims of a sign-in too", group.claims.len())),
                );
            }
            _ => {}
        }
        facts
    }

    const fn class(token: &TokenStatus) -> &'static str {
        match token.state {
            TokenState::Active => "good",
            TokenState::Expired => "plain",
            TokenState::Void => "bad",
        }
    }

    fn is_group(&self) -> bool {
        self.subject.kind == SubjectKind::Group
    }

    fn list(&self) -> String {
        address("/console/people", &[("kind", Some(self.subject.kind.kind().plural().to_owned()))])
    }

    fn records(&self, path: &str) -> String {
        address(path, &[("subject", Some(self.subject.path()))])
    }
}
