//! `GET /api/v1/usage`: who used how much, from sums.

use std::{
    str::FromStr as _,
    sync::{Arc, LazyLock},
};

use axum::{Json, extract::State};
use jiff::{
    SignedDuration, Timestamp,
    fmt::temporal::DateTimeParser,
    tz::{TimeZone, TimeZoneDatabase},
};
use mcpctl_api::{
    Kind, Verb,
    spec::Subject,
    usage::{UsageBy, UsagePage},
    visible::short,
};
use mcpctl_store::UsageAccount;
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    audit,
    error::HttpError,
    query::{self, Query},
};
use crate::{
    app::App,
    caller::Caller,
    clock,
    usage::{MAX_PARTS, PartKey, Question},
};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(usage))]
pub struct Docs;

/// Items of a page by default.
const DEFAULT_ITEMS: usize = 100;
/// Maximum of items of a page: all that an answer may have. Another page is another answer, which adds everything up again.
const MAX_ITEMS: usize = MAX_PARTS;
/// What is shown by default: about a month.
const DEFAULT_SPAN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How much of a wrong zone an error repeats.
const MAX_ZONE_BYTES: usize = 64;
/// Maximum length of `after`: of the names and ids of a part, as JSON.
const MAX_CURSOR_BYTES: usize = 4096;

/// The query of a page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PageQuery {
    pub(super) by: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) llm: Option<String>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) zone: Option<String>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<usize>,
}

/// Adds up who used how much: of all accounts for those who may view their usage, else the caller's own
#[utoipa::path(
    get, path = "/api/v1/usage", tag = "records",
    params(("by" = Option<String>, Query, description = "what sums are grouped by, e.g. `user,llm`; of user, group, llm, model, day, hour"),
           ("subject" = Option<String>, Query, description = "an account, e.g. `user/alice`"),
           ("llm" = Option<String>, Query, description = "an Llm's name or id"),
           ("since" = Option<String>, Query, description = "RFC 3339; its hour is in it. 30 days ago by default"),
           ("until" = Option<String>, Query, description = "RFC 3339; now by default"),
           ("zone" = Option<String>, Query, description = "whose days `day` means, e.g. `Europe/Berlin` or `+02:00`; UTC by default"),
           ("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 50000, 100 by default")),
    responses((status = 200, body = UsagePage), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError),
              (status = 503, body = mcpctl_api::ApiError)),
)]
pub async fn usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Result<Json<UsagePage>, HttpError> {
    Ok(Json(Box::pin(page(&app, &caller, query.0)).await?))
}

/// A page of the sums that the caller may view.
pub(super) async fn page(app: &App, caller: &Caller, query: PageQuery) -> Result<UsagePage, HttpError> {
    let PageQuery { by, subject, llm, since, until, zone, after, limit } = query;
    let limit = limit.unwrap_or(DEFAULT_ITEMS);
    if !(1..=MAX_ITEMS).contains(&limit) {
        return Err(HttpError::invalid("limit", format!("`{limit}` is not between 1 and {MAX_ITEMS}")));
    }
    let by = parts(by.as_deref())?;
    let zone = zone.as_deref().map_or(Ok(TimeZone::UTC), time_zone)?;
    let after = after.as_deref().map(position).transpose()?;
    let until = until.unwrap_or_else(clock::now);
    let since = since.unwrap_or_else(|| until.checked_sub(DEFAULT_SPAN).unwrap_or(until));
    let account = account(app, caller, subject.as_deref()).await?;
    let question = Question { since, until, by: by.clone(), zone, account, llm };
    let _turn = app.record_questions.take(&caller.principal.id).await?;
    let report = Box::pin(app.usage.answer(&app.store, caller, question)).await?;
    let (items, last) = report.page(caller, after, limit);
    let next = last.map(serde_json::to_string).transpose().map_err(|_| HttpError::internal())?;
    let (since, until) = report.hours;
    Ok(UsagePage { since, until, by, items, totals: report.totals, complete: report.complete, next })
}

/// Whose usage the caller gets; `None` is that of all.
async fn account(
    app: &App,
    caller: &Caller,
    subject: Option<&str>,
) -> Result<Option<UsageAccount>, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let subject = subject.map(query::account).transpose()?;
    let own = || Some(UsageAccount::Id(principal.id.clone()));
    let may_view = |account: &Subject| snapshot.authorize_records(principal, Kind::Usage, account).is_ok();
    let target = match &subject {
        None if snapshot.authorize_all(principal, Verb::View, Kind::Usage).is_ok() => return Ok(None),
        Some(subject) if *subject != principal.subject => {
            if may_view(subject) {
                let stored = snapshot.by_name(subject.kind.kind(), subject.name.as_str());
                return Ok(Some(match stored {
                    // By id, so that an account does not show what an earlier one of its name used.
                    Some(stored) => UsageAccount::Id(stored.id().clone()),
                    None => UsageAccount::Named(subject.to_string()),
                }));
            }
            subject
        }
        // An account's own. A token that is narrowed does not show what its account does elsewhere.
        _ if principal.narrowing.is_none() || may_view(&principal.subject) => return Ok(own()),
        _ => &principal.subject,
    };
    Err(audit::denied(app, caller, Kind::Usage, target).await?)
}

/// A zone by its name or offset. By the names that mcpd itself has, so that every replica knows the same ones.
fn time_zone(text: &str) -> Result<TimeZone, HttpError> {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    let wrong = |_| {
        HttpError::invalid("zone", format!("`{}` is not a time zone", short(text, MAX_ZONE_BYTES)))
            .hint("write e.g. `Europe/Berlin`, `UTC` or `+02:00`")
    };
    DateTimeParser::new().parse_time_zone_with(&ZONES, text).map_err(wrong)
}

/// What the sums are grouped by, in the order of the question.
fn parts(by: Option<&str>) -> Result<Vec<UsageBy>, HttpError> {
    let Some(by) = by else { return Ok(Vec::new()) };
    let mut parts = Vec::new();
    for word in by.split(',') {
        let part = UsageBy::from_str(word).map_err(|error| HttpError::invalid("by", error.to_string()))?;
        if parts.contains(&part) {
            return Err(HttpError::invalid("by", format!("`{part}` is named more than once")));
        }
        parts.push(part);
    }
    if parts.contains(&UsageBy::Day) && parts.contains(&UsageBy::Hour) {
        return Err(HttpError::invalid("by", "an hour has its day: name one of the two"));
    }
    Ok(parts)
}

fn position(cursor: &str) -> Result<PartKey, HttpError> {
    let wrong = || HttpError::invalid("after", "that is not `next` of a page");
    if cursor.len() > MAX_CURSOR_BYTES {
        return Err(wrong());
    }
    serde_json::from_str(cursor).map_err(|_| wrong())
}
