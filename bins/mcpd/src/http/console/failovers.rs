//! The failover ledger: every time an agent answered in place of an Llm, or was not allowed to, as agents report it. mcpd confirms a line
//! where its own signature is in it; everything else is the statement of the account that handed it over.

use std::{collections::HashMap, sync::Arc};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use jiff::SignedDuration;
use mcpctl_api::{
    Id,
    agent::FailoverOutcome,
    audit::{AuditDecision, AuditEntry},
    error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED, ErrorBody},
};
use mcpctl_journal::{JournalEntry, Line};
use serde::Deserialize;

use super::{
    super::{
        audit::{self, PageQuery},
        error::HttpError,
    },
    fields::{Moment, Pages, address},
    frame::{Frame, Section},
    page,
    records::{self, OwnFields, RecordFields},
    text,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// How the journal names an answer that was completed.
const OK: &str = "ok";
/// How long after the newest row of a page the ends of its answers are looked for.
const END_SPAN: SignedDuration = SignedDuration::from_hours(24);
/// Ends that are read for one page: one of each row, and some that agents wrote twice.
const MAX_ENDS: u32 = 200;
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
    rows: Vec<(AuditEntry, End)>,
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
    let rows = with_ends(&app, &caller, fields.common.subject.clone(), rows).await?;
    let error = wrong.as_ref().map(|error| error.body().clone());
    page::show_filtered(wrong, &FailoversPage { frame, fields, rows, pages, error })
}

/// How a row ended, as far as it is reported: a class of the style sheet, and words.
struct End {
    class: &'static str,
    words: String,
}

impl End {
    fn new(class: &'static str, words: impl Into<String>) -> Self {
        Self { class, words: words.into() }
    }

    /// Of a row; `answer` is how the local answer of a failover ended.
    fn of(row: &AuditEntry, answer: Option<&str>) -> Self {
        match entry(row) {
            Some(JournalEntry::Failover { outcome: FailoverOutcome::Served, .. }) => match answer {
                Some(outcome) => Self::of_answer(outcome),
                None => Self::new("plain", "answered, no end is known"),
            },
            Some(JournalEntry::Failover { outcome: FailoverOutcome::Failed, .. }) => {
                Self::new("bad", "no answer")
            }
            Some(JournalEntry::Ended { outcome, .. }) => Self::of_answer(&outcome),
            Some(JournalEntry::Own { .. }) => Self::new("plain", "used"),
            Some(JournalEntry::Lost { .. }) => Self::new("bad", "lost"),
            _ => match row.action.as_str() {
                "failover" if row.decision == AuditDecision::Denied => Self::new("bad", "not allowed"),
                "journal-gap" => Self::new("bad", "lines are missing"),
                "journal-fork" => Self::new("bad", "forked"),
                _ => Self::new("plain", row.decision.as_str()),
            },
        }
    }

    fn of_answer(outcome: &str) -> Self {
        match outcome {
            OK => Self::new("good", "answered"),
            ACCESS_REVOKED => Self::new("bad", "cut off: access revoked"),
            ACCESS_UNCONFIRMED => Self::new("bad", "cut off: access not confirmed"),
            other => Self::new("bad", format!("broke off: {other}")),
        }
    }
}

/// What the line of a row records; `None` of mcpd's own rows, and of a line that cannot be read.
fn entry(row: &AuditEntry) -> Option<JournalEntry> {
    let line = row.report.as_ref()?.line.as_deref()?;
    Some(serde_json::from_str::<Line>(line).ok()?.entry.bounded())
}

/// Whose statement about which request a row is: another agent or account cannot end an answer of this one.
fn statement(row: &AuditEntry) -> Option<(Id, Id, String)> {
    let report = row.report.as_ref()?;
    Some((report.agent.clone(), report.reported_by_id.clone(), row.request_id.clone()))
}

/// The rows with their ends, of which those of answers are rows of their own.
async fn with_ends(
    app: &App,
    caller: &Caller,
    subject: Option<String>,
    rows: Vec<AuditEntry>,
) -> Result<Vec<(AuditEntry, End)>, HttpError> {
    let was_answered = |row: &AuditEntry| {
        matches!(entry(row), Some(JournalEntry::Failover { outcome: FailoverOutcome::Served, .. }))
    };
    let requests: Vec<String> =
        rows.iter().filter(|row| was_answered(row)).map(|row| row.request_id.clone()).collect();
    let mut ends = HashMap::new();
    if let (false, Some(newest), Some(oldest)) = (requests.is_empty(), rows.first(), rows.last()) {
        let query = PageQuery {
            subject,
            action: Some("failover-end".to_owned()),
            requests: Some(requests),
            since: Some(oldest.at),
            until: newest.at.checked_add(END_SPAN).ok(),
            limit: Some(MAX_ENDS),
            ..PageQuery::default()
        };
        let found = match Box::pin(audit::page(app, caller, query)).await {
            Ok(page) => page.items,
            // The rows are shown without them.
            Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => Vec::new(),
            Err(error) => return Err(error),
        };
        for row in found {
            if let (Some(JournalEntry::Ended { outcome, .. }), Some(statement)) =
                (entry(&row), statement(&row))
            {
                ends.insert(statement, outcome);
            }
        }
    }
    let with_end = |row: AuditEntry| {
        let answer = statement(&row).and_then(|statement| ends.get(&statement));
        let end = End::of(&row, answer.map(String::as_str));
        (row, end)
    };
    Ok(rows.into_iter().map(with_end).collect())
}

impl FailoversPage {
    fn of_agent(agent: &Id) -> String {
        address(PATH, &[("agent", Some(agent.to_string()))])
    }
}
