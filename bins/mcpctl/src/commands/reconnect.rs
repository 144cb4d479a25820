//! How commands that follow mcpd wait before they connect again.

use std::time::Duration;

use mcpctl_client::{ClientError, ForeignPeer};

/// Waits before attempts: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The wait before the next attempt: each is twice as long as the one before, until one succeeds.
pub struct Backoff(Duration);

impl Backoff {
    /// Before any attempt.
    pub fn new() -> Self {
        Self(BACKOFF.0)
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.0 = BACKOFF.0;
    }

    /// Waits before the next one.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF.1);
    }
}

/// Whether mcpd may answer later. Of a program that ends, whose connection is still open, the user cannot be found out; nothing was
/// sent to it.
pub fn may_return(error: &ClientError) -> bool {
    let ends = matches!(
        error,
        ClientError::Foreign { peer: ForeignPeer::Unknown(_) | ForeignPeer::NotAccepted, .. }
    );
    ends || error.is_passing()
}
