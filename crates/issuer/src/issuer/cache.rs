//! A document that is fetched again when it is old, and used for longer while that fails.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long something that was fetched is used.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// After this time it is fetched again.
    pub fresh: Duration,
    /// While that fails, it is used for this long in all.
    pub longest: Duration,
}

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Not older than its lifetime.
    Fresh,
    /// Fetched anew, unless that happened within the interval.
    Newer,
}

/// The document and the state of its fetches.
pub struct Cache<T, E> {
    lifetime: Lifetime,
    interval: Duration,
    known: Mutex<Known<T, E>>,
    /// Held during a fetch.
    fetching: tokio::sync::Mutex<()>,
}

struct Known<T, E> {
    /// The last one, and when its fetch began.
    value: Option<(Arc<T>, Instant)>,
    /// The failure of the last fetch, and when it was.
    failure: Option<(E, Instant)>,
}

impl<T, E: Clone> Cache<T, E> {
    /// Nothing is known yet.
    pub fn new(lifetime: Lifetime, interval: Duration) -> Self {
        let known = Mutex::new(Known { value: None, failure: None });
        Self { lifetime, interval, known, fetching: tokio::sync::Mutex::default() }
    }

    /// The document. While one caller fetches it, others go by the last one, where that may be used.
    ///
    /// # Errors
    /// When it cannot be fetched now, and none may be used.
    pub async fn get(&self, wanted: Wanted, fetch: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        if let Some(known) = self.known(wanted) {
            return known;
        }
        let usable = self.usable();
        let _turn = match (self.fetching.try_lock(), usable) {
            (Ok(turn), _) => turn,
            (Err(_), Some(value)) if wanted == Wanted::Fresh => return Ok(value),
            // A newer one is what this caller needs, or there is none.
            (Err(_), _) => self.fetching.lock().await,
        };
        // Another caller may have fetched it meanwhile.
        if let Some(known) = self.known(wanted) {
            return known;
        }
        let began = Instant::now();
        let fetched = fetch.await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                *known = Known { value: Some((Arc::clone(&value), began)), failure: None };
                Ok(value)
            }
            Err(error) => {
                known.failure = Some((error.clone(), Instant::now()));
                known.usable(self.lifetime).ok_or(error)
            }
        }
    }

    /// What is known, if no fetch is due.
    fn known(&self, wanted: Wanted) -> Option<Result<Arc<T>, E>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lifetime = match wanted {
            Wanted::Fresh => self.lifetime.fresh,
            Wanted::Newer => self.interval.min(self.lifetime.fresh),
        };
        if let Some((value, at)) = &known.value
            && at.elapsed() < lifetime
        {
            return Some(Ok(Arc::clone(value)));
        }
        let (failure, at) = known.failure.as_ref()?;
        (at.elapsed() < self.interval).then(|| known.usable(self.lifetime).ok_or_else(|| failure.clone()))
    }

    fn usable(&self) -> Option<Arc<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).usable(self.lifetime)
    }
}

impl<T, E> Known<T, E> {
    /// The last one, if it may be used while fetches fail.
    fn usable(&self, lifetime: Lifetime) -> Option<Arc<T>> {
        let (value, at) = self.value.as_ref()?;
        (at.elapsed() < lifetime.longest).then(|| Arc::clone(value))
    }
}
