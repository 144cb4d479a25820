//! Fairness among writers: commits take turns, deletions and administrators wait for at most one ordinary writer, and no
//! principal exceeds its share.
//!
//! Commits are optimistic: a plan commits only on the snapshot that it was made on. Without turns, many writers that retry
//! can starve one another.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use mcpctl_api::Id;
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

use crate::config::WriteLimits;

/// Maximum of principals that are remembered; then those with a full share are forgotten.
const MAX_PRINCIPALS: usize = 10_000;

/// The queue that a writer waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Deletions, and writes of administrators: a revocation must not wait behind other writes.
    Urgent,
    /// All other writes.
    Ordinary,
}

/// Gives writers their turns.
pub struct Writers {
    limits: WriteLimits,
    turn: tokio::sync::Mutex<()>,
    /// One ordinary writer at a time waits for the turn; the others wait here, in order of arrival.
    ordinary: Semaphore,
    principals: Mutex<HashMap<Id, Share>>,
}

/// The writes that a principal has left.
struct Share {
    tokens: f64,
    at: Instant,
    in_progress: usize,
}

/// The permit to commit; the next writer gets it when this is dropped.
pub struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _ordinary: Option<SemaphorePermit<'a>>,
}

/// A write in progress; counted until it is dropped.
pub struct Admission<'a> {
    writers: &'a Writers,
    principal: Id,
}

impl Writers {
    /// Without writers.
    pub fn new(limits: WriteLimits) -> Self {
        Self {
            limits,
            turn: tokio::sync::Mutex::default(),
            ordinary: Semaphore::new(1),
            principals: Mutex::default(),
        }
    }

    /// Admits a write of this principal.
    ///
    /// # Errors
    /// How long to wait, if the principal has too many writes in progress or is beyond its rate.
    pub fn admit(&self, principal: &Id, now: Instant) -> Result<Admission<'_>, Duration> {
        let (rate, burst) = (f64::from(self.limits.per_second), f64::from(self.limits.burst));
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        if principals.len() >= MAX_PRINCIPALS {
            let spent =
                |share: &Share| share.tokens + now.duration_since(share.at).as_secs_f64() * rate < burst;
            principals.retain(|_, share| share.in_progress > 0 || spent(share));
        }
        let full = Share { tokens: burst, at: now, in_progress: 0 };
        let share = principals.entry(principal.clone()).or_insert(full);
        share.tokens = burst.min(share.tokens + now.duration_since(share.at).as_secs_f64() * rate);
        share.at = now;
        if share.in_progress >= self.limits.in_progress as usize {
            return Err(Duration::from_secs(1));
        }
        if share.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - share.tokens) / rate));
        }
        share.tokens -= 1.0;
        share.in_progress += 1;
        Ok(Admission { writers: self, principal: principal.clone() })
    }

    /// Waits for the turn; writers of a lane get it in order of arrival.
    pub async fn turn(&self, lane: Lane) -> Turn<'_> {
        let ordinary = match lane {
            Lane::Urgent => None,
            // The semaphore is never closed.
            Lane::Ordinary => self.ordinary.acquire().await.ok(),
        };
        Turn { _turn: self.turn.lock().await, _ordinary: ordinary }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let mut principals = self.writers.principals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = principals.get_mut(&self.principal) {
            share.in_progress = share.in_progress.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn limits() -> WriteLimits {
        WriteLimits { per_second: 10, burst: 5, in_progress: 3 }
    }

    #[test]
    fn a_principal_has_a_burst_and_then_a_rate() {
        let (writers, start, mallory) = (Writers::new(limits()), Instant::now(), Id::mint());
        for _ in 0..5 {
            assert!(writers.admit(&mallory, start).is_ok());
        }
        let wait = writers.admit(&mallory, start).err().unwrap();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(writers.admit(&Id::mint(), start).is_ok(), "others have their own");
        assert!(writers.admit(&mallory, start + Duration::from_millis(101)).is_ok());
    }

    #[test]
    fn a_principal_has_few_writes_in_progress() {
        let (writers, start, mallory) = (Writers::new(limits()), Instant::now(), Id::mint());
        let running: Vec<_> = (0..3).map(|_| writers.admit(&mallory, start).unwrap()).collect();
        assert!(writers.admit(&mallory, start).is_err());
        drop(running);
        assert!(writers.admit(&mallory, start).is_ok());
    }

    #[tokio::test]
    async fn urgent_writers_wait_for_one_ordinary_writer_at_most() {
        let writers = Arc::new(Writers::new(limits()));
        let order = Arc::new(Mutex::new(Vec::new()));
        let running = writers.turn(Lane::Ordinary).await;
        let queue = |lane, name: &'static str| {
            let (writers, order) = (Arc::clone(&writers), Arc::clone(&order));
            tokio::spawn(async move {
                let _turn = writers.turn(lane).await;
                order.lock().unwrap().push(name);
            })
        };
        let mut queued = Vec::new();
        for _ in 0..10 {
            queued.push(queue(Lane::Ordinary, "ordinary"));
        }
        tokio::task::yield_now().await;
        queued.push(queue(Lane::Urgent, "urgent"));
        tokio::task::yield_now().await;
        drop(running);
        for writer in queued {
            writer.await.unwrap();
        }
        let at = order.lock().unwrap().iter().position(|name| *name == "urgent").unwrap();
        assert!(at <= 1, "{at} ordinary writers came before");
    }
}
