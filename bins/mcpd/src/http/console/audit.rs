//! The audit: what mcpd decided, and what agents reported, newest first.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use mcpctl_api::{
    audit::{AuditDecision, AuditEntry},
    error::ErrorBody,
};
use serde::Deserialize;

use super::{
    super::error::HttpError,
    fields::{Moment, Pages, given},
    frame::{Frame, Section},
    page,
    records::{self, OwnFields, RecordFields},
    text,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

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

/// The fields that the audit has besides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditFields {
    #[serde(deserialize_with = "given")]
    action: Option<String>,
    decision: Outcome,
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

impl OwnFields for AuditFields {
    const PATH: &str = PATH;

    fn rows(&self) -> (Option<String>, Option<AuditDecision>) {
        (self.action.clone(), self.decision.decision())
    }

    fn given(&self) -> Vec<(&'static str, Option<String>)> {
        let decision = self.decision.decision().map(|decision| decision.as_str().to_owned());
        vec![("action", self.action.clone()), ("decision", decision)]
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    fields: RecordFields<AuditFields>,
    rows: Vec<AuditEntry>,
    pages: Pages,
    error: Option<ErrorBody>,
}

/// Shows a page of it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    fields: RecordFields<AuditFields>,
) -> Result<Response, HttpError> {
    let ((rows, pages), wrong) = page::filtered(fields.rows(&app, &caller).await)?;
    let frame = Frame::new(&visit, Some(Section::Audit), Section::Audit.label());
    let error = wrong.as_ref().map(|error| error.body().clone());
    page::show_filtered(wrong, &AuditPage { frame, fields, rows, pages, error })
}
