//! Removes what this process remembers of deleted Llms.

use crate::app::App;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let snapshot = app.fresh().await?;
    app.inference.budgets.remove_deleted(&snapshot);
    app.inference.breakers.remove_deleted(&snapshot);
    Ok(())
}
