//! Deletes rows of audit and usage, and sums of usage, whose retention has passed, and what is known of agents that are no longer there.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::HumanDuration;

use crate::{app::App, clock, usage};

/// Maximum of rows that one transaction deletes: a request that records waits for it.
const MAX_BATCH: u32 = 200;
/// How long the end of an agent's journal is remembered without a new line.
const CHAIN_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Pause between two batches, so that writers get their turn.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let limits = app.audit.limits();
    let (audit, usage) = (before(limits.audit)?, before(limits.usage)?);
    let idle = before(HumanDuration(CHAIN_RETENTION))?;
    while app.store.prune_journal_chains(idle, MAX_BATCH).await? == u64::from(MAX_BATCH)
        && !*app.draining.borrow()
    {}
    app.store.prune_journal_days(audit).await?;
    let mut removed = 0;
    loop {
        let batch = app
            .store
            .prune_audit(audit, MAX_BATCH)
            .await?
            .max(app.store.prune_usage(usage, MAX_BATCH).await?);
        removed += batch;
        if batch < u64::from(MAX_BATCH) || *app.draining.borrow() {
            break;
        }
        tokio::time::sleep(BATCH_INTERVAL).await;
    }
    let first_kept = usage::first_kept_hour(clock::now(), SignedDuration::try_from(limits.usage_sums.0)?)?;
    loop {
        let batch = app.store.prune_usage_sums(first_kept, MAX_BATCH).await?;
        removed += batch;
        if batch < u64::from(MAX_BATCH) || *app.draining.borrow() {
            break;
        }
        tokio::time::sleep(BATCH_INTERVAL).await;
    }
    if removed > 0 {
        tracing::info!(removed, "old records removed");
    }
    Ok(())
}

fn before(retention: HumanDuration) -> anyhow::Result<Timestamp> {
    Ok(clock::now().checked_sub(SignedDuration::try_from(retention.0)?)?)
}
