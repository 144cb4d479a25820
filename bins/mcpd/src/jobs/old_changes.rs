//! Deletes changes that no watcher can need any more; the resources stay.

use std::time::Duration;

use crate::app::App;

/// How far back a watch can resume.
const CHANGES_RETENTION: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    app.store.compact(CHANGES_RETENTION).await?;
    Ok(())
}
