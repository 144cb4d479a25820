//! The leases that the requests of one agent share, with the clocks that they are counted on.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    granted::{Lease, LeaseCaller, LeaseCover, LeaseTime},
    leases::Leases,
};
use crate::{
    bearer::BearerDigest,
    denial::Denial,
    llm::{LlmId, LlmRef},
};

/// Shared leases. Without a reading of the clocks there is no lease.
pub struct LeaseBook {
    leases: Mutex<Leases>,
    clock: Box<dyn Fn() -> Option<LeaseTime> + Send + Sync>,
}

impl fmt::Debug for LeaseBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseBook").field("leases", &self.lock()).finish_non_exhaustive()
    }
}

impl LeaseBook {
    /// No leases yet, of the agent with this id. `clock` reads both clocks, or returns `None` where it cannot.
    pub fn new(
        agent: impl Into<String>,
        clock: impl Fn() -> Option<LeaseTime> + Send + Sync + 'static,
    ) -> Self {
        Self { leases: Mutex::new(Leases::of(agent)), clock: Box::new(clock) }
    }

    /// The time now. Read it before a probe is sent.
    pub fn now(&self) -> Option<LeaseTime> {
        (self.clock)()
    }

    /// How many leases are held.
    pub fn len(&self) -> usize {
        self.at_now(|leases, now| {
            leases.sweep(now);
            leases.len()
        })
        .unwrap_or_default()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Leases::allowed`]; `sent` is [`LeaseBook::now`] before the probe.
    pub fn allowed(
        &self,
        caller: LeaseCaller<'_>,
        llm: &LlmRef,
        id: &LlmId,
        lease: Option<Lease>,
        sent: Option<LeaseTime>,
    ) {
        self.at_now(|leases, now| {
            let (lease, sent) = sent.map_or((None, now), |sent| (lease, sent));
            leases.allowed(caller, llm, id, lease, sent, now);
        });
    }

    /// As [`Leases::denied`].
    pub fn denied(&self, bearer: &BearerDigest, llm: &LlmRef, denial: &Denial) {
        self.at_now(|leases, now| leases.denied(bearer, llm, denial, now));
    }

    /// As [`Leases::cover`].
    pub fn cover(&self, bearer: &BearerDigest, llm: &LlmRef) -> Option<LeaseCover> {
        self.at_now(|leases, now| leases.cover(bearer, llm, now))?
    }

    /// As [`Leases::clear`].
    pub fn clear(&self) {
        self.at_now(Leases::clear);
    }

    /// As [`Leases::keep_signed_in`].
    pub fn keep_signed_in(&self, user: Option<&BearerDigest>) {
        self.at_now(|leases, now| {
            leases.sweep(now);
            leases.keep_signed_in(user);
        });
    }

    /// The clock is read while the leases are locked, so that it never seems to go back.
    fn at_now<T>(&self, act: impl FnOnce(&mut Leases, LeaseTime) -> T) -> Option<T> {
        let mut leases = self.lock();
        match self.now() {
            Some(now) => Some(act(&mut leases, now)),
            None => {
                leases.forget();
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
