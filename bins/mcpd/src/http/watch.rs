//! `GET /api/v1/watch`: changes of the resources that the caller may view, as server-sent events.
//!
//! A watcher looks at the revision twice a second; all that look at the same moment share one read of the store, and a
//! change made by another replica is seen just as soon. Every look authenticates again, so a watch ends with the right
//! to it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use mcpctl_access::Change;
use mcpctl_api::{Kind, Revision, Verb};
use mcpctl_store::Feed;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use utoipa::OpenApi;

use super::{caller::Caller, error::HttpError, query::Query};
use crate::app::App;

/// What the OpenAPI document says of this route.
#[derive(OpenApi)]
#[openapi(paths(watch))]
pub struct Docs;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Changes read at once.
const BATCH: usize = 500;

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
    let (events, receiver) = mpsc::channel(64);
    let span = tracing::Span::current();
    tokio::spawn(tracing::Instrument::instrument(follow(app, caller, kinds, since, events), span));
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn follow(
    app: Arc<App>,
    mut caller: Caller,
    kinds: Vec<Kind>,
    mut since: Revision,
    events: mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut draining = app.draining.clone();
    loop {
        while caller.snapshot.revision() > since {
            let Ok(Feed::Changes { up_to, changes }) = app.store.changes_since(since, BATCH).await else {
                return;
            };
            for change in &changes {
                if let Some(event) = event(&caller, &kinds, change)
                    && events.send(Ok(event)).await.is_err()
                {
                    return;
                }
            }
            since = up_to;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = events.closed() => return,
            _ = draining.wait_for(|draining| *draining) => return,
        }
        match caller.again(&app).await {
            Ok(newer) => caller = newer,
            Err(_) => return,
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
