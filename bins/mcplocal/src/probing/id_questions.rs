//! Bounds the probes that look for the ids of Llms: one caller after the other, and each seldom.

use std::time::{Duration, Instant};

use mcpctl_failover::BearerDigest;
use tokio::sync::{Mutex, MutexGuard};

/// How long a caller for whom an id was not found waits until mcpd is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Callers that are remembered for that; the latest ones.
const MAX_CALLERS: usize = 64;
/// How long a request waits for others that ask.
const WAIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The callers that have asked for ids lately.
#[derive(Default)]
pub struct IdQuestions(Mutex<Callers>);

type Callers = Vec<(BearerDigest, Instant)>;

/// The turn of one caller; others wait until it is dropped.
pub struct IdTurn<'a>(MutexGuard<'a, Callers>);

impl IdQuestions {
    /// Waits until no other caller asks; `None` where that takes too long.
    pub async fn turn(&self) -> Option<IdTurn<'_>> {
        tokio::time::timeout(WAIT_TIMEOUT, self.0.lock()).await.ok().map(IdTurn)
    }
}

impl IdTurn<'_> {
    /// Whether this caller may ask now. Once true, it is not for a while.
    pub fn take(&mut self, caller: BearerDigest, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < RETRY_INTERVAL);
        if self.0.iter().any(|(known, _)| *known == caller) {
            return false;
        }
        self.0.push((caller, now));
        let surplus = self.0.len().saturating_sub(MAX_CALLERS);
        self.0.drain(..surplus);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_caller_asks_seldom_and_few_are_remembered() {
        let (questions, now) = (IdQuestions::default(), Instant::now());
        let caller = |number: usize| BearerDigest::new([u8::try_from(number).unwrap(); 32]);
        let mut turn = questions.turn().await.unwrap();
        assert!(turn.take(caller(1), now) && !turn.take(caller(1), now) && turn.take(caller(2), now));
        assert!(turn.take(caller(1), now + RETRY_INTERVAL));
        assert!((0..MAX_CALLERS + 5).all(|number| turn.take(caller(number + 10), now + RETRY_INTERVAL)));
        assert_eq!(turn.0.len(), MAX_CALLERS);
    }
}
