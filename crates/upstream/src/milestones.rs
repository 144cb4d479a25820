//! Which parts of the way to a model server an attempt has behind it, and since when, for callers that look for the part that fails.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

tokio::task_local! {
    /// Of the attempt that runs in this task.
    static MILESTONES: Milestones;
}

/// What the attempts that it watches have reached.
#[derive(Debug, Clone, Default)]
pub struct Milestones(Arc<Mutex<Reached>>);

/// When each part was over, for the first time; `None` where it was not reached, or not needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// The host's name was resolved. An address that is written as a number needs none.
    pub resolved: Option<Instant>,
    /// A TCP connection was established.
    pub connected: Option<Instant>,
    /// The connection was ready for a request: after the TLS handshake, where there is one.
    pub ready: Option<Instant>,
    /// The head of a response arrived.
    pub head: Option<Instant>,
}

impl Milestones {
    /// Runs attempts, and notes what they reach.
    pub async fn watch<F: Future>(&self, attempts: F) -> F::Output {
        MILESTONES.scope(self.clone(), attempts).await
    }

    /// What was reached so far.
    pub fn reached(&self) -> Reached {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a part is over; `part` selects it.
pub(crate) fn note(part: impl FnOnce(&mut Reached) -> &mut Option<Instant>) {
    // Without the value, nothing watches this attempt.
    let _ = MILESTONES.try_with(|milestones| {
        let mut reached = milestones.0.lock().unwrap_or_else(PoisonError::into_inner);
        part(&mut reached).get_or_insert_with(Instant::now);
    });
}
