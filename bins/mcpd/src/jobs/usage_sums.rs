//! Adds rows of usage to the sums that questions are answered from.

use std::{sync::Arc, time::Duration};

use crate::app::App;

/// How often rows are counted; a question counts them too.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// Pause between two batches, so that writers get their turn.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);
/// Batches until a question gets its turn to count.
const MAX_BATCHES: u32 = 10;

/// Counts until the shutdown begins; what is left then is counted by the next start, or by another replica.
pub fn start(app: &Arc<App>) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut draining = app.draining.clone();
        loop {
            let counted = app.usage.count(&app.store, MAX_BATCHES, BATCH_INTERVAL).await;
            if let Err(error) = &counted {
                tracing::warn!(error = error as &dyn std::error::Error, "usage could not be added up");
            }
            let pause = if matches!(counted, Ok(false)) { BATCH_INTERVAL } else { COUNT_INTERVAL };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    });
}
