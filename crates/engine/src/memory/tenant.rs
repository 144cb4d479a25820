//! An engine as the arbiter knows it.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::status::EngineStatus;

/// An engine that claims or holds memory.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) status: watch::Receiver<EngineStatus>,
    pub(crate) preempt: Preempt,
}

/// Asks an engine to give its memory back once its running requests have ended.
#[derive(Clone)]
pub(crate) struct Preempt(Arc<dyn Fn() + Send + Sync>);

impl Preempt {
    pub(crate) fn new(preempt: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(preempt))
    }

    pub(super) fn send(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Preempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preempt")
    }
}
