//! Background jobs: they delete expired tokens, old changes, counters of Limits that count no longer, and old rows of audit and
//! usage, and what is known of deleted Llms and tokens; and they add usage up.

mod deleted_llms;
mod deleted_tokens;
mod expired_tokens;
mod old_changes;
mod old_limit_counters;
mod old_records;
mod token_uses;
mod usage_sums;

use std::{sync::Arc, time::Duration};

use crate::app::App;

/// How often the jobs run.
const JOB_INTERVAL: Duration = Duration::from_secs(600);

/// Starts the jobs; they end with the daemon.
pub fn start(app: &Arc<App>) {
    token_uses::start(app);
    usage_sums::start(app);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut draining = app.draining.clone();
        loop {
            if let Err(error) = expired_tokens::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "expired tokens could not be removed");
            }
            if let Err(error) = old_changes::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "old changes could not be removed");
            }
            if let Err(error) = deleted_llms::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "retry budgets of deleted Llms could not be removed");
            }
            if let Err(error) = deleted_tokens::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "last uses of deleted tokens could not be removed");
            }
            if let Err(error) = old_records::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "old records could not be removed");
            }
            if let Err(error) = old_limit_counters::run(&app).await {
                tracing::warn!(error = %format!("{error:#}"), "old counters of Limits could not be removed");
            }
            tokio::select! {
                () = tokio::time::sleep(JOB_INTERVAL) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    });
}
