//! The user who is signed in on this machine: looked up again and again, so that leases and the feed are that user's and end with
//! a logout.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mcpctl_client::{PinnedKeys, ProofKeys as _};
use mcpctl_failover::Bearer;
use tokio::sync::watch;

use crate::{
    access::AccessWatches,
    app::{App, Runtime},
};

/// How often the file of contexts is read: a logout ends the credential at mcpd, which the feed shows by itself.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A user who is signed in, and the configuration under which that was found.
#[derive(Clone)]
pub struct SignedIn {
    /// The user's credential.
    pub bearer: Bearer,
    /// The configuration, whose leases accept those of this user.
    pub runtime: Arc<Runtime>,
}

/// Looks for the signed-in user as long as the agent runs, and shows it in `shown` after leases and the feed are that user's.
pub async fn follow(app: Arc<App>, shown: watch::Sender<Option<SignedIn>>) {
    let mut last: Option<Arc<AccessWatches>> = None;
    let mut pinned = Vec::new();
    loop {
        let (runtime, looking) = (app.runtime.load_full(), Arc::clone(&app));
        let server = runtime.config.server.clone();
        let bearer = tokio::task::spawn_blocking(move || looking.identity.signed_in_bearer(&server)).await;
        let bearer = bearer.ok().flatten();
        if let PinnedKeys::Keys(keys) = runtime.keys.pinned().await {
            // A rotation keeps one. These are those of another mcpd, or its signatures are not trusted any more.
            if !pinned.is_empty() && !keys.iter().any(|key| pinned.contains(key)) {
                runtime.leases.clear();
            }
            pinned = keys;
        }
        runtime.leases.keep_signed_in(bearer.as_ref().map(Bearer::digest).as_ref());
        // A feed of another mcpd's belongs to an earlier configuration.
        if let Some(before) = last.filter(|before| !Arc::ptr_eq(before, &runtime.access)) {
            before.follow_signed_in(None);
        }
        let llms: BTreeSet<String> = runtime.registry.failovers().map(|(llm, _)| llm.to_owned()).collect();
        let followed = bearer.as_ref().filter(|_| !llms.is_empty()).map(|bearer| (bearer, llms));
        runtime.access.follow_signed_in(followed);
        last = Some(Arc::clone(&runtime.access));
        shown.send_if_modified(|shown| {
            let is_same =
                |now: &SignedIn| Some(&now.bearer) == bearer.as_ref() && Arc::ptr_eq(&now.runtime, &runtime);
            let is_new = !shown.as_ref().map_or(bearer.is_none(), is_same);
            *shown = bearer.map(|bearer| SignedIn { bearer, runtime: Arc::clone(&runtime) });
            is_new
        });
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
