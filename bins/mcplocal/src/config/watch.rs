//! Reads the configuration file again when it has changed. A broken file keeps the old configuration running.
//!
//! Watches the file's directory, because editors replace files rather than write into them, and the directory of the file
//! that it links to. Some file systems report no changes, so the file is also polled.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use mcpctl_api::agent::IgnoredConfig;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use super::{Config, DefaultServer};
use crate::{app::App, providers};

/// How often the file is polled, where no change is reported.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// An editor may write in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Follows the file as long as the agent runs.
pub async fn follow(app: Arc<App>, path: PathBuf) {
    let changed = Arc::new(Notify::new());
    let mut watcher = watcher(&path, &changed)
        .inspect_err(
            |error| tracing::warn!(%error, "changes of the configuration are noticed within 30 s only"),
        )
        .ok();
    let mut seen = None;
    loop {
        let now = Stamp::of(&path);
        if seen != Some(now) {
            seen = Some(now);
            // Again, because a directory may have been replaced too; watching one twice has no effect.
            if let Some(watcher) = &mut watcher {
                watch(watcher, &path);
            }
            take_over(&app, &path).await;
        }
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// What shows a change without reading the file: its time, size and identity, and its directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: Option<(SystemTime, u64, u64)>,
    directories: [Option<u64>; 2],
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let file = std::fs::metadata(path).ok();
        let file = file.and_then(|file| Some((file.modified().ok()?, file.len(), file.ino())));
        let directory = |path: Option<&Path>| Some(std::fs::metadata(directory(path?)).ok()?.ino());
        Self { file, directories: [directory(Some(path)), directory(path.canonicalize().ok().as_deref())] }
    }
}

/// The directory of a file; a name alone is in the current one.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn watcher(path: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let (path, changed) = (path.to_owned(), Arc::clone(changed));
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| !concerns(&event, &path)) {
            return;
        }
        changed.notify_one();
    })
}

/// Whether an event may be a change of the file. Reading is none: the agent itself reads after a change.
fn concerns(event: &Event, path: &Path) -> bool {
    if matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
        return false;
    }
    let target = path.canonicalize().ok();
    let names = [path.file_name(), target.as_deref().and_then(Path::file_name)];
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(&Some(name)));
    event.need_rescan() || event.paths.iter().any(named)
}

fn watch(watcher: &mut RecommendedWatcher, path: &Path) {
    let target = path.canonicalize().ok();
    for directory in [Some(path), target.as_deref()].into_iter().flatten().map(directory) {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, directory = %directory.display(), "a directory cannot be watched");
        }
    }
}

async fn take_over(app: &App, path: &Path) {
    let running = app.runtime.load_full();
    let default = DefaultServer::Running(&running.config);
    let read =
        Config::read(path, default).and_then(|config| providers::check(&config, path).map(|()| config));
    let config = match read {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, hint = error.hint(), "the configuration is wrong; the old one stays");
            ignore(app, error.to_string(), error.hint());
            return;
        }
    };
    if config == app.runtime.load().config {
        app.ignored_config.store(None);
        return;
    }
    if config.listen != app.runtime.load().config.listen {
        tracing::warn!(listen = %config.listen, "the new address to listen on takes effect at the next start");
    }
    if config.limits != app.runtime.load().config.limits
        || config.telemetry != app.runtime.load().config.telemetry
    {
        tracing::warn!("new limits and a new collector take effect at the next start");
    }
    match app.reload(config) {
        Ok(()) => {
            app.ignored_config.store(None);
            tracing::info!("the configuration changed and is in force");
            providers::warn_of_missing(&app.runtime.load().config, path).await;
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(error, "the old configuration stays");
            ignore(app, error, None);
        }
    }
}

/// Notes why the file is not in force, for the status.
fn ignore(app: &App, reason: String, hint: Option<String>) {
    app.ignored_config.store(Some(Arc::new(IgnoredConfig { since: Timestamp::now(), reason, hint })));
}
