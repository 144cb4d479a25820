//! Bounds the lines that an account hands over, so that its agents cannot fill the audit.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use mcpctl_api::{HumanDuration, Id};

use super::in_progress::HandOvers;
use crate::config::JournalLimits;

/// Maximum of accounts that are counted at once.
const MAX_ACCOUNTS: usize = 10_000;

/// An account handed over too many lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many lines of journals by one account; try again in {} s", .retry_after.as_millis().div_ceil(1000).max(1))]
pub struct TooManyLines {
    /// When the lines will be accepted.
    pub retry_after: Duration,
}

/// The lines of each account: leaky buckets, stored as the time at which each is empty (GCRA).
#[derive(Debug)]
pub struct JournalRates {
    limits: JournalLimits,
    /// The hand-overs that run now.
    pub in_progress: HandOvers,
    empty_at: Mutex<HashMap<Id, Instant>>,
}

impl JournalRates {
    /// Nothing was handed over yet.
    pub fn new(limits: JournalLimits) -> Self {
        Self { limits, in_progress: HandOvers::default(), empty_at: Mutex::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &JournalLimits {
        &self.limits
    }

    /// Counts lines of an account.
    ///
    /// # Errors
    /// When they are beyond its rate.
    pub fn admit(&self, account: &Id, lines: usize) -> Result<(), TooManyLines> {
        self.admit_at(account, lines, Instant::now())
    }

    fn admit_at(&self, account: &Id, lines: usize, now: Instant) -> Result<(), TooManyLines> {
        let HumanDuration(every) = self.limits.lines.every;
        let burst = self.limits.lines.burst;
        // A request is never larger than the bucket.
        let lines = u32::try_from(lines).unwrap_or(u32::MAX).min(burst);
        let mut all = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_ACCOUNTS && !all.contains_key(account) {
            all.retain(|_, empty_at| *empty_at > now);
            if all.len() >= MAX_ACCOUNTS {
                return Err(TooManyLines { retry_after: every });
            }
        }
        let empty_at = all.entry(account.clone()).or_insert(now);
        let next = (*empty_at).max(now) + every * lines;
        let beyond = next.saturating_duration_since(now).saturating_sub(every * burst);
        if beyond > Duration::ZERO {
            return Err(TooManyLines { retry_after: beyond });
        }
        *empty_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    #[test]
    fn lines_of_an_account_have_a_rate_and_others_are_free() {
        let rates = JournalRates::new(JournalLimits { lines: Rate::new(100, 1), ..JournalLimits::default() });
        let (alice, bob, now) = (Id::mint(), Id::mint(), Instant::now());
        rates.admit_at(&alice, 60, now).unwrap();
        let wait = rates.admit_at(&alice, 60, now).unwrap_err().retry_after;
        assert_eq!(wait, Duration::from_secs(20));
        rates.admit_at(&bob, 1000, now).unwrap();
        rates.admit_at(&alice, 60, now + wait).unwrap();
    }
}
