//! Follows the rotation of mcpd's keys: at the start, when an answer shows one, and now and then.

use std::{sync::Arc, time::Duration};

use crate::app::App;

/// How often the list of keys is fetched at least, so that an agent that seldom probes does not miss a rotation.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it is fetched at most.
const MIN_FOLLOW_INTERVAL: Duration = Duration::from_secs(10);

/// Follows rotations as long as the agent runs.
pub async fn follow(app: Arc<App>) {
    loop {
        let runtime = app.runtime.load_full();
        runtime.keys.follow(&runtime.config.trust).await;
        drop(runtime);
        tokio::time::sleep(MIN_FOLLOW_INTERVAL).await;
        // A notice that came meanwhile is kept.
        let _ = tokio::time::timeout(FOLLOW_INTERVAL, app.probing.keys_rotated.notified()).await;
    }
}
