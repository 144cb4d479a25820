//! One user, service account or group: what it is, what it may do and by what, and its tokens.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_api::{
    Name, Resource, Spec,
    question::HeldRule,
    spec::{Subject, SubjectKind},
    token_status::{TokenState, TokenStatus},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, path::Path, query::Query, rights, token_status},
    account::{self, AccountAction},
    fields::{address, given},
    frame::{Frame, Section},
    links,
    note::Done,
    page, revoke,
    subject::ViewedSubject,
    text,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock};

/// Members, bindings and tokens that the page lists; it counts the others.
const SHOWN: usize = 200;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonQuery {
    #[serde(deserialize_with = "given")]
    what: Option<Done>,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    frame: Frame,
    subject: Subject,
    done: Option<String>,
    /// For those who may view it.
    resource: Option<Resource>,
    disabled: bool,
    /// What the caller may do to the account.
    actions: Vec<AccountAction>,
    /// For those who may view accounts and their rights, and for itself.
    rights: Option<Rights>,
    tokens: Vec<TokenRow>,
    more_tokens: usize,
    may_end_sessions: bool,
}

struct TokenRow {
    status: TokenStatus,
    may_revoke: bool,
    is_current: bool,
}

struct Rights {
    groups: Vec<Name>,
    rules: Vec<HeldRight>,
    /// Bindings that name a group.
    bindings: Vec<GroupBinding>,
}

struct HeldRight {
    held: HeldRule,
    revoke: Option<String>,
}

struct GroupBinding {
    binding: Name,
    role: Name,
    revoke: Option<String>,
}

/// Shows it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path((segment, name)): Path<(String, String)>,
    query: Query<PersonQuery>,
) -> Result<Response, HttpError> {
    let ViewedSubject { subject, is_own, stored } =
        ViewedSubject::find(&app, &caller, &segment, &name).await?;
    let Caller { principal, snapshot, .. } = &caller;
    let mut tokens = match subject.kind {
        SubjectKind::Group => Vec::new(),
        _ => token_status::statuses(&app, &caller, Some(&subject)).await?.items,
    };
    // Sessions first, so that they are listed where an account has many tokens.
    tokens.sort_by_key(|status| !status.session);
    let more_tokens = tokens.len().saturating_sub(SHOWN);
    let now = clock::now();
    let row = |status: TokenStatus| TokenRow {
        may_revoke: snapshot
            .by_id(&status.id)
            .is_some_and(|stored| snapshot.may_revoke_token(principal, stored, now)),
        is_current: status.id == principal.token,
        status,
    };
    let tokens: Vec<TokenRow> = tokens.into_iter().take(SHOWN).map(row).collect();
    let disabled = subject.kind != SubjectKind::Group && !snapshot.is_active(&subject);
    let mut actions = Vec::new();
    if subject.kind != SubjectKind::Group
        && stored.is_some()
        && snapshot.may_switch_account(principal, &subject)
    {
        actions.push(if disabled { AccountAction::Enable } else { AccountAction::Disable });
    }
    let PersonQuery { what, done } = query.0;
    let page = PersonPage {
        frame: Frame::new(&visit, Some(Section::People), subject.name.to_string()),
        disabled,
        actions,
        rights: rights_of(&caller, &subject, is_own),
        may_end_sessions: !account::Sessions::of(&caller, &subject).may_end.is_empty(),
        tokens,
        done: what
            .or(Some(Done::AccessRevoked))
            .and_then(|what| what.stated(&visit.form_token, &links::person(&subject), done.as_deref(), now)),
        more_tokens,
        resource: stored.map(|stored| stored.resource.clone()),
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
            Spec::RoleBinding(binding) => Some(GroupBinding {
                revoke: revoke::offered(caller, stored.name(), None, None),
                binding: stored.name().clone(),
                role: binding.role.clone(),
            }),
            _ => None,
        });
        let bindings = bindings.take(SHOWN).collect();
        return Some(Rights { groups: Vec::new(), rules: Vec::new(), bindings });
    }
    let (mut groups, rules) = match may_view {
        true => (snapshot.groups_for(subject), snapshot.rules_for(subject)),
        false => (snapshot.groups_of(principal), snapshot.rules_of(principal)),
    };
    groups.sort();
    groups.dedup();
    let right = |held: HeldRule| HeldRight {
        revoke: revoke::offered(caller, &held.binding, Some(subject), held.via_group.as_ref()),
        held,
    };
    Some(Rights { groups, rules: rules.into_iter().map(right).collect(), bindings: Vec::new() })
}

impl PersonPage {
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
            TokenState::Expired | TokenState::Other => "plain",
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
