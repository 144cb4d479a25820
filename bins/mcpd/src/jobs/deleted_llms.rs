//! Removes what this process remembers of deleted Llms.

use crate::app::App;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    app.inference.budgets.remove_deleted(&*app.fresh().await?);
    Ok(())
}
