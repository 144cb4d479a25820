//! What `mcpd` does without being asked: forgets what has expired.

mod expired_tokens;
mod old_changes;
mod old_records;

use std::{sync::Arc, time::Duration};

use crate::{app::App, audit};

/// How often the jobs look.
const EVERY: Duration = Duration::from_secs(600);

/// Starts the jobs; they end with the daemon.
pub fn start(app: &Arc<App>) {
    audit::start(app);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut draining = app.draining.clone();
        loop {
            if let Err(error) = expired_tokens::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "expired tokens could not be removed");
            }
            if let Err(error) = old_changes::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "old changes could not be forgotten");
            }
            if let Err(error) = old_records::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "old records could not be removed");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    });
}
