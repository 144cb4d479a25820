//! Slows password guessing down: few attempts per name, and few hashes at once in all.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// Attempts that a name has before it waits.
const BURST: u32 = 5;
/// One more attempt is earned in this time.
const EARN: Duration = Duration::from_secs(12);
/// Names remembered; beyond that, all unknown names share the strictest treatment.
const MAX_NAMES: usize = 10_000;
/// Argon2id takes 19 MiB and some 30 ms each, so this bounds what a flood of logins costs.
const HASHES_AT_ONCE: usize = 4;

/// A bucket per name that was tried, known or not, so that the throttle does not tell which names exist.
pub struct LoginThrottle {
    names: Mutex<HashMap<String, Bucket>>,
    hashes: Semaphore,
}

struct Bucket {
    left: u32,
    since: Instant,
}

impl Default for LoginThrottle {
    fn default() -> Self {
        Self { names: Mutex::default(), hashes: Semaphore::new(HASHES_AT_ONCE) }
    }
}

impl LoginThrottle {
    /// Takes one attempt for `name`.
    ///
    /// # Errors
    /// How long to wait, when there is none left.
    pub fn attempt(&self, name: &str, now: Instant) -> Result<(), Duration> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES {
            names.retain(|_, bucket| now.duration_since(bucket.since) < EARN * BURST);
        }
        if names.len() >= MAX_NAMES && !names.contains_key(name) {
            return Err(EARN);
        }
        let bucket = names.entry(name.to_owned()).or_insert(Bucket { left: BURST, since: now });
        let earned = now.duration_since(bucket.since).as_secs() / EARN.as_secs();
        if earned > 0 {
            bucket.left = BURST.min(bucket.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            bucket.since = now;
        }
        if bucket.left == 0 {
            return Err(EARN.saturating_sub(now.duration_since(bucket.since)));
        }
        bucket.left -= 1;
        Ok(())
    }

    /// A success gives the attempts back.
    pub fn succeeded(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Verifies off the async threads, a few at once; a name without a password takes as long as one with.
    pub async fn verify(&self, password: String, hash: Option<String>) -> bool {
        let Ok(_place) = self.hashes.acquire().await else { return false };
        let check = move || mcpctl_secret::password::verify(&password, hash.as_deref()).is_ok();
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    /// Hashes off the async threads.
    ///
    /// # Errors
    /// When the password is too long or no randomness can be had.
    pub async fn hash(&self, password: String) -> anyhow::Result<String> {
        let _place = self.hashes.acquire().await?;
        Ok(tokio::task::spawn_blocking(move || mcpctl_secret::password::hash(&password)).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_run_out_and_come_back() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        for _ in 0..BURST {
            assert!(throttle.attempt("alice", start).is_ok());
        }
        assert_eq!(throttle.attempt("alice", start), Err(EARN));
        assert!(throttle.attempt("bob", start).is_ok(), "one name does not lock another");
        assert!(throttle.attempt("alice", start + EARN).is_ok());
        assert!(throttle.attempt("alice", start + EARN).is_err());
    }

    #[test]
    fn a_success_gives_the_attempts_back() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        for _ in 0..BURST {
            assert!(throttle.attempt("alice", start).is_ok());
        }
        throttle.succeeded("alice");
        assert!(throttle.attempt("alice", start).is_ok());
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let (throttle, start) = (LoginThrottle::default(), Instant::now());
        for n in 0..MAX_NAMES {
            assert!(throttle.attempt(&n.to_string(), start).is_ok());
        }
        assert!(throttle.attempt("one-more", start).is_err());
        assert!(throttle.attempt("one-more", start + EARN * BURST).is_ok());
    }
}
