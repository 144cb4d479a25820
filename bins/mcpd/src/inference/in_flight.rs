//! Bounds the inference requests in flight: each holds a connection, its place in the check of running requests, and a request at a
//! provider.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_api::Id;

use crate::config::StreamLimits;

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyRequests {
    /// The principal has this many requests in flight, the maximum.
    #[error("{0} requests of yours are in flight, which is the most")]
    Principal(u32),
    /// All principals together have this many requests in flight, the maximum.
    #[error("{0} requests are in flight, which is the most")]
    Total(u32),
}

/// The requests in flight of each principal.
#[derive(Debug, Clone)]
pub struct InFlight(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: StreamLimits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    /// Only of principals that have some.
    of: HashMap<Id, u32>,
}

/// The permit of one request in flight; released when it is dropped.
#[derive(Debug)]
pub struct InFlightPermit {
    shared: Arc<Shared>,
    principal: Id,
}

impl InFlight {
    /// No requests, within these limits.
    pub fn new(limits: StreamLimits) -> Self {
        Self(Arc::new(Shared { limits, counts: Mutex::default() }))
    }

    /// Admits a request of a principal.
    ///
    /// # Errors
    /// When the principal, or all together, have as many in flight as they may.
    pub fn admit(&self, principal: &Id) -> Result<InFlightPermit, TooManyRequests> {
        let StreamLimits { per_principal, total } = self.0.limits;
        let mut counts = self.0.counts();
        let own = counts.of.get(principal).copied().unwrap_or_default();
        if own >= per_principal.get() {
            return Err(TooManyRequests::Principal(own));
        }
        if counts.total >= total.get() {
            return Err(TooManyRequests::Total(counts.total));
        }
        counts.total = counts.total.saturating_add(1);
        counts.of.insert(principal.clone(), own.saturating_add(1));
        Ok(InFlightPermit { shared: Arc::clone(&self.0), principal: principal.clone() })
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        counts.total = counts.total.saturating_sub(1);
        match counts.of.get_mut(&self.principal) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.of.remove(&self.principal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn requests_are_bounded_per_principal_and_in_total() {
        let [per_principal, total] = [2, 3].map(|limit| NonZeroU32::new(limit).unwrap());
        let in_flight = InFlight::new(StreamLimits { per_principal, total });
        let [a, b, c] = [Id::mint(), Id::mint(), Id::mint()];
        let first = in_flight.admit(&a).unwrap();
        let second = in_flight.admit(&a).unwrap();
        assert_eq!(in_flight.admit(&a).unwrap_err(), TooManyRequests::Principal(2));
        let third = in_flight.admit(&b).unwrap();
        assert_eq!(in_flight.admit(&c).unwrap_err(), TooManyRequests::Total(3));
        drop(first);
        let again = in_flight.admit(&c).unwrap();
        drop((second, third, again));
        assert!(in_flight.0.counts().of.is_empty());
        assert_eq!(in_flight.0.counts().total, 0);
    }
}
