//! Bounds the number of watches: each holds a connection and polls the store twice a second.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use mcpctl_api::{ErrorKind, Id};

use crate::{config::WatchLimits, http::error::HttpError};

/// `Retry-After` of a rejected watch.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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
    pub fn admit(&self, principal: &Id, limits: WatchLimits) -> Result<WatchPermit, HttpError> {
        let mut open = self.open();
        let all: u32 = open.values().sum();
        let own = open.get(principal).copied().unwrap_or_default();
        if own >= limits.per_principal.get() {
            return Err(too_many(format!("{own} watches of yours are open, which is the most")));
        }
        if all >= limits.total.get() {
            return Err(too_many(format!("{all} watches are open, which is the most")));
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

fn too_many(message: String) -> HttpError {
    HttpError::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "too_many_watches", message)
        .hint("end another one, or have an administrator raise `limits.watches`")
        .retry_after(RETRY_AFTER)
}

/// Default maximum of watches of one principal: few programs of one person watch at once.
pub const PER_PRINCIPAL: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// Default maximum of all watches: each takes a descriptor, and polls the revision twice a second.
pub const TOTAL: NonZeroU32 = NonZeroU32::new(256).unwrap();

#[cfg(test)]
mod tests {
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
