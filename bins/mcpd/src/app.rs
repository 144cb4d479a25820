//! What every request works with, made once at start.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::Id;
use mcpctl_server::RequestBodies;
use mcpctl_store::{Recorder, Replica, Store};
use mcpctl_telemetry::McpdMetrics;
use tokio::sync::watch;

use crate::{
    audit::Ledger, config::WatchLimits, inference::Inference, login::Logins, readiness::Readiness,
    watchers::Watchers, writers::Writers, writes::Vault,
};

/// Shared by all requests.
pub struct App {
    /// Where resources are kept.
    pub store: Store,
    /// What decisions are made in.
    pub replica: Arc<Replica>,
    /// Takes audit and usage.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: McpdMetrics,
    /// Sends to providers.
    pub inference: Inference,
    /// Slows password guessing down.
    pub logins: Logins,
    /// Sums what is refused again and again.
    pub ledger: Ledger,
    /// Shares the checks of readiness.
    pub readiness: Readiness,
    /// Gives turns to writers.
    pub writers: Writers,
    /// Reads the bodies of requests.
    pub bodies: RequestBodies,
    /// Who watches resources.
    pub watchers: Watchers,
    /// How many may.
    pub watch_limits: WatchLimits,
    /// True from the moment the daemon is asked to end.
    pub draining: watch::Receiver<bool>,
}

impl App {
    /// A snapshot at least as new as the store was when this was called.
    ///
    /// INVARIANT 8: where that cannot be had, there is no decision.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, mcpctl_store::StoreError> {
        let snapshot = self.replica.fresh().await?;
        self.metrics.revision(snapshot.revision().0);
        Ok(snapshot)
    }

    /// The time by which expiry is judged, in whole milliseconds: people read it.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.round(jiff::Unit::Millisecond).unwrap_or(now)
    }
}

impl Vault for Store {
    fn seal(&self, id: &Id, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(Self::seal(self, id, plaintext)?)
    }

    fn open(&self, stored: &Stored) -> anyhow::Result<Vec<u8>> {
        Ok(Self::unseal(self, stored)?)
    }
}
