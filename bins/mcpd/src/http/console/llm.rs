//! One Llm: how it does and what it did, where its requests go, who may use it and why, and within which limits.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Reason, Stored};
use mcpctl_api::{
    HumanDuration, Kind, Name, Spec, Verb,
    activity::ActivityCounts,
    breaker_status::{BreakerState, BreakerStatus, LlmStatus},
    limit_status::LimitCount,
    llm_test::{LlmTest, StepState},
    question::Grantee,
    spec::{LlmSpec, MidStream},
    usage::{UsageItem, UsagePage},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, limits, path::Path, query::Query, rights, status, usage, viewed::viewed},
    cost,
    form::Form,
    frame::{Frame, Section},
    llms::state_of,
    page, text,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock, inference::llm_test, record_questions::NoAnswer};

/// Accounts that the page lists; the command line lists all.
const MAX_GRANTEES: usize = 100;
/// Limits that the page lists.
const MAX_LIMITS: usize = 20;
/// Whose usage the page shows.
const USAGE_SPAN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Models that the page lists: those that providers named, and `(local)`.
const MAX_MODELS: usize = 20;
/// The model under which failovers at agents are counted.
const LOCAL_MODEL: &str = "(local)";

#[derive(Template)]
#[template(path = "llm.html")]
struct LlmPage {
    frame: Frame,
    stored: Arc<Stored>,
    llm: Box<LlmSpec>,
    status: LlmStatus,
    counts: ActivityCounts,
    targets: Vec<Target>,
    /// Why the caller may run it, or why not.
    own: Result<Reason, &'static str>,
    test: Option<LlmTest>,
    /// `None` for a page whose live parts alone are shown.
    rest: Option<Rest>,
}

/// What is not live.
struct Rest {
    usage: Usage,
    /// Whether `usage` is of all accounts.
    usage_of_all: bool,
    fallback_of: Vec<Name>,
    grantees: Grantees,
    limits: Vec<LimitRow>,
}

/// Who may run the Llm.
enum Grantees {
    /// The accounts that are listed, and how many more there are.
    Shown(Vec<Grantee>, usize),
    /// The caller may not view that.
    Hidden,
    /// They cannot be listed now.
    Later(String),
}

/// What the Llm's requests used.
enum Usage {
    Shown(UsagePage),
    /// The caller's token shows none.
    Hidden,
    /// It cannot be added up now.
    Later(String),
}

/// Where requests go.
struct Target {
    url: String,
    model: String,
    weight: u8,
    key: Option<String>,
    /// Why its key is not sent.
    void_key: Option<String>,
    breaker: BreakerStatus,
}

impl Target {
    fn state(&self) -> (&'static str, &'static str) {
        match self.breaker.state {
            _ if self.void_key.is_some() => ("bad", "key is void"),
            BreakerState::Closed => ("good", "closed"),
            BreakerState::HalfOpen => ("warn", "half open"),
            BreakerState::Open if self.breaker.some_forms => ("warn", "open for some requests"),
            BreakerState::Open => ("bad", "open"),
            BreakerState::Other => ("plain", "unknown"),
        }
    }
}

/// A Limit on the caller's requests.
struct LimitRow {
    name: Name,
    counts: Vec<LimitCount>,
}

impl LlmPage {
    /// The class of its state in the style sheet, and its name.
    fn state(&self) -> (&'static str, &'static str) {
        state_of(&self.status)
    }

    fn mid_stream(&self) -> &'static str {
        match self.llm.mid_stream {
            MidStream::Error => "it ends with an error",
            MidStream::Restart => "a fallback answers anew, and goes on where it equals what was delivered",
            MidStream::Continue => "a fallback continues it",
        }
    }

    /// What answered the requests of a row of usage.
    fn answered_by(item: &UsageItem) -> &str {
        match item.model.as_deref() {
            Some(LOCAL_MODEL) => "local providers of agents (failovers at the edge)",
            None | Some("") => "no model named",
            Some(model) => model,
        }
    }

    /// What agents may do, in one line.
    fn failover(&self) -> String {
        let failover = &self.llm.failover;
        if !failover.allowed {
            return "no: agents do not fall back".to_owned();
        }
        let grace = match failover.offline_grace {
            HumanDuration(grace) if grace.is_zero() => "only while mcpd can be asked".to_owned(),
            grace => format!("for {grace} without mcpd too"),
        };
        format!("yes, of callers who may {} it; {grace}", failover.require.verb().as_str())
    }
}

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmQuery {
    /// Whether only what changes by itself is shown, which the script asks for every few seconds.
    live: bool,
}

/// Shows the Llm of this name or id.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    query: Query<LlmQuery>,
) -> Result<Response, HttpError> {
    let stored = viewed(&app, &caller, Kind::Llm, &name).await?;
    let rest = if query.0.live { None } else { Some(Box::pin(rest(&app, &caller, stored.name())).await?) };
    show(&app, &visit, &caller, stored, rest, None)
}

/// The form of a test has no fields but its token.
#[derive(Deserialize)]
pub struct TestForm {}

/// Tests the way to the model, and shows the Llm with what was found.
pub async fn test(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    Form(TestForm {}): Form<TestForm>,
) -> Result<Response, HttpError> {
    let found = Box::pin(llm_test::run(&app, caller.clone(), &name)).await?;
    let caller = app.authenticate(caller.bearer()).await?;
    let stored = viewed(&app, &caller, Kind::Llm, &name).await?;
    let rest = Box::pin(rest(&app, &caller, stored.name())).await?;
    show(&app, &visit, &caller, stored, Some(rest), Some(found))
}

fn show(
    app: &App,
    visit: &Visit,
    caller: &Caller,
    stored: Arc<Stored>,
    rest: Option<Rest>,
    test: Option<LlmTest>,
) -> Result<Response, HttpError> {
    let Spec::Llm(llm) = &stored.resource.spec else { return Err(HttpError::internal()) };
    let status = status::status_of(app, caller, &stored);
    let name = stored.name();
    let Caller { principal, snapshot, .. } = caller;
    let own = snapshot.reason(principal, Verb::Run, Kind::Llm, Some(name.as_str()));
    let page = LlmPage {
        frame: Frame::new(visit, Some(Section::Llms), name.to_string()),
        targets: targets(llm, &status),
        counts: app.inference.activity.of(stored.id()),
        own: own.ok_or_else(|| snapshot.denial_reason(principal, Verb::Run, Kind::Llm, Some(name.as_str()))),
        llm: llm.clone(),
        stored: Arc::clone(&stored),
        status,
        test,
        rest,
    };
    page::show(StatusCode::OK, &page)
}

async fn rest(app: &App, caller: &Caller, name: &Name) -> Result<Rest, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let may_view =
        |kind, name: &Name| snapshot.authorize_name(principal, Verb::View, kind, name.as_str()).is_ok();
    let fallback_of = snapshot.falling_back_to(name).map(|other| other.name().clone());
    Ok(Rest {
        usage: used(app, caller, name).await?,
        usage_of_all: snapshot.authorize_all(principal, Verb::View, Kind::Usage).is_ok(),
        fallback_of: fallback_of.filter(|other| may_view(Kind::Llm, other)).collect(),
        grantees: grantees(app, caller, name).await?,
        limits: limits_of(app, caller, name).await?,
    })
}

/// Those who may view rights see everyone's, others why they may use it themselves.
async fn grantees(app: &App, caller: &Caller, llm: &Name) -> Result<Grantees, HttpError> {
    if rights::may_view_rights(caller).is_err() {
        return Ok(Grantees::Hidden);
    }
    match rights::grantees(app, caller, Verb::Run, Kind::Llm, llm.to_string()).await {
        Ok(mut all) => {
            let more = all.len().saturating_sub(MAX_GRANTEES);
            all.truncate(MAX_GRANTEES);
            Ok(Grantees::Shown(all, more))
        }
        // The rest of the page is shown even so.
        Err(NoAnswer::NoTurn(error)) => Ok(Grantees::Later(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn targets(llm: &LlmSpec, status: &LlmStatus) -> Vec<Target> {
    llm.upstreams()
        .zip(&status.breakers)
        .map(|(upstream, breaker)| {
            let field = upstream.field("apiKey");
            let void = status.void_keys.iter().find(|void| void.field == field);
            Target {
                url: upstream.url.to_string(),
                model: upstream.model.to_owned(),
                weight: upstream.weight,
                key: upstream.api_key.map(|key| key.secret.to_string()),
                void_key: void
                    .map(|void| void.reason.clone().unwrap_or_else(|| "its reference is void".to_owned())),
                breaker: breaker.clone(),
            }
        })
        .collect()
}

/// What the Llm's requests used, by model: of all accounts where the caller may view that, else the caller's own.
async fn used(app: &App, caller: &Caller, llm: &Name) -> Result<Usage, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let may_view = snapshot.authorize_all(principal, Verb::View, Kind::Usage).is_ok()
        || principal.narrowing.is_none()
        || snapshot.authorize_records(principal, Kind::Usage, &principal.subject).is_ok();
    if !may_view {
        return Ok(Usage::Hidden);
    }
    let since = clock::now().checked_sub(USAGE_SPAN).unwrap_or(Timestamp::UNIX_EPOCH);
    let query = usage::PageQuery {
        by: Some("model".to_owned()),
        llm: Some(llm.to_string()),
        since: Some(since),
        limit: Some(MAX_MODELS),
        ..usage::PageQuery::default()
    };
    match Box::pin(usage::page(app, caller, query)).await {
        Ok(page) => Ok(Usage::Shown(page)),
        // The rest of the page is shown even so.
        Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => {
            Ok(Usage::Later(error.body().message.clone()))
        }
        Err(error) => Err(error),
    }
}

/// The Limits on the caller's requests that the caller may view, each with the counters that are the caller's or shared.
async fn limits_of(app: &App, caller: &Caller, llm: &Name) -> Result<Vec<LimitRow>, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let mut rows = Vec::new();
    let on = snapshot.limits_on(principal, llm.as_str());
    let visible = on.iter().filter(|limit| {
        snapshot.authorize_name(principal, Verb::View, Kind::Limit, limit.name().as_str()).is_ok()
    });
    for limit in visible.take(MAX_LIMITS) {
        let status = limits::status(app, caller, limit.name().as_str()).await?.0;
        let is_own =
            |count: &LimitCount| count.subject.as_ref().is_none_or(|subject| *subject == principal.subject);
        let counts = status.counters.into_iter().filter(is_own).collect();
        rows.push(LimitRow { name: status.limit, counts });
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(rows)
}
