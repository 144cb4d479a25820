//! The agents that hand over their journals, and what the newest lines of one show of its engines. All of it is the statement of the
//! account that reports; what an engine is doing right now is known at its machine alone.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use jiff::Timestamp;
use mcpctl_api::{Id, Kind, Verb, audit::AuditEntry, spec::Subject};
use mcpctl_journal::{JournalEntry, Line};
use mcpctl_store::ReportingAgent;
use serde::Deserialize;

use super::{
    super::{
        audit::{self, PageQuery},
        error::HttpError,
        path::Path,
        query::Query,
    },
    fields::{Pages, address, given},
    frame::{Frame, Section},
    links, page,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Agents of one page.
const PAGE_AGENTS: u32 = 50;
/// Lines of an agent's journal that its page is made of.
const EXAMINED_LINES: u32 = 500;
/// How the journal names an answer that was completed.
const OK: &str = "ok";
/// The page.
const PATH: &str = "/console/agents";

/// Where the list begins.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsQuery {
    #[serde(deserialize_with = "given")]
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    frame: Frame,
    rows: Vec<Row>,
    pages: Pages,
}

struct Row {
    agent: Id,
    lines: u64,
    at: Timestamp,
    /// The account that reports; `None` of one that is gone.
    reporter: Option<Subject>,
}

/// Lists the agents: all of them to those who may view the audit of all accounts, to others those that they report themselves.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<AgentsQuery>,
) -> Result<Response, HttpError> {
    let after = query.0.after.as_deref().map(position).transpose()?;
    let Caller { principal, snapshot, .. } = &caller;
    let all = snapshot.authorize_all(principal, Verb::View, Kind::Audit).is_ok();
    if !all && principal.narrowing.is_some() {
        return Err(audit::denied(&app, &caller, Kind::Audit, &principal.subject).await?);
    }
    let reporter = (!all).then_some(&principal.id);
    let agents = app.store.reporting_agents(reporter, after.as_ref(), PAGE_AGENTS).await?;
    let is_full = agents.len() >= usize::try_from(PAGE_AGENTS).unwrap_or(usize::MAX);
    let next = agents.last().filter(|_| is_full).map(|last| address(PATH, &[("after", Some(cursor(last)))]));
    let pages = Pages { start: after.map(|_| PATH.to_owned()), next };
    let row = |found: ReportingAgent| Row {
        reporter: snapshot.by_id(&found.reporter).and_then(|stored| stored.as_subject()),
        agent: found.agent,
        lines: found.lines,
        at: found.at,
    };
    let rows = agents.into_iter().map(row).collect();
    let frame = Frame::new(&visit, Some(Section::Agents), Section::Agents.label());
    page::show(StatusCode::OK, &AgentsPage { frame, rows, pages })
}

/// The place of an agent in the order.
fn cursor(ReportingAgent { agent, reporter, at, .. }: &ReportingAgent) -> String {
    format!("{}.{agent}.{reporter}", at.as_microsecond())
}

fn position(cursor: &str) -> Result<ReportingAgent, HttpError> {
    let mut parts = cursor.splitn(3, '.');
    let mut read = || {
        let at = Timestamp::from_microsecond(parts.next()?.parse().ok()?).ok()?;
        let (agent, reporter) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(ReportingAgent { agent, reporter, lines: 0, at })
    };
    read().ok_or_else(|| HttpError::invalid("after", "that is not the address of a next page"))
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    agent: Id,
    engines: BTreeMap<String, Engine>,
    /// The time of the oldest line that it is made of.
    since: Option<Timestamp>,
    lines: usize,
}

/// What an agent's journal shows of a local provider.
#[derive(Debug, Default, PartialEq, Eq)]
struct Engine {
    /// The model that answered last, by its own name.
    model: Option<String>,
    answers: u64,
    failures: u64,
    output_tokens: u64,
    last_at: Option<Timestamp>,
    /// How its last answer ended.
    last_outcome: Option<String>,
    /// The Llm that it last answered in place of.
    llm: Option<String>,
}

impl Engine {
    fn class(outcome: &str) -> &'static str {
        if outcome == OK { "good" } else { "bad" }
    }
}

/// Shows what an agent's journal has of its engines.
pub async fn one(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(agent): Path<String>,
) -> Result<Response, HttpError> {
    let agent: Id = agent.parse().map_err(|_| HttpError::no_route(&format!("{PATH}/{agent}")))?;
    let filter =
        PageQuery { agent: Some(agent.clone()), limit: Some(EXAMINED_LINES), ..PageQuery::default() };
    let rows = Box::pin(audit::page(&app, &caller, filter)).await?.items;
    let page = AgentPage {
        frame: Frame::new(&visit, Some(Section::Agents), agent.to_string()),
        engines: engines(&rows),
        since: rows.last().map(|row| row.at),
        lines: rows.len(),
        agent,
    };
    page::show(StatusCode::OK, &page)
}

/// The engines of rows, newest first.
fn engines(rows: &[AuditEntry]) -> BTreeMap<String, Engine> {
    let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
    let lines = rows.iter().filter_map(|row| row.report.as_ref()?.line.as_deref());
    let entries = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok());
    for entry in entries.map(|line| line.entry.bounded()) {
        let (at, Some(served)) = (entry.at(), entry.served()) else { continue };
        let engine = engines.entry(served.provider.clone()).or_default();
        engine.last_at = engine.last_at.max(Some(at));
        if engine.llm.is_none() {
            engine.llm.clone_from(&served.llm);
        }
        if let JournalEntry::Ended { outcome, model, tokens, .. } = &entry {
            engine.answers += 1;
            engine.failures += u64::from(outcome != OK);
            let tokens = tokens.map_or(0, |tokens| tokens.output_tokens);
            engine.output_tokens = engine.output_tokens.saturating_add(tokens);
            engine.last_outcome.get_or_insert_with(|| outcome.clone());
            if engine.model.is_none() {
                engine.model.clone_from(model);
            }
        }
    }
    engines
}

impl AgentPage {
    fn records(&self) -> String {
        address("/console/failovers", &[("agent", Some(self.agent.to_string()))])
    }
}
