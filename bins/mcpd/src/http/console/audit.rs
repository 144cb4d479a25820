//! The audit: what mcpd decided, and what agents reported, newest first.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_api::{
    Id,
    audit::{AuditDecision, AuditEntry},
};
use serde::Deserialize;

use super::{
    super::{
        audit::{self, PageQuery},
        error::HttpError,
        query::Query,
    },
    fields::{Moment, address, given},
    frame::{Frame, Section},
    links, page,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Rows of one page.
const PAGE_ROWS: u32 = 50;
/// The page.
const PATH: &str = "/console/audit";
/// Actions that the field suggests; it takes any other too.
const ACTIONS: [&str; 11] = [
    "run",
    "view",
    "create",
    "edit",
    "delete",
    "login",
    "login-sso",
    "failover",
    "failover-end",
    "run-local",
    "journal-gap",
];

/// The fields of the filter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditFields {
    #[serde(deserialize_with = "given")]
    subject: Option<String>,
    #[serde(deserialize_with = "given")]
    llm: Option<String>,
    #[serde(deserialize_with = "given")]
    action: Option<String>,
    decision: Outcome,
    #[serde(deserialize_with = "given")]
    agent: Option<Id>,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    until: Option<Moment>,
    #[serde(deserialize_with = "given")]
    after: Option<String>,
}

/// Which decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    #[default]
    All,
    Allowed,
    Denied,
}

impl Outcome {
    const fn decision(self) -> Option<AuditDecision> {
        match self {
            Self::All => None,
            Self::Allowed => Some(AuditDecision::Allowed),
            Self::Denied => Some(AuditDecision::Denied),
        }
    }
}

impl AuditFields {
    fn page(&self, after: Option<String>) -> String {
        let moment = |moment: Option<Moment>| moment.map(|moment| moment.0.to_string());
        let fields = [
            ("subject", self.subject.clone()),
            ("llm", self.llm.clone()),
            ("action", self.action.clone()),
            ("decision", self.decision.decision().map(|decision| decision.as_str().to_owned())),
            ("agent", self.agent.as_ref().map(Id::to_string)),
            ("since", moment(self.since)),
            ("until", moment(self.until)),
            ("after", after),
        ];
        address(PATH, &fields)
    }

    fn moment(moment: Option<&Moment>) -> String {
        moment.map(|moment| moment.field()).unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    fields: AuditFields,
    rows: Vec<AuditEntry>,
    next: Option<String>,
}

/// Shows a page of it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<AuditFields>,
) -> Result<Response, HttpError> {
    let fields = query.0;
    let filter = PageQuery {
        subject: fields.subject.clone(),
        llm: fields.llm.clone(),
        action: fields.action.clone(),
        decision: fields.decision.decision(),
        agent: fields.agent.clone(),
        since: fields.since.map(|moment| moment.0),
        until: fields.until.map(|moment| moment.0),
        after: fields.after.clone(),
        limit: Some(PAGE_ROWS),
    };
    let found = Box::pin(audit::page(&app, &caller, filter)).await?;
    let next = found.next.map(|next| fields.page(Some(next)));
    let frame = Frame::new(&visit, Some(Section::Audit), Section::Audit.label());
    page::show(StatusCode::OK, &AuditPage { frame, fields, rows: found.items, next })
}

impl AuditPage {
    /// What a principal of a row leads to.
    fn person(entry: &AuditEntry) -> Option<String> {
        links::principal(&entry.principal)
    }

    const fn class(entry: &AuditEntry) -> &'static str {
        match entry.decision {
            AuditDecision::Allowed => "good",
            AuditDecision::Denied => "bad",
        }
    }
}
