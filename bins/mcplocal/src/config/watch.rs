//! Notices that the configuration file changed, and takes it over. A broken file keeps the old one running.
//!
//! The file's time and size are looked at every two seconds: that works on every file system and for every way in which
//! editors replace files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::Config;
use crate::{app::App, providers};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows the file for as long as the agent runs.
pub async fn follow(app: Arc<App>, path: PathBuf) {
    let mut seen = stamp(&path);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(&path);
        if now == seen {
            continue;
        }
        seen = now;
        take_over(&app, &path);
    }
}

fn take_over(app: &App, path: &Path) {
    let read = Config::read(path).and_then(|config| providers::check(&config, path).map(|()| config));
    let config = match read {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, hint = error.hint(), "the configuration is wrong; the old one stays");
            return;
        }
    };
    if config == app.runtime.load().config {
        return;
    }
    if config.listen != app.runtime.load().config.listen {
        tracing::warn!(listen = %config.listen, "another address to listen on is taken at the next start");
    }
    match app.reload(config) {
        Ok(()) => tracing::info!("the configuration changed and is in force"),
        Err(error) => tracing::error!(error = %format!("{error:#}"), "the old configuration stays"),
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
