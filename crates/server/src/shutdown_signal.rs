//! The signals that ask a daemon to shut down.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, neither of which is lost between its creation and the end of the process.
///
/// A daemon creates it before it reports that it is ready: until then, a signal kills the process.
#[derive(Debug)]
pub struct ShutdownSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl ShutdownSignal {
    /// Handles both signals from now on.
    ///
    /// # Errors
    /// When the signals cannot be handled.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal, which may have arrived before the call.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Kind, raise};

    use super::*;

    #[tokio::test]
    async fn signal_before_the_wait_is_not_lost() {
        let mut shutdown = ShutdownSignal::new().unwrap();
        for kind in [Kind::SIGTERM, Kind::SIGINT] {
            raise(kind).unwrap();
            shutdown.recv().await;
        }
    }
}
