//! Deletes counters of Limits that count no longer.

use crate::{app::App, limits::ledger};

/// Maximum of counters that one transaction deletes.
const MAX_BATCH: u32 = 1000;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    while app.store.prune_limit_counters(ledger::now(), MAX_BATCH).await? == u64::from(MAX_BATCH)
        && !*app.draining.borrow()
    {}
    Ok(())
}
