//! Removes the last uses of tokens that no longer exist.

use crate::app::App;

/// Maximum of rows that one transaction removes.
const MAX_BATCH: u32 = 1000;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    while app.store.prune_token_uses(MAX_BATCH).await? == u64::from(MAX_BATCH) {}
    Ok(())
}
