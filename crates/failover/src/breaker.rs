//! A breaker of consecutive failures: lets a target that keeps failing rest, then tries it with one request.
//!
//! Plain functions over a state and a time. One breaker is for one target and one Llm, never for a host.

use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many failures in a row open it; 0 means the same as 1, the strictest.
    pub failures: u32,
    /// For how long it stays open; it does not grow. Zero is no rest at all, but still one trial at a time.
    pub open: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 3, open: Duration::from_secs(10) }
    }
}

/// Whether a request may go to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Closed,
    /// It may, and is the one by which the target is tried.
    Trial,
    /// It may not.
    Open,
}

/// What came of an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The target works.
    Success,
    /// It failed in a way that speaks against it.
    Failure,
    /// Nothing was learned: the caller went away, or was to blame.
    Nothing,
}

/// The state of one breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed {
        failures: u32,
    },
    Open {
        since: Instant,
    },
    /// It has rested; the next request is the trial.
    Due,
    Trying,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed { failures: 0 } }
    }

    /// Asks for one request. Every admission but [`Admission::Open`] is answered by one [`Breaker::record`].
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            BreakerState::Closed { .. } => Admission::Closed,
            BreakerState::Open { since } if self.is_resting(since, now) => Admission::Open,
            BreakerState::Open { .. } | BreakerState::Due => {
                self.state = BreakerState::Trying;
                Admission::Trial
            }
            BreakerState::Trying => Admission::Open,
        }
    }

    /// Tells what came of a request that was admitted so.
    pub fn record(&mut self, admission: Admission, verdict: Verdict, now: Instant) {
        self.state = match (self.state, admission, verdict) {
            (_, Admission::Open, _) => return,
            // A trial of which nothing was learned frees the place for the next.
            (BreakerState::Trying, Admission::Trial, Verdict::Nothing) => BreakerState::Due,
            (BreakerState::Trying, Admission::Trial, Verdict::Success) => {
                BreakerState::Closed { failures: 0 }
            }
            (BreakerState::Trying, Admission::Trial, Verdict::Failure) => BreakerState::Open { since: now },
            (BreakerState::Closed { .. }, _, Verdict::Success) => BreakerState::Closed { failures: 0 },
            (BreakerState::Closed { failures }, _, Verdict::Failure) => {
                let failures = failures.saturating_add(1);
                if failures >= self.policy.failures {
                    BreakerState::Open { since: now }
                } else {
                    BreakerState::Closed { failures }
                }
            }
            // What was sent before the breaker opened says nothing new.
            (state, _, _) => state,
        };
    }

    /// Whether it lets the target rest at this moment.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed { .. } | BreakerState::Due => false,
            BreakerState::Open { since } => self.is_resting(since, now),
            BreakerState::Trying => true,
        }
    }

    /// Compared as a span, because a sum of time and window could overflow.
    fn is_resting(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) < self.policy.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, open: Duration::from_secs(10) };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..3 {
            let admission = breaker.admit(now);
            assert_eq!(admission, Admission::Closed);
            breaker.record(admission, Verdict::Failure, now);
        }
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        assert!(opened(now).is_open(now));
        let mut breaker = Breaker::new(POLICY);
        for verdict in
            [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure]
        {
            let admission = breaker.admit(now);
            breaker.record(admission, verdict, now);
        }
        assert!(!breaker.is_open(now));
    }

    #[test]
    fn after_ten_seconds_exactly_one_is_let_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + Duration::from_millis(9_999)), Admission::Open);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Admission::Trial);
        assert_eq!(breaker.admit(later), Admission::Open);
        breaker.record(Admission::Trial, Verdict::Success, later);
        assert_eq!(breaker.admit(later), Admission::Closed);
    }

    #[test]
    fn a_failed_trial_opens_for_the_same_time_again() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Admission::Trial);
        breaker.record(Admission::Trial, Verdict::Failure, later);
        assert_eq!(breaker.admit(later + Duration::from_millis(9_999)), Admission::Open);
        assert_eq!(breaker.admit(later + Duration::from_secs(10)), Admission::Trial);
    }

    #[test]
    fn a_cancelled_trial_frees_its_place() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Admission::Trial);
        breaker.record(Admission::Trial, Verdict::Nothing, later);
        assert!(!breaker.is_open(later));
        assert_eq!(breaker.admit(later), Admission::Trial);
    }

    #[test]
    fn late_answers_do_not_close_an_open_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.record(Admission::Closed, Verdict::Success, now);
        assert!(breaker.is_open(now));
    }

    #[test]
    fn inv_15_zero_failures_open_it_as_one_does() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 0, ..POLICY });
        let admission = breaker.admit(now);
        assert_eq!(admission, Admission::Closed);
        breaker.record(admission, Verdict::Failure, now);
        assert!(breaker.is_open(now));
    }

    #[test]
    fn inv_15_a_window_of_zero_still_tries_with_one_request_at_a_time() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, open: Duration::ZERO });
        breaker.record(Admission::Closed, Verdict::Failure, now);
        assert_eq!(breaker.admit(now), Admission::Trial);
        assert_eq!(breaker.admit(now), Admission::Open);
        breaker.record(Admission::Trial, Verdict::Failure, now);
        assert_eq!(breaker.admit(now), Admission::Trial, "a failed trial does not close it");
    }

    #[test]
    fn the_longest_window_there_is_does_not_overflow() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, open: Duration::MAX });
        breaker.record(Admission::Closed, Verdict::Failure, now);
        assert_eq!(breaker.admit(now + Duration::from_secs(1 << 30)), Admission::Open);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_end_the_rest() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now - Duration::from_secs(30)), Admission::Open);
    }

    #[test]
    fn while_one_tries_the_others_are_told_to_wait_and_their_late_answers_decide_nothing() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        for verdict in [Verdict::Success, Verdict::Failure, Verdict::Nothing] {
            let mut breaker = opened(now);
            assert_eq!(breaker.admit(later), Admission::Trial);
            for late in [Admission::Closed, Admission::Open] {
                breaker.record(late, verdict, later);
                assert!(breaker.is_open(later), "{late:?} {verdict:?}");
                assert_eq!(breaker.admit(later + POLICY.open), Admission::Open, "{late:?} {verdict:?}");
            }
            breaker.record(Admission::Trial, Verdict::Success, later);
            assert_eq!(breaker.admit(later), Admission::Closed);
        }
    }

    #[test]
    fn a_request_that_was_not_admitted_counts_for_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..5 {
            breaker.record(Admission::Open, Verdict::Failure, now);
        }
        assert_eq!(breaker.admit(now), Admission::Closed);
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        assert_eq!(BreakerPolicy::default(), POLICY);
    }
}
