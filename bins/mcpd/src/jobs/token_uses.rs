//! Stores once a minute when tokens were last used.

use std::{sync::Arc, time::Duration};

use crate::app::App;

/// How often uses are stored.
const STORE_INTERVAL: Duration = Duration::from_secs(60);

/// Stores uses until the shutdown begins; what comes after that is stored by the shutdown itself.
pub fn start(app: &Arc<App>) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut draining = app.draining.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(STORE_INTERVAL) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
            app.token_uses.store(&app.store).await;
        }
    });
}
