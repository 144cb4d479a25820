//! The Llms that the caller may view, with what each is doing.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_api::{
    Kind, Name, Spec, Verb,
    activity::ActivityCounts,
    breaker_status::{LlmState, LlmStatus},
};
use serde::Deserialize;

use super::{
    super::{
        error::HttpError,
        query::{ListQuery, Query},
        status,
    },
    fields::{Pages, address},
    frame::{Frame, Section},
    page,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Llms of one page.
const PAGE_ITEMS: usize = 100;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmsQuery {
    after: Option<Name>,
}

#[derive(Template)]
#[template(path = "llms.html")]
struct LlmsPage {
    frame: Frame,
    rows: Vec<Row>,
    pages: Pages,
    may_create: bool,
}

struct Row {
    status: LlmStatus,
    model: String,
    targets: usize,
    counts: ActivityCounts,
}

impl Row {
    /// The class of the state in the style sheet, and its name.
    fn state(&self) -> (&'static str, &'static str) {
        state_of(&self.status)
    }

    /// The mean time to the first token.
    fn first_token(&self) -> String {
        match self.counts.first_token_micros.checked_div(self.counts.first_tokens) {
            Some(micros) => format!("{} ms", micros / 1000),
            None => "–".to_owned(),
        }
    }
}

/// The class of an Llm's state in the style sheet, and its name. Where a breaker lets a request through to try, the Llm may be well again.
pub(super) fn state_of(status: &LlmStatus) -> (&'static str, &'static str) {
    let class = match status.state {
        LlmState::BreakerHalfOpen => "warn",
        LlmState::Ok => "good",
        LlmState::Unknown | LlmState::Other => "plain",
        LlmState::Failing | LlmState::BreakerOpen | LlmState::NoCredential => "bad",
    };
    (class, status.state.describe())
}

/// Shows the list.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<LlmsQuery>,
) -> Result<Response, HttpError> {
    let path = Section::Llms.path();
    let start = query.0.after.as_ref().map(|_| path.to_owned());
    let list = status::statuses(&app, &caller, &ListQuery::after(query.0.after, PAGE_ITEMS))?;
    let rows = list.items.into_iter().filter_map(|status| {
        let stored = caller.snapshot.by_name(Kind::Llm, status.llm.as_str())?;
        let Spec::Llm(llm) = &stored.resource.spec else { return None };
        let counts = app.inference.activity.of(stored.id());
        Some(Row { status, model: llm.model.clone(), targets: llm.targets.len(), counts })
    });
    let rows = rows.collect();
    let may_create = caller.snapshot.authorize_all(&caller.principal, Verb::Create, Kind::Llm).is_ok();
    let next = list.next.map(|last| address(path, &[("after", Some(last.to_string()))]));
    let frame = Frame::new(&visit, Some(Section::Llms), Section::Llms.label());
    page::show(StatusCode::OK, &LlmsPage { frame, rows, pages: Pages { start, next }, may_create })
}
