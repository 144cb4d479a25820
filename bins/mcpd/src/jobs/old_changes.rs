//! Forgets changes that no watcher needs any more; the resources themselves stay.

use std::time::Duration;

use crate::app::App;

/// How far back a watch can be resumed.
const KEPT: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    app.store.compact(KEPT).await?;
    Ok(())
}
