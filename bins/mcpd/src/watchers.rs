//! Bounds the number of watches and of feeds: each holds a connection, and costs something with each change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_api::Id;

use crate::config::StreamLimits;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// `GET /api/v1/watch`
    Resources,
    /// `GET /api/v1/feed`
    Access,
}

impl Watched {
    /// The key below `limits`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Resources => "watches",
            Self::Access => "feeds",
        }
    }
}

/// Why a watch is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyWatches {
    /// The principal has this many watches, the maximum.
    #[error("{1} {kind} of yours are open, which is the most", kind = .0.key())]
    Principal(Watched, u32),
    /// All principals together have this many watches, the maximum.
    #[error("{1} {kind} are open, which is the most", kind = .0.key())]
    Total(Watched, u32),
}

impl TooManyWatches {
    /// What there is too much of.
    pub const fn watched(self) -> Watched {
        match self {
            Self::Principal(watched, _) | Self::Total(watched, _) => watched,
        }
    }
}

/// The number of open watches, or of open feeds, of each principal.
#[derive(Debug, Clone)]
pub struct Watchers {
    watched: Watched,
    limits: StreamLimits,
    open: Arc<Mutex<HashMap<Id, u32>>>,
}

/// The permit of one open watch; released when it is dropped.
#[derive(Debug)]
pub struct WatchPermit {
    watchers: Watchers,
    principal: Id,
}

impl Watchers {
    /// None is open yet.
    pub fn new(watched: Watched, limits: StreamLimits) -> Self {
        Self { watched, limits, open: Arc::default() }
    }

    /// Admits a watch of a principal.
    ///
    /// # Errors
    /// When the principal, or all together, have as many watches as they may.
    pub fn admit(&self, principal: &Id) -> Result<WatchPermit, TooManyWatches> {
        let mut open = self.open();
        let all: u32 = open.values().sum();
        let own = open.get(principal).copied().unwrap_or_default();
        if own >= self.limits.per_principal.get() {
            return Err(TooManyWatches::Principal(self.watched, own));
        }
        if all >= self.limits.total.get() {
            return Err(TooManyWatches::Total(self.watched, all));
        }
        open.insert(principal.clone(), own.saturating_add(1));
        Ok(WatchPermit { watchers: self.clone(), principal: principal.clone() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Id, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        let mut open = self.watchers.open();
        match open.get_mut(&self.principal) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.principal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn watches_are_bounded_per_principal_and_in_total() {
        let limits =
            StreamLimits { per_principal: NonZeroU32::new(2).unwrap(), total: NonZeroU32::new(3).unwrap() };
        let (watchers, [a, b]) = (Watchers::new(Watched::Resources, limits), [Id::mint(), Id::mint()]);
        let first = watchers.admit(&a).unwrap();
        let _second = watchers.admit(&a).unwrap();
        assert!(watchers.admit(&a).is_err(), "two of one");
        let _third = watchers.admit(&b).unwrap();
        assert!(watchers.admit(&b).is_err(), "three of all");
        drop(first);
        let _again = watchers.admit(&b).unwrap();
        assert!(watchers.open().values().sum::<u32>() == 3);
    }

    #[test]
    fn closed_watches_leave_no_entry() {
        let watchers = Watchers::new(Watched::Access, StreamLimits::FEEDS);
        for _ in 0..100 {
            drop(watchers.admit(&Id::mint()).unwrap());
        }
        assert!(watchers.open().is_empty());
    }
}
