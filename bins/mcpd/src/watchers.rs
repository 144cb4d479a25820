//! Bounds the number of watches: each holds a connection, and reads what changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_api::Id;

use crate::config::WatchLimits;

/// Why a watch is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyWatches {
    /// The principal has this many watches, the maximum.
    #[error("{0} watches of yours are open, which is the most")]
    Principal(u32),
    /// All principals together have this many watches, the maximum.
    #[error("{0} watches are open, which is the most")]
    Total(u32),
}

/// The number of open watches of each principal.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<Id, u32>>>);

/// The permit of one open watch; released when it is dropped.
#[derive(Debug)]
pub struct WatchPermit {
    watchers: Watchers,
    principal: Id,
}

impl Watchers {
    /// Admits a watch of a principal.
    ///
    /// # Errors
    /// When the principal, or all together, have as many watches as they may.
    pub fn admit(&self, principal: &Id, limits: WatchLimits) -> Result<WatchPermit, TooManyWatches> {
        let mut open = self.open();
        let all: u32 = open.values().sum();
        let own = open.get(principal).copied().unwrap_or_default();
        if own >= limits.per_principal.get() {
            return Err(TooManyWatches::Principal(own));
        }
        if all >= limits.total.get() {
            return Err(TooManyWatches::Total(all));
        }
        open.insert(principal.clone(), own.saturating_add(1));
        Ok(WatchPermit { watchers: self.clone(), principal: principal.clone() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Id, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            WatchLimits { per_principal: NonZeroU32::new(2).unwrap(), total: NonZeroU32::new(3).unwrap() };
        let (watchers, [a, b]) = (Watchers::default(), [Id::mint(), Id::mint()]);
        let first = watchers.admit(&a, limits).unwrap();
        let _second = watchers.admit(&a, limits).unwrap();
        assert!(watchers.admit(&a, limits).is_err(), "two of one");
        let _third = watchers.admit(&b, limits).unwrap();
        assert!(watchers.admit(&b, limits).is_err(), "three of all");
        drop(first);
        let _again = watchers.admit(&b, limits).unwrap();
        assert!(watchers.open().values().sum::<u32>() == 3);
    }

    #[test]
    fn closed_watches_leave_no_entry() {
        let watchers = Watchers::default();
        let limits = WatchLimits::default();
        for _ in 0..100 {
            drop(watchers.admit(&Id::mint(), limits).unwrap());
        }
        assert!(watchers.open().is_empty());
    }
}
