//! `GET /api/v1/watch`: changes of the resources that the caller may view, as server-sent events.
//!
//! A watcher looks at the revision twice a second; all that look at the same moment share one read of the store, and a
//! change made by another replica is seen just as soon. Every look authenticates again, so a watch ends with the right
//! to it.
//!
//! An event is made when the connection takes it, and judged then: what was revoked while a caller did not read is not sent
//! when it reads on.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _};
use mcpctl_access::Change;
use mcpctl_api::{Kind, Revision, Verb};
use mcpctl_store::Feed;
use serde::Deserialize;
use serde_json::json;
use utoipa::OpenApi;

use super::{caller::Caller, error::HttpError, query::Query};
use crate::{app::App, watchers::WatcherPlace};

/// What the OpenAPI document says of this route.
#[derive(OpenApi)]
#[openapi(paths(watch))]
pub struct Docs;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Changes read at once.
const BATCH: usize = 500;
/// For so long after the caller was authenticated, events are judged in the same snapshot.
const JUDGED_FOR: Duration = Duration::from_millis(20);

/// What a watch can be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchQuery {
    kinds: Option<String>,
    since: Option<u64>,
}

/// Streams changes after a revision, each as `event: put` with the resource or `event: delete` with kind, id and name
#[utoipa::path(
    get, path = "/api/v1/watch", tag = "resources",
    params(("kinds" = Option<String>, Query, description = "plurals, e.g. `llms,secrets`; all where left out"),
           ("since" = Option<u64>, Query, description = "revision of a list or of the last event; now where left out")),
    responses((status = 200, description = "server-sent events; the `id` is the revision to go on from"),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError, description = "the caller, or all together, watch too much"),
              (status = 410, body = mcpctl_api::ApiError, description = "too long ago: list again")),
)]
pub async fn watch(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<WatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, HttpError> {
    let kinds: Vec<Kind> = match &query.0.kinds {
        None => Kind::ALL.to_vec(),
        Some(list) => list
            .split(',')
            .map(|kind| kind.parse().map_err(|error| HttpError::invalid("kinds", format!("{error}"))))
            .collect::<Result<_, _>>()?,
    };
    let since = query.0.since.map_or(caller.snapshot.revision(), Revision);
    // A feed that does not reach back so far is said before the stream begins.
    if let Feed::Compacted = app.store.changes_since(since, 1).await? {
        return Err(HttpError::new(
            StatusCode::GONE,
            mcpctl_api::ErrorKind::InvalidRequestError,
            "compacted",
            format!("changes since revision {since} are no longer kept"),
        )
        .hint("list the resources again and watch from the list's revision"));
    }
    let place = app.watchers.admit(&caller.principal.id, app.watch_limits)?;
    let feed = Watch::new(app, caller, kinds, since, place);
    let stream = futures::stream::unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    });
    // Boxed, so that the stream may be moved while it waits.
    Ok(Sse::new(stream.boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One caller's changes, in order. It ends with the right to them, with the daemon, and when they are no longer kept.
struct Watch {
    app: Arc<App>,
    caller: Caller,
    /// When the caller was authenticated in its snapshot.
    judged: Instant,
    kinds: Vec<Kind>,
    since: Revision,
    batch: std::vec::IntoIter<Change>,
    /// The revision that the batch leads to.
    up_to: Revision,
    _place: WatcherPlace,
}

impl Watch {
    fn new(app: Arc<App>, caller: Caller, kinds: Vec<Kind>, since: Revision, place: WatcherPlace) -> Self {
        let (judged, batch) = (Instant::now(), Vec::new().into_iter());
        Self { app, caller, judged, kinds, since, batch, up_to: since, _place: place }
    }

    /// The next event that the caller may view, once there is one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            // The connection may have taken the event before long ago.
            if self.judged.elapsed() > JUDGED_FOR {
                self.judge_again().await?;
            }
            if let Some(change) = self.batch.next() {
                if let Some(event) = event(&self.caller, &self.kinds, &change) {
                    return Some(event);
                }
                continue;
            }
            self.since = self.up_to;
            if self.caller.snapshot.revision() > self.since {
                self.read_batch().await?;
            } else {
                self.wait().await?;
                self.judge_again().await?;
            }
        }
    }

    async fn read_batch(&mut self) -> Option<()> {
        let feed = self.app.store.changes_since(self.since, BATCH).await;
        let Ok(Feed::Changes { up_to, changes }) = feed else { return None };
        self.batch = changes.into_iter();
        self.up_to = up_to;
        // A change is judged in a snapshot that knows it: the right to view it may have been taken away before it was made.
        if self.caller.snapshot.revision() < up_to {
            self.judge_again().await?;
        }
        Some(())
    }

    async fn judge_again(&mut self) -> Option<()> {
        self.judged = Instant::now();
        self.caller = self.caller.again(&self.app).await.ok()?;
        Some(())
    }

    async fn wait(&self) -> Option<()> {
        let mut draining = self.app.draining.clone();
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => Some(()),
            _ = draining.wait_for(|draining| *draining) => None,
        }
    }
}

/// The event of a change that the caller asked for and may view as things are now.
fn event(caller: &Caller, kinds: &[Kind], change: &Change) -> Option<Event> {
    let kind = change.kind();
    if !kinds.contains(&kind) {
        return None;
    }
    let name = match change {
        Change::Put(stored) => stored.name(),
        Change::Delete { name, .. } => name,
    };
    caller.snapshot.reason(&caller.principal, Verb::View, kind, Some(name.as_str()))?;
    let event = Event::default().id(change.revision().to_string());
    match change {
        Change::Put(stored) => event.event("put").json_data(&stored.resource).ok(),
        Change::Delete { id, name, revision, .. } => {
            let gone = json!({"kind": kind, "id": id, "name": name, "revision": revision});
            event.event("delete").json_data(gone).ok()
        }
    }
}
