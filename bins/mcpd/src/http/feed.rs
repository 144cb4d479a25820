//! `GET /api/v1/feed`: whether an agent may answer for its caller, as server-sent events, so that it ends what runs when access
//! ends. A feed allows nothing: that takes a probe.
//!
//! It is no request in flight that holds a drain: it ends when the shutdown begins, and the agent connects to another replica.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::StreamExt as _;
use mcpctl_api::{
    Id, Name, Revision,
    feed::{FeedEnd, FeedEnded, FeedHeartbeat, FeedState, HEARTBEAT_SECONDS, MAX_FEED_LLMS},
};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{error::HttpError, query::Query};
use crate::{
    app::App,
    caller::Caller,
    clock,
    feeds::{Decided, Feed},
};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(feed), components(schemas(FeedState, FeedHeartbeat, FeedEnded)))]
pub struct Docs;

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// How long a feed has heartbeats while the store does not answer this replica.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(15);

/// The query of a feed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedQuery {
    llms: String,
    since: Option<u64>,
}

impl FeedQuery {
    fn llms(&self) -> Result<BTreeSet<String>, HttpError> {
        let mut llms = BTreeSet::new();
        for llm in self.llms.split(',') {
            if llm.parse::<Id>().is_err() && llm.parse::<Name>().is_err() {
                return Err(HttpError::invalid("llms", format!("`{llm}` is neither a name nor an id"))
                    .hint("write e.g. `llms=claude,gpt`"));
            }
            llms.insert(llm.to_owned());
            if llms.len() > MAX_FEED_LLMS {
                let message = format!("a feed is about {MAX_FEED_LLMS} Llms at most");
                return Err(HttpError::invalid("llms", message));
            }
        }
        Ok(llms)
    }
}

/// Streams whether an agent may answer for the caller in place of these Llms: `event: state` at the beginning and whenever it
/// changed, `event: heartbeat` every 5 s, `event: ended` where the credential is not valid any more
#[utoipa::path(
    get, path = "/api/v1/feed", tag = "resources",
    params(("llms" = String, Query, description = "names or ids of up to 64 Llms, e.g. `claude,gpt`"),
           ("since" = Option<u64>, Query, description = "revision of the last event of an earlier feed about the same Llms: \
                                                          without `state` where nothing has changed since")),
    responses((status = 200, content_type = "text/event-stream",
               description = "server-sent events; `data` is a FeedState, a FeedHeartbeat or a FeedEnded"),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError, description = "the caller, or all together, have too many feeds")),
)]
pub async fn feed(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<FeedQuery>,
) -> Result<Response, HttpError> {
    let began = Instant::now();
    let Caller { principal, snapshot, .. } = &caller;
    let feed = app.feeds.open(principal, caller.bearer(), snapshot, query.0.llms()?)?;
    let is_known = query.0.since == Some(snapshot.revision().0);
    drop(caller);
    let beginning = if is_known { Step::Heartbeat } else { Step::State };
    let stream = FeedStream { app, feed, began, next_heartbeat: began, step: beginning };
    let stream = futures::stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    // Boxed, so that the stream may be moved while it waits.
    Ok(Sse::new(stream.boxed()).into_response())
}

/// The events of one feed.
struct FeedStream {
    app: Arc<App>,
    feed: Feed,
    began: Instant,
    next_heartbeat: Instant,
    step: Step,
}

/// What a feed sends next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    State,
    Heartbeat,
    Wait,
    Nothing,
}

impl FeedStream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match std::mem::replace(&mut self.step, Step::Wait) {
                Step::State => return self.state(),
                Step::Heartbeat => match self.feed.shown_up_to() {
                    // A reader may go on from a heartbeat's revision, so each state of that revision goes first.
                    None => self.step = Step::State,
                    Some(revision) => {
                        self.next_heartbeat = Instant::now() + HEARTBEAT_INTERVAL;
                        if let Some(event) = self.heartbeat(revision) {
                            return Some(event);
                        }
                    }
                },
                Step::Wait => self.step = self.wait().await?,
                Step::Nothing => return None,
            }
        }
    }

    /// Waits for a change, for the next heartbeat, and for the end of the credential; `None` at the shutdown.
    async fn wait(&mut self) -> Option<Step> {
        let mut draining = self.app.draining.clone();
        let expires_at = self.feed.expires_at();
        let until_expiry: Duration =
            expires_at.duration_since(clock::now()).try_into().unwrap_or(Duration::ZERO);
        let until_heartbeat = self.next_heartbeat.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => None,
            changed = self.feed.changed() => changed.ok().map(|()| Step::State),
            // The clock may be set meanwhile, so it is compared again with each heartbeat.
            () = tokio::time::sleep(until_heartbeat.min(until_expiry)) => {
                Some(if clock::now() >= expires_at { Step::State } else { Step::Heartbeat })
            }
        }
    }

    fn state(&mut self) -> Option<Event> {
        let Decided { ended, revision, expires_at, llms } = self.feed.decided();
        let expired = (clock::now() >= expires_at).then_some(FeedEnd::Expired);
        if let Some(reason) = ended.or(expired) {
            self.step = Step::Nothing;
            return Event::default().event("ended").json_data(FeedEnded { reason }).ok();
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT_INTERVAL;
        let state = FeedState { revision, as_of: self.as_of(), expires_at, llms };
        Event::default().event("state").json_data(state).ok()
    }

    /// `None` where this replica does not know whether its snapshot is the store's present state.
    fn heartbeat(&self, revision: Revision) -> Option<Event> {
        if self.app.replica.confirmed_at().elapsed() >= CONFIRMATION_TIMEOUT {
            return None;
        }
        let heartbeat = FeedHeartbeat { revision, as_of: self.as_of() };
        Event::default().event("heartbeat").json_data(heartbeat).ok()
    }

    /// Milliseconds from the beginning of the feed until this replica's snapshot was last known to be the store's state.
    fn as_of(&self) -> u64 {
        let confirmed = self.app.replica.confirmed_at().into_std();
        let as_of = confirmed.saturating_duration_since(self.began);
        u64::try_from(as_of.as_millis()).unwrap_or(u64::MAX)
    }
}
