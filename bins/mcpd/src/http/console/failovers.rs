//! The failover ledger: every time an agent answered in place of an Llm, or was not allowed to, as agents report it. mcpd confirms a line
//! where its own signature is in it; everything else is the statement of the account that handed it over.

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
const PATH: &str = "/console/failovers";

/// The fields of the filter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailoverFields {
    #[serde(deserialize_with = "given")]
    subject: Option<String>,
    #[serde(deserialize_with = "given")]
    llm: Option<String>,
    #[serde(deserialize_with = "given")]
    agent: Option<Id>,
    show: Shown,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    until: Option<Moment>,
    #[serde(deserialize_with = "given")]
    after: Option<String>,
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

impl FailoverFields {
    fn page(&self, after: Option<String>) -> String {
        let moment = |moment: Option<Moment>| moment.map(|moment| moment.0.to_string());
        let fields = [
            ("subject", self.subject.clone()),
            ("llm", self.llm.clone()),
            ("agent", self.agent.as_ref().map(Id::to_string)),
            ("show", Some(self.show.as_str().to_owned())),
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
#[template(path = "failovers.html")]
struct FailoversPage {
    frame: Frame,
    fields: FailoverFields,
    rows: Vec<AuditEntry>,
    next: Option<String>,
}

/// Shows a page of it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<FailoverFields>,
) -> Result<Response, HttpError> {
    let fields = query.0;
    let (action, decision) = fields.show.rows();
    let filter = PageQuery {
        subject: fields.subject.clone(),
        llm: fields.llm.clone(),
        action: Some(action.to_owned()),
        decision,
        agent: fields.agent.clone(),
        since: fields.since.map(|moment| moment.0),
        until: fields.until.map(|moment| moment.0),
        after: fields.after.clone(),
        limit: Some(PAGE_ROWS),
    };
    let found = Box::pin(audit::page(&app, &caller, filter)).await?;
    let next = found.next.map(|next| fields.page(Some(next)));
    let frame = Frame::new(&visit, Some(Section::Failovers), Section::Failovers.label());
    page::show(StatusCode::OK, &FailoversPage { frame, fields, rows: found.items, next })
}

impl FailoversPage {
    fn person(entry: &AuditEntry) -> Option<String> {
        links::principal(&entry.principal)
    }

    const fn class(entry: &AuditEntry) -> &'static str {
        match entry.decision {
            AuditDecision::Allowed => "good",
            AuditDecision::Denied => "bad",
        }
    }

    fn of_agent(agent: &Id) -> String {
        address(PATH, &[("agent", Some(agent.to_string()))])
    }
}
