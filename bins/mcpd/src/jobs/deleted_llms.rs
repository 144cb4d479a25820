//! Removes what this process remembers of Llms and targets that are gone.

use crate::app::App;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    let snapshot = app.fresh().await?;
    app.inference.forget_removed(&snapshot);
    Ok(())
}
