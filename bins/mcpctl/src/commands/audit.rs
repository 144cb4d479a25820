//! `mcpctl audit`: what mcpd decided, and what agents reported of their local answers.

mod follow;

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{
    Id, Verb,
    audit::{AuditDecision, AuditEntry, AuditPage},
};
use mcpctl_client::{AuditRequest, Client, ClientError};

use super::time::{local, point_in_time};
use crate::{
    Outcome,
    context::Global,
    output::{
        Shape,
        table::{Table, short_fingerprint},
    },
    suggest::{self, did_you_mean},
};

/// Difference between the agent's time of a report and that of its receipt from which both are shown.
const LATE: SignedDuration = SignedDuration::from_mins(1);
/// Maximum of rows of one request.
const MAX_PAGE: usize = 1000;

/// What is recorded besides the verbs of rules.
const EVENTS: [&str; 6] = ["failover", "failover-end", "journal-gap", "login", "login-sso", "run-local"];

/// The actions that are recorded most.
pub(super) fn actions() -> impl Iterator<Item = &'static str> {
    Verb::ALL.into_iter().map(|verb| verb.as_str()).chain(EVENTS)
}

/// Which rows to show.
#[derive(clap::Args)]
pub struct Args {
    /// Only rows about this account, e.g. alice or serviceaccount/ci
    #[arg(long, value_name = "ACCOUNT", visible_alias = "subject")]
    user: Option<String>,
    /// Only rows about this Llm, by name or id
    #[arg(long)]
    llm: Option<String>,
    /// Only rows of this action: a verb, or e.g. login, failover, journal-gap
    #[arg(long)]
    action: Option<String>,
    /// Only what was denied
    #[arg(long)]
    denied: bool,
    /// Only what this agent reported
    #[arg(long, value_name = "ID")]
    agent: Option<Id>,
    /// Only rows from then on: today, yesterday, a date, a time, or how long ago, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<Timestamp>,
    /// Only rows before then
    #[arg(long, value_name = "TIME", value_parser = point_in_time, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// The newest so many rows
    #[arg(long, short = 'n', default_value_t = 50, value_name = "COUNT")]
    rows: usize,
    /// Go on with every new row, the newest last
    #[arg(long, short)]
    follow: bool,
    /// table, wide, json or yaml; with -f one line of JSON for each row
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

impl Args {
    pub(super) fn follows(&self) -> bool {
        self.follow
    }
}

/// Prints the rows, newest first; those of a feed in their order.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let client = global.client()?;
    let mut request = AuditRequest {
        subject: args.user,
        llm: args.llm,
        action: args.action,
        decision: args.denied.then_some(AuditDecision::Denied),
        agent: args.agent,
        since: args.since,
        until: args.until,
        ..AuditRequest::default()
    };
    if args.follow {
        return follow::run(&client, request, args.rows, args.output).await;
    }
    let page = newest(&client, &mut request, args.rows).await?;
    if args.output.print(&page)? {
        return Ok(ExitCode::SUCCESS);
    }
    if page.items.is_empty() {
        note!("nothing found");
        if let Some(action) = &request.action
            && !actions().any(|known| known == action)
            && let Some(hint) = did_you_mean(action, actions())
        {
            note!("no action is called `{action}`: {hint}");
        }
        suggest::note_unknown(&client, request.subject.as_deref(), request.llm.as_deref()).await;
        return Ok(ExitCode::SUCCESS);
    }
    if args.output == Shape::Wide {
        let columns =
            ["TIME", "PRINCIPAL", "ACTION", "RESOURCE", "DECISION", "REPORTED BY", "REQUEST", "REASON"];
        let mut table = Table::new(&columns).in_one_line(true);
        page.items.iter().for_each(|entry| table.row(wide_row(entry)));
        table.print()?;
    } else {
        // Long names wrap, and never what was decided.
        let mut table = Table::new(&["TIME", "DECISION", "PRINCIPAL", "ACTION", "RESOURCE", "REASON"])
            .unbroken(&["TIME", "DECISION", "ACTION"])
            .subjects(&["PRINCIPAL"])
            .without_empty();
        page.items.iter().for_each(|entry| table.row(row(entry)));
        table.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest rows, at most so many, newest first.
async fn newest(client: &Client, request: &mut AuditRequest, rows: usize) -> Result<AuditPage, ClientError> {
    let mut page = AuditPage { items: Vec::new(), next: None };
    while page.items.len() < rows {
        request.limit = Some((rows - page.items.len()).min(MAX_PAGE));
        let AuditPage { items, next } = client.audit(request).await?;
        page.items.extend(items);
        page.next.clone_from(&next);
        request.after = next;
        if request.after.is_none() {
            break;
        }
    }
    request.after = None;
    Ok(page)
}

/// Fits a terminal: the time without the year, and what was decided before the names.
fn row(entry: &AuditEntry) -> [String; 6] {
    [
        local(entry.at).strftime("%m-%d %T").to_string(),
        entry.decision.as_str().to_owned(),
        entry.principal.clone(),
        entry.action.clone(),
        format!("{}/{}", entry.kind.plural(), short_fingerprint(&entry.resource_name)),
        entry.reason.clone(),
    ]
}

fn wide_row(entry: &AuditEntry) -> [String; 8] {
    let reported_by = entry.report.as_ref().map(|report| {
        let confirmed = if report.confirmed { " (confirmed)" } else { "" };
        // The row has the time of the receipt: an agent may have been on its own for days.
        let late = report.at.filter(|at| entry.at.duration_since(*at).abs() > LATE);
        let at = late.map(|at| format!(", of {}", local(at).strftime("%F %T"))).unwrap_or_default();
        format!("{}{confirmed}{at}", report.reported_by)
    });
    [
        local(entry.at).strftime("%F %T").to_string(),
        entry.principal.clone(),
        entry.action.clone(),
        format!("{}/{}", entry.kind.plural(), entry.resource_name),
        entry.decision.as_str().to_owned(),
        reported_by.unwrap_or_default(),
        entry.request_id.clone(),
        entry.reason.clone(),
    ]
}
