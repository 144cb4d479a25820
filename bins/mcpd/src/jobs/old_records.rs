//! Removes audit and usage that are older than they are kept.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::HumanDuration;

use crate::app::App;

/// Rows that one transaction removes.
const BATCH: u32 = 1000;
/// Between two batches, so that writers get their turn.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let limits = app.ledger.limits();
    let (audit, usage) = (before(app, limits.audit)?, before(app, limits.usage)?);
    let mut removed = 0;
    loop {
        let batch =
            app.store.prune_audit(audit, BATCH).await?.max(app.store.prune_usage(usage, BATCH).await?);
        removed += batch;
        if batch < u64::from(BATCH) || *app.draining.borrow() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if removed > 0 {
        tracing::info!(removed, "old records removed");
    }
    Ok(())
}

fn before(app: &App, kept: HumanDuration) -> anyhow::Result<Timestamp> {
    Ok(app.now().checked_sub(SignedDuration::try_from(kept.0)?)?)
}
