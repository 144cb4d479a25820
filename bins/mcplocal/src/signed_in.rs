//! Follows mcpd's feed for the user who is signed in on this machine, so that what is known of that user's access is fresh when a
//! request begins to run locally.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{access::AccessWatches, app::App};

/// How often the file of contexts is read: a logout ends the credential at mcpd, which the feed shows by itself.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the feed of the user who is signed in, as long as the agent runs.
pub async fn follow(app: Arc<App>) {
    let mut last: Option<Arc<AccessWatches>> = None;
    loop {
        let runtime = app.runtime.load_full();
        // A feed of another mcpd's belongs to an earlier configuration.
        if let Some(before) = last.filter(|before| !Arc::ptr_eq(before, &runtime.access)) {
            before.follow_signed_in(None);
        }
        let llms: BTreeSet<String> = runtime.registry.failovers().map(|(llm, _)| llm.to_owned()).collect();
        let bearer = app.identity.signed_in_bearer(&runtime.config.server).filter(|_| !llms.is_empty());
        runtime.access.follow_signed_in(bearer.as_ref().map(|bearer| (bearer, llms)));
        last = Some(Arc::clone(&runtime.access));
        drop(runtime);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
