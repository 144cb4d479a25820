//! Control of the engines: list, start, stop, logs.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::Stream;
use mcpctl_api::ErrorKind;
use mcpctl_engine::{Engine, EngineStatus};
use serde::Deserialize;
use tokio::{fs::File, io::AsyncReadExt as _, time::Instant};

use super::error::LocalHttpError;
use crate::{app::App, providers::Running};

/// How long a start by hand is waited for.
const START: Duration = Duration::from_secs(300);
/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const CHUNK: usize = 64 * 1024;

fn engine(app: &App, name: &str) -> Result<(Engine, Running), LocalHttpError> {
    let runtime = app.runtime.load();
    let running = runtime.registry.provider(name);
    running.and_then(|running| Some((running.engine.clone()?, running.clone()))).ok_or_else(|| {
        let message = match running {
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
    let engines = runtime.registry.providers().filter_map(|(_, running)| running.engine.as_ref());
    Json(engines.map(Engine::status).collect())
}

/// Starts an engine and waits until it is ready.
pub async fn start(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<EngineStatus>, LocalHttpError> {
    let (engine, running) = engine(&app, &name)?;
    running.by_hand.store(false, Ordering::Release);
    match engine.ensure_ready(Instant::now() + START).await {
        Ok(_guard) => Ok(Json(engine.status())),
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

/// Lets running requests end, then stops an engine.
pub async fn stop(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<EngineStatus>, LocalHttpError> {
    let (engine, running) = engine(&app, &name)?;
    // Before it stops, so that nobody starts it again at once.
    running.by_hand.store(true, Ordering::Release);
    engine.stop().await;
    Ok(Json(engine.status()))
}

/// Which log, and whether to go on.
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
    let file = match File::open(&path).await {
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
    let body = Body::from_stream(read(path, file, query.follow));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// The bytes of a file, and with `follow` those that are added. A file that was begun anew is read from its beginning.
fn read(path: PathBuf, file: Option<File>, follow: bool) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures::stream::try_unfold((path, file, 0_u64), move |(path, mut file, mut at)| async move {
        loop {
            if let Some(open) = &mut file {
                let mut buffer = vec![0; CHUNK];
                let read = open.read(&mut buffer).await?;
                if read > 0 {
                    buffer.truncate(read);
                    at += read as u64;
                    return Ok(Some((Bytes::from(buffer), (path, file, at))));
                }
            }
            if !follow {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let begun_anew = tokio::fs::metadata(&path).await.is_ok_and(|now| now.len() < at);
            if file.is_none() || begun_anew {
                file = File::open(&path).await.ok();
                at = 0;
            }
        }
    })
}
