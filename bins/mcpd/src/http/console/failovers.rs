//! The failover ledger: every time an agent answered in place of an Llm, or was not allowed to, as agents report it. mcpd confirms a line
//! where its own signature is in it; everything else is the statement of the account that handed it over.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use mcpctl_api::{
    Id,
    audit::{AuditDecision, AuditEntry},
    error::ErrorBody,
};
use serde::Deserialize;

use super::{
    super::error::HttpError,
    fields::{Moment, Pages, address},
    frame::{Frame, Section},
    page,
    records::{self, OwnFields, RecordFields},
    text,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// The page.
const PATH: &str = "/console/failovers";

/// The fields that the ledger has besides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverFields {
    show: Shown,
}

/// Which lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Shown {
    #[default]
    Failovers,
    Refused,
    Ends,
    Own,
    Gaps,
    Forks,
    Lost,
}

impl Shown {
    const ALL: [Self; 7] =
        [Self::Failovers, Self::Refused, Self::Ends, Self::Own, Self::Gaps, Self::Forks, Self::Lost];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Failovers => "failovers",
            Self::Refused => "refused",
            Self::Ends => "ends",
            Self::Own => "own",
            Self::Gaps => "gaps",
            Self::Forks => "forks",
            Self::Lost => "lost",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Failovers => "failovers",
            Self::Refused => "failovers that were not allowed",
            Self::Ends => "how local answers ended",
            Self::Own => "uses of own providers",
            Self::Gaps => "journals with missing lines",
            Self::Forks => "journals that were copied or set back",
            Self::Lost => "journals that lost lines",
        }
    }

    /// The action and the decision of its rows.
    const fn rows(self) -> (&'static str, Option<AuditDecision>) {
        match self {
            Self::Failovers => ("failover", None),
            Self::Refused => ("failover", Some(AuditDecision::Denied)),
            Self::Ends => ("failover-end", None),
            Self::Own => ("run-local", None),
            Self::Gaps => ("journal-gap", None),
            Self::Forks => ("journal-fork", None),
            Self::Lost => ("journal-lost", None),
        }
    }
}

impl OwnFields for FailoverFields {
    const PATH: &str = PATH;

    fn rows(&self) -> (Option<String>, Option<AuditDecision>) {
        let (action, decision) = self.show.rows();
        (Some(action.to_owned()), decision)
    }

    fn given(&self) -> Vec<(&'static str, Option<String>)> {
        vec![("show", Some(self.show.as_str().to_owned()))]
    }
}

#[derive(Template)]
#[template(path = "failovers.html")]
struct FailoversPage {
    frame: Frame,
    fields: RecordFields<FailoverFields>,
    rows: Vec<AuditEntry>,
    pages: Pages,
    error: Option<ErrorBody>,
}

/// Shows a page of it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    fields: RecordFields<FailoverFields>,
) -> Result<Response, HttpError> {
    let ((rows, pages), wrong) = page::filtered(fields.rows(&app, &caller).await)?;
    let frame = Frame::new(&visit, Some(Section::Failovers), Section::Failovers.label());
    let error = wrong.as_ref().map(|error| error.body().clone());
    page::show_filtered(wrong, &FailoversPage { frame, fields, rows, pages, error })
}

impl FailoversPage {
    fn of_agent(agent: &Id) -> String {
        address(PATH, &[("agent", Some(agent.to_string()))])
    }
}
