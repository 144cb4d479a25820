//! Warns in the log of a credential of the signed-in user that ends soon: where the agent runs as a service, its owner may not use
//! `mcpctl` for weeks.

use std::{sync::Arc, time::Duration};

use mcpctl_client::{config::ConfigFile, expiry};
use tokio::time::Instant;
use url::Url;

use crate::app::App;

/// How often the file of contexts is read.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// How often the same credential is warned of.
const REPEAT_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Warns as long as the agent runs.
pub async fn follow(app: Arc<App>) {
    let contexts = ConfigFile::new(app.identity.contexts().to_owned());
    let mut last = None;
    loop {
        warn(&contexts, &app.runtime.load().config.server, &mut last);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What was warned of last: when it ends or whether it has ended, and when that was logged.
type Last = Option<((Option<jiff::Timestamp>, bool), Instant)>;

fn warn(contexts: &ConfigFile, server: &Url, last: &mut Last) {
    // A file that cannot be read is reported where it is needed.
    let Ok(contexts) = contexts.load() else { return };
    let Some(context) = contexts.signed_in_at(server) else { return };
    let Some(warning) = expiry::warning(context) else { return };
    let about = (context.expires_at, context.expires_at.is_some_and(|end| end <= jiff::Timestamp::now()));
    if last.as_ref().is_some_and(|(known, at)| *known == about && at.elapsed() < REPEAT_INTERVAL) {
        return;
    }
    *last = Some((about, Instant::now()));
    tracing::warn!(account = context.account_label(), hint = warning.renewal, "{}", warning.message);
}
