//! Control of the engines: list, start, stop, logs.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use mcpctl_api::ErrorKind;
use mcpctl_engine::{Engine, EngineStatus};
use nix::fcntl::OFlag;
use serde::Deserialize;
use tokio::{fs::File, io::AsyncReadExt as _, time::Instant};

use super::{
    error::LocalHttpError,
    parts::{Path, Query},
};
use crate::{app::App, providers::LocalProvider};

/// How often a log that is followed is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const CHUNK: usize = 64 * 1024;

fn engine(app: &App, name: &str) -> Result<(Engine, LocalProvider), LocalHttpError> {
    let runtime = app.runtime.load();
    let provider = runtime.registry.provider(name);
    provider.and_then(|provider| Some((provider.engine.clone()?, provider.clone()))).ok_or_else(|| {
        let message = match provider {
            Some(_) => format!("`{name}` is not started by the agent"),
            None => format!("there is no local provider `{name}`"),
        };
        LocalHttpError::new(StatusCode::NOT_FOUND, ErrorKind::NotFoundError, "no_such_engine", message)
            .hint("`mcpctl local status` lists them")
    })
}

/// Every engine and its state.
pub async fn list(State(app): State<Arc<App>>) -> Json<Vec<EngineStatus>> {
    let runtime = app.runtime.load();
    let engines = runtime.registry.providers().filter_map(|(_, provider)| provider.engine.as_ref());
    Json(engines.map(Engine::status).collect())
}

/// Starts an engine and waits until it is ready.
pub async fn start(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<EngineStatus>, LocalHttpError> {
    let (engine, provider) = engine(&app, &name)?;
    let ready = engine.start(Instant::now() + provider.wait_timeout()).await;
    provider.count_start(&app.metrics, ready.is_ok());
    match ready {
        Ok(guard) => {
            provider.learn_model(&guard).await;
            Ok(Json(engine.measured_status()))
        }
        Err(error) => {
            let http = LocalHttpError::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::UpstreamError,
                "engine_failed",
                error.to_string(),
            );
            Err(match error.hint() {
                Some(hint) => http.hint(hint),
                None => http.hint(format!("mcpctl local logs {name}")),
            })
        }
    }
}

/// Stops an engine after its running requests have ended.
pub async fn stop(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<EngineStatus>, LocalHttpError> {
    let (engine, _) = engine(&app, &name)?;
    engine.stop().await;
    Ok(Json(engine.measured_status()))
}

/// Which log, and whether to follow it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    previous: bool,
    follow: bool,
}

/// An engine's log, from its beginning; with `follow` as it grows.
pub async fn logs(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, LocalHttpError> {
    let (engine, _) = engine(&app, &name)?;
    let path = if query.previous { engine.previous_log_file() } else { engine.log_file() };
    // A long start's output is in two files.
    let older = match query.previous {
        false => open(&engine.older_log_file()).await.ok(),
        true => None,
    };
    let file = match open(&path).await {
        Ok(file) => Some(file),
        Err(_) if query.follow => None,
        Err(_) => {
            let which = if query.previous { "no log of an earlier start" } else { "not been started yet" };
            let message = format!("`{name}` has {which}");
            return Err(LocalHttpError::new(
                StatusCode::NOT_FOUND,
                ErrorKind::NotFoundError,
                "no_log",
                message,
            ));
        }
    };
    // A log that is followed has no end of its own, and the shutdown waits for responses to end.
    let mut draining = app.drain.subscribe();
    let drained = async move {
        match query.follow {
            true => drop(draining.wait_for(|draining| *draining).await),
            false => std::future::pending().await,
        }
    };
    let whole = read(path.clone(), older, false).chain(read(path, file, query.follow));
    let body = Body::from_stream(whole.take_until(drained));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// The bytes of a file, and with `follow` those that are added. After a rotation the new file is read from its beginning, once
/// the old one has been read to its end.
fn read(
    path: PathBuf,
    file: Option<File>,
    follow: bool,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::try_unfold((path, file), move |(path, mut file)| async move {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            if let Some(open) = &mut file
                && open.read_buf(&mut buffer).await? > 0
            {
                return Ok(Some((buffer.freeze(), (path, file))));
            }
            if !follow {
                return Ok(None);
            }
            if is_another(&path, file.as_ref()).await {
                file = open(&path).await.ok();
            } else {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    })
}

/// Opens a file; follows no link, and does not wait for the writer of a pipe.
async fn open(path: &std::path::Path) -> std::io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    File::options().read(true).custom_flags(flags.bits()).open(path).await
}

/// Whether another file than this one is at the path.
async fn is_another(path: &std::path::Path, file: Option<&File>) -> bool {
    let Ok(there) = tokio::fs::metadata(path).await else { return false };
    let Some(file) = file else { return true };
    file.metadata().await.is_ok_and(|open| (open.dev(), open.ino()) != (there.dev(), there.ino()))
}
