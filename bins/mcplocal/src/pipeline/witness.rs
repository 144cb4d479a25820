//! What the centre said about one request: kept for the journal, and what the breaker may learn from it.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use mcpctl_client::Probe;
use mcpctl_failover::{Access, AccessProbe, FailureClass, ProbeError, ProbeRequest};

use crate::breakers::BreakerPermit;

/// Sees one request's answers of the centre.
pub(super) struct Witness(Mutex<Seen>);

struct Seen {
    access: Vec<Access>,
    place: Option<BreakerPermit>,
}

impl Witness {
    /// For a request with this place at the primary; none where nothing stands in for its Llm.
    pub(super) fn new(place: Option<BreakerPermit>) -> Self {
        Self(Mutex::new(Seen { access: Vec::new(), place }))
    }

    /// Whether the breaker skips the primary.
    pub(super) fn breaker_open(&self) -> bool {
        self.lock().place.as_ref().is_some_and(BreakerPermit::is_open)
    }

    /// Why the primary last failed.
    pub(super) fn last_failure(&self) -> Option<FailureClass> {
        self.lock().place.as_ref().and_then(BreakerPermit::last)
    }

    /// The primary answered, or failed in this way.
    pub(super) fn primary_ended(&self, class: Option<FailureClass>) {
        if let Some(place) = &mut self.lock().place {
            place.settle(class, Instant::now());
        }
    }

    /// What the centre said, in order.
    pub(super) fn access(&self) -> Vec<&'static str> {
        self.lock().access.iter().map(|access| access.as_str()).collect()
    }

    fn probed(&self, access: Access) {
        let mut seen = self.lock();
        seen.access.push(access);
        if let (Access::Allowed, Some(place)) = (access, &mut seen.place) {
            place.vouch(Instant::now());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The probe, as one request asks it.
pub(super) struct WitnessedProbe<'a> {
    pub(super) probe: &'a Probe,
    pub(super) witness: &'a Witness,
}

impl AccessProbe for WitnessedProbe<'_> {
    async fn head(&self, request: &ProbeRequest) -> Result<u16, ProbeError> {
        let answered = self.probe.head(request).await;
        let access = answered.as_ref().map_or(Access::Unreachable, |status| Access::from_status(*status));
        self.witness.probed(access);
        answered
    }
}
