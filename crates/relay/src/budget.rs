//! Bounds the extra load of retries, so that they do not overload an upstream that already fails.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Requests and retries of the last [`RetryBudget::WINDOW`], for one Llm.
///
/// Retries may be at most a fifth of the requests; two are always allowed, so that a quiet Llm has some
/// (`docs/reference/contract.md`).
#[derive(Debug, Default)]
pub struct RetryBudget(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    requests: VecDeque<Instant>,
    retries: VecDeque<Instant>,
}

impl RetryBudget {
    /// The time over which requests and retries are counted.
    pub const WINDOW: Duration = Duration::from_secs(10);
    /// Retries that are always allowed.
    const MIN_RETRIES: usize = 2;
    /// The number of requests that allow one retry: 20 %.
    const REQUESTS_PER_RETRY: usize = 5;

    /// Counts a request; call once per request, before its first attempt.
    pub fn request(&self, now: Instant) {
        let mut recent = self.recent(now);
        recent.requests.push_back(now);
    }

    /// Takes one retry, if the budget has one.
    pub fn take(&self, now: Instant) -> bool {
        let mut recent = self.recent(now);
        let allowed = Self::MIN_RETRIES.max(recent.requests.len() / Self::REQUESTS_PER_RETRY);
        if recent.retries.len() >= allowed {
            return false;
        }
        recent.retries.push_back(now);
        true
    }

    fn recent(&self, now: Instant) -> std::sync::MutexGuard<'_, Recent> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Option<&Instant>| at.is_some_and(|at| now.duration_since(*at) >= Self::WINDOW);
        while old(recent.requests.front()) {
            recent.requests.pop_front();
        }
        while old(recent.retries.front()) {
            recent.retries.pop_front();
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quiet_llm_has_two_retries() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        budget.request(now);
        assert_eq!([budget.take(now), budget.take(now), budget.take(now)], [true, true, false]);
    }

    #[test]
    fn busy_llm_has_a_fifth() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        for _ in 0..100 {
            budget.request(now);
        }
        let taken = (0..100).filter(|_| budget.take(now)).count();
        assert_eq!(taken, 20);
    }

    #[test]
    fn entries_expire_after_the_window() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        assert!(budget.take(now) && budget.take(now) && !budget.take(now));
        assert!(!budget.take(now + RetryBudget::WINDOW - Duration::from_millis(1)));
        assert!(budget.take(now + RetryBudget::WINDOW));
    }

    proptest! {
        #[test]
        fn retries_are_at_most_a_fifth_or_two(steps in prop::collection::vec((0_u64..3000, any::<bool>()), 1..200)) {
            let (budget, mut now) = (RetryBudget::default(), Instant::now());
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            for (pause, retry) in steps {
                now += Duration::from_millis(pause);
                if retry {
                    if budget.take(now) { retries.push(now); }
                } else {
                    budget.request(now);
                    requests.push(now);
                }
                let recent = |list: &[Instant]| {
                    list.iter().filter(|at| now.duration_since(**at) < RetryBudget::WINDOW).count()
                };
                let (requests_at_most, retries) = (requests.len(), recent(&retries));
                prop_assert!(retries <= 2.max(requests_at_most / 5), "{} of {}", retries, requests_at_most);
            }
        }
    }
}
