//! Why an account may use an Llm: each binding that gives a right to it.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_api::{Kind, Name, Verb, question::HeldRule, spec::Subject};
use serde::Deserialize;

use super::{
    super::{
        error::HttpError,
        query::{self, Query},
        rights,
        viewed::viewed,
    },
    frame::{Frame, Section},
    links, page, revoke,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Which account, and which Llm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    subject: String,
    llm: String,
}

#[derive(Template)]
#[template(path = "why.html")]
struct WhyPage {
    frame: Frame,
    account: Subject,
    llm: Name,
    disabled: bool,
    /// Of the credential in use alone, which may be narrowed.
    is_own: bool,
    uses: Vec<Right>,
    grants: Vec<Grant>,
}

struct Right {
    verb: Verb,
    allowed: bool,
}

struct Grant {
    held: HeldRule,
    revoke: Option<String>,
}

/// Shows it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<WhyQuery>,
) -> Result<Response, HttpError> {
    let account = query::account(&query.0.subject)?;
    let llm = viewed(&app, &caller, Kind::Llm, &query.0.llm).await?.name().clone();
    let Caller { principal, snapshot, .. } = &caller;
    let of_others = rights::may_view_rights(&caller);
    let is_own = of_others.is_err() && account == principal.subject;
    if !is_own {
        of_others?;
        rights::check_account(&caller, &account)?;
    }
    let may = |verb: Verb| {
        let reason = match is_own {
            true => snapshot.reason(principal, verb, Kind::Llm, Some(llm.as_str())),
            false => snapshot.reason_for(&account, verb, Kind::Llm, Some(llm.as_str())),
        };
        Right { verb, allowed: reason.is_some() }
    };
    let uses = [Verb::Run, Verb::View].map(may).into();
    let mut rules = if is_own { snapshot.rules_of(principal) } else { snapshot.rules_for(&account) };
    rules.retain(|held| {
        [Verb::Run, Verb::View].iter().any(|verb| held.rule.allows(*verb, Kind::Llm, llm.as_str()))
    });
    let grant = |held: HeldRule| Grant {
        revoke: revoke::offered(&caller, &held.binding, Some(&account), held.via_group.as_ref()),
        held,
    };
    let grants = rules.into_iter().map(grant).collect();
    let disabled = !snapshot.is_active(&account);
    let frame = Frame::new(&visit, Some(Section::Access), format!("{} and {llm}", account.name));
    page::show(StatusCode::OK, &WhyPage { frame, account, llm, disabled, is_own, uses, grants })
}

impl WhyPage {
    fn person(&self) -> String {
        links::person(&self.account)
    }

    fn group(&self, name: &Name) -> String {
        links::person(&Subject { kind: mcpctl_api::spec::SubjectKind::Group, name: name.clone() })
    }
}
