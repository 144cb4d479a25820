//! How many watch: each watcher reads the store twice a second and holds a connection, so their number is bounded.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use mcpctl_api::{ErrorKind, Id};

use crate::{config::WatchLimits, http::error::HttpError};

/// When to come again: a watcher ends whenever its program does.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Everybody who watches now.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<Id, u32>>>);

/// A place among them, given up when it is dropped.
#[derive(Debug)]
pub struct WatcherPlace {
    watchers: Watchers,
    principal: Id,
}

impl Watchers {
    /// Takes a place for a principal.
    ///
    /// # Errors
    /// 429 where that principal, or all together, have as many as they may.
    pub fn admit(&self, principal: &Id, limits: WatchLimits) -> Result<WatcherPlace, HttpError> {
        let mut places = self.places();
        let all: u32 = places.values().sum();
        let own = places.get(principal).copied().unwrap_or_default();
        if own >= limits.per_principal.get() {
            return Err(too_many(format!("{own} watches of yours are open, which is the most")));
        }
        if all >= limits.total.get() {
            return Err(too_many(format!("{all} watches are open, which is the most")));
        }
        places.insert(principal.clone(), own.saturating_add(1));
        Ok(WatcherPlace { watchers: self.clone(), principal: principal.clone() })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Id, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WatcherPlace {
    fn drop(&mut self) {
        let mut places = self.watchers.places();
        match places.get_mut(&self.principal) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(places.remove(&self.principal)),
        }
    }
}

fn too_many(message: String) -> HttpError {
    HttpError::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "too_many_watches", message)
        .hint("end another one, or have an administrator raise `limits.watches`")
        .retry_after(RETRY_AFTER)
}

/// Few programs of one person watch at once.
pub const PER_PRINCIPAL: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// Each takes a descriptor and a look at the revision twice a second.
pub const TOTAL: NonZeroU32 = NonZeroU32::new(256).unwrap();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_one_and_for_all() {
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
        assert!(watchers.places().values().sum::<u32>() == 3);
    }

    #[test]
    fn nothing_is_kept_of_who_watched() {
        let watchers = Watchers::default();
        let limits = WatchLimits::default();
        for _ in 0..100 {
            drop(watchers.admit(&Id::mint(), limits).unwrap());
        }
        assert!(watchers.places().is_empty());
    }
}
