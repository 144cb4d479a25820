//! `GET /api/v1/audit`: what mcpd decided, and what agents reported, newest first.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use jiff::Timestamp;
use mcpctl_api::{
    Id, Kind, Verb,
    audit::{AuditDecision, AuditEntry, AuditPage, AuditReport},
    spec::Subject,
};
use mcpctl_store::{AuditEvent, AuditQuery, AuditRow, Decision};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::OpenApi;
use uuid::Uuid;

use super::{
    error::HttpError,
    query::{Query, account},
};
use crate::{app::App, caller::Caller, record_questions::MAX_TIME};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(audit))]
pub struct Docs;

/// `Retry-After` of a question that took too long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Rows of a page by default.
const DEFAULT_ROWS: u32 = 100;
/// Maximum of rows of a page.
const MAX_ROWS: u32 = 1000;

/// The query of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PageQuery {
    pub(super) subject: Option<String>,
    pub(super) llm: Option<String>,
    pub(super) action: Option<String>,
    pub(super) decision: Option<AuditDecision>,
    pub(super) agent: Option<Id>,
    /// Requests that the rows are about; the console asks for them, the API does not.
    #[serde(skip)]
    pub(super) requests: Option<Vec<String>>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<u32>,
}

/// Lists what was decided, newest first: all of it to those who may view the audit of all accounts, to others what is about themselves
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit",
    params(("subject" = Option<String>, Query, description = "an account, e.g. `user/alice`"),
           ("llm" = Option<String>, Query, description = "an Llm's name or id"),
           ("action" = Option<String>, Query, description = "a verb, or e.g. `failover`, `login`, `journal-gap`"),
           ("decision" = Option<AuditDecision>, Query),
           ("agent" = Option<String>, Query, description = "only what this agent reported"),
           ("since" = Option<String>, Query, description = "RFC 3339"),
           ("until" = Option<String>, Query, description = "RFC 3339"),
           ("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = AuditPage), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn audit(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Result<Json<AuditPage>, HttpError> {
    Ok(Json(Box::pin(page(&app, &caller, query.0)).await?))
}

/// A page of what the caller may view.
pub(super) async fn page(app: &App, caller: &Caller, query: PageQuery) -> Result<AuditPage, HttpError> {
    let limit = query.limit.unwrap_or(DEFAULT_ROWS);
    if !(1..=MAX_ROWS).contains(&limit) {
        return Err(HttpError::invalid("limit", format!("`{limit}` is not between 1 and {MAX_ROWS}")));
    }
    let filter = filter(app, query, caller, limit).await?;
    let _turn = app.record_questions.take(&caller.principal.id).await?;
    // What it drops ends in the database too.
    let rows = timeout(MAX_TIME, Box::pin(app.store.audit_events(&filter))).await.map_err(|_| {
        HttpError::unavailable("reading the audit takes too long")
            .hint("ask for a shorter time with `since`, or for one account")
            .retry_after(RETRY_AFTER)
    })??;
    let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = rows.last().filter(|_| full).map(|event| cursor(&event.row));
    Ok(AuditPage { items: rows.into_iter().map(entry).collect(), next })
}

async fn filter(app: &App, query: PageQuery, caller: &Caller, limit: u32) -> Result<AuditQuery, HttpError> {
    let PageQuery { subject, llm, action, decision, agent, requests, since, until, after, limit: _ } = query;
    let subject = subject.as_deref().map(account).transpose()?;
    let Caller { principal, snapshot, .. } = caller;
    let allowed = match &subject {
        None => snapshot.authorize_all(principal, Verb::View, Kind::Audit),
        Some(subject) => snapshot.authorize_records(principal, Kind::Audit, subject),
    };
    let is_other = subject.as_ref().is_some_and(|subject| *subject != principal.subject);
    // A token that is narrowed to one Llm does not show what its account does elsewhere.
    let is_narrowed = principal.narrowing.is_some();
    let all = allowed.is_ok();
    if !all && (is_other || is_narrowed) {
        let target = subject.as_ref().unwrap_or(&principal.subject);
        return Err(denied(app, caller, Kind::Audit, target).await?);
    }
    Ok(AuditQuery {
        // By id, so that a later account of the same name sees nothing of an earlier one.
        principal_id: (!all).then(|| principal.id.clone()),
        // Rows keep the name of their time, so that one's own are not asked for by name.
        principal: subject.as_ref().filter(|_| all).map(Subject::to_string),
        kind: llm.as_ref().map(|_| Kind::Llm),
        resource: llm,
        action,
        decision: decision.map(|decision| match decision {
            AuditDecision::Allowed => Decision::Allowed,
            AuditDecision::Denied => Decision::Denied,
        }),
        agent,
        requests,
        since,
        until,
        after: after.as_deref().map(position).transpose()?,
        limit,
    })
}

/// Records that the caller may not view the audit or the usage of an account, and returns the answer.
pub(super) async fn denied(
    app: &App,
    caller: &Caller,
    kind: Kind,
    account: &Subject,
) -> Result<HttpError, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let account = account.path();
    let denied = snapshot.forbidden(principal, Verb::View, kind, &account);
    let (revision, reason) = (snapshot.revision(), denied.to_string());
    app.audit.record(app.audit.denial(principal, Verb::View, kind, &account, revision, &reason)).await?;
    Ok(denied.into())
}

/// The place of a row in the order.
fn cursor(row: &AuditRow) -> String {
    format!("{}.{}", row.at.as_microsecond(), row.id)
}

fn position(cursor: &str) -> Result<(Timestamp, Uuid), HttpError> {
    let parsed = cursor.split_once('.').and_then(|(at, id)| {
        Some((Timestamp::from_microsecond(at.parse().ok()?).ok()?, Uuid::parse_str(id).ok()?))
    });
    parsed.ok_or_else(|| HttpError::invalid("after", "that is not `next` of a page"))
}

fn entry(event: AuditEvent) -> AuditEntry {
    let AuditEvent { row, report } = event;
    AuditEntry {
        id: row.id.to_string(),
        at: row.at,
        principal: row.principal,
        principal_id: row.principal_id,
        token_id: row.token_id,
        action: row.action,
        kind: row.kind,
        resource_id: row.resource_id,
        resource_name: row.resource_name,
        decision: match row.decision {
            Decision::Allowed => AuditDecision::Allowed,
            Decision::Denied => AuditDecision::Denied,
        },
        reason: row.reason,
        revision: row.revision,
        request_id: row.request_id,
        report: report.map(|report| AuditReport {
            agent: report.agent,
            seq: report.seq,
            hash: report.hash,
            line: report.line,
            at: report.at,
            reported_by: report.reported_by,
            reported_by_id: report.reported_by_id,
            confirmed: report.confirmed,
        }),
    }
}
