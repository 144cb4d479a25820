//! What became of the requests that fell back, since the agent's start. The journal has each of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mcpctl_api::agent::{FailoverCounts, FailoverOutcome};

/// One count for each outcome.
#[derive(Debug, Default)]
pub struct FailoverCounters {
    served: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl FailoverCounters {
    /// Counts a request.
    pub fn count(&self, outcome: FailoverOutcome) {
        let counter = match outcome {
            FailoverOutcome::Served => &self.served,
            FailoverOutcome::Refused => &self.refused,
            FailoverOutcome::Failed => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// The counts for the status.
    pub fn read(&self) -> FailoverCounts {
        FailoverCounts {
            served: self.served.load(Relaxed),
            refused: self.refused.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}
