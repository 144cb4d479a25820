//! What a feed denies to the user who is signed in, while no request of that user's runs: a hint to ask mcpd again, whose signed
//! denial then ends the lease.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The Llms that a feed has denied, until they are taken.
#[derive(Debug, Default)]
pub struct DenialHints {
    llms: Mutex<BTreeSet<String>>,
    added: Notify,
}

impl DenialHints {
    /// A feed denied these Llms, which are those of the configuration: few.
    pub fn add(&self, llms: impl IntoIterator<Item = String>) {
        self.llms.lock().unwrap_or_else(PoisonError::into_inner).extend(llms);
        self.added.notify_one();
    }

    /// Waits until there is one.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// What was denied since the last call.
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.llms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
