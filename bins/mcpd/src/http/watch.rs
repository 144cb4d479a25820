//! `GET /api/v1/watch`: changes of the resources that the caller may view, as server-sent events.
//!
//! Watches hang from the process's one follower of the store: an idle one costs no query. Each new snapshot authenticates
//! the caller again, so that a watch ends with its credential.
//!
//! An event is authorized when the connection is ready to send it, so that a right that was revoked while the client did
//! not read holds when it reads on.

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
use mcpctl_access::{Change, Snapshot};
use mcpctl_api::{Kind, Revision, Verb};
use mcpctl_store::Feed;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch::Receiver;
use utoipa::OpenApi;

use super::{error::HttpError, query::Query};
use crate::{app::App, caller::Caller, clock, watchers::WatchPermit};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(watch))]
pub struct Docs;

/// Longest wait until a credential's expiry is checked again: the clock may be set meanwhile.
const MAX_EXPIRY_WAIT: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Maximum of changes that one read fetches.
const MAX_BATCH: usize = 500;
/// How long events are authorized in the same snapshot.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_millis(20);

/// The query of a watch.
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
        None => Kind::RESOURCES.to_vec(),
        Some(list) => list
            .split(',')
            .map(|kind| {
                let kind: Kind =
                    kind.parse().map_err(|error| HttpError::invalid("kinds", format!("{error}")))?;
                let not_watched =
                    || HttpError::invalid("kinds", format!("`{}` has no resources", kind.plural()));
                kind.is_resource().then_some(kind).ok_or_else(not_watched)
            })
            .collect::<Result<_, _>>()?,
    };
    let since = query.0.since.map_or(caller.snapshot.revision(), Revision);
    // Reported before the stream begins, while there is a status.
    if let Feed::Compacted = app.replica.changes_since(since, 1).await? {
        return Err(HttpError::new(
            StatusCode::GONE,
            mcpctl_api::ErrorKind::InvalidRequestError,
            "compacted",
            format!("changes since revision {since} are no longer kept"),
        )
        .hint("list the resources again and watch from the list's revision"));
    }
    let permit = app.watchers.admit(&caller.principal.id)?;
    let feed = Watch::new(app, caller, kinds, since, permit);
    let stream = futures::stream::unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    });
    // Boxed, so that the stream may be moved while it waits.
    Ok(Sse::new(stream.boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)))
}

/// The changes that one caller may view, in order. It ends when the credential does, at a shutdown, and when changes are no
/// longer kept.
struct Watch {
    app: Arc<App>,
    caller: Caller,
    /// When the caller was authenticated.
    authenticated_at: Instant,
    kinds: Vec<Kind>,
    since: Revision,
    batch: std::vec::IntoIter<Change>,
    /// The revision after the batch.
    up_to: Revision,
    news: Receiver<Arc<Snapshot>>,
    _permit: WatchPermit,
}

impl Watch {
    fn new(app: Arc<App>, caller: Caller, kinds: Vec<Kind>, since: Revision, permit: WatchPermit) -> Self {
        let (authenticated_at, batch) = (Instant::now(), Vec::new().into_iter());
        let news = app.replica.subscribe();
        Self { app, caller, authenticated_at, kinds, since, batch, up_to: since, news, _permit: permit }
    }

    /// Waits for the next event that the caller may view.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(change) = self.batch.next() {
                // The client may have read the last event long ago.
                if self.authenticated_at.elapsed() > SNAPSHOT_MAX_AGE {
                    self.authenticate_again().await?;
                }
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
            }
        }
    }

    async fn read_batch(&mut self) -> Option<()> {
        let feed = self.app.replica.changes_since(self.since, MAX_BATCH).await;
        let Ok(Feed::Changes { up_to, changes }) = feed else { return None };
        self.batch = changes.into_iter();
        self.up_to = up_to;
        // A change is authorized in a snapshot that contains it: the right to view it may have been revoked before it was
        // made.
        if self.caller.snapshot.revision() < up_to {
            self.authenticate_again().await?;
        }
        Some(())
    }

    async fn authenticate_again(&mut self) -> Option<()> {
        self.authenticated_at = Instant::now();
        self.caller = self.app.authenticate(self.caller.bearer()).await.ok()?;
        Some(())
    }

    /// Waits for a newer snapshot, and authenticates the caller in it.
    async fn wait(&mut self) -> Option<()> {
        let mut draining = self.app.draining.clone();
        let until_expiry = self.caller.principal.expires_at.duration_since(clock::now());
        let until_expiry = until_expiry.try_into().unwrap_or(Duration::ZERO).min(MAX_EXPIRY_WAIT);
        tokio::select! {
            changed = self.news.changed() => changed.ok()?,
            () = tokio::time::sleep(until_expiry) => {}
            _ = draining.wait_for(|draining| *draining) => return None,
        }
        let latest = Arc::clone(&self.news.borrow_and_update());
        // Not an older one: a request may have freshened this one already.
        let is_newer = latest.revision() > self.caller.snapshot.revision();
        let snapshot = if is_newer { latest } else { Arc::clone(&self.caller.snapshot) };
        self.caller = self.caller.within(snapshot).ok()?;
        Some(())
    }
}

/// The event of a change, if the caller asked for its kind and may view it in its snapshot.
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
