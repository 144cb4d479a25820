//! When an attempt last received something, for callers that question a silent upstream.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

tokio::task_local! {
    /// Of the attempt that runs in this task.
    static PROGRESS: Progress;
}

/// The time of the last bytes that an attempt received; at first, the time at which this value was made.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    /// Runs attempts, and notes what they receive.
    pub async fn watch<F: Future>(&self, attempts: F) -> F::Output {
        PROGRESS.scope(self.clone(), attempts).await
    }

    /// When the last bytes arrived.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that bytes of the response have arrived.
pub(crate) fn received() {
    // Without the value, nothing watches this attempt.
    let _ = PROGRESS.try_with(|progress| {
        *progress.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    });
}
