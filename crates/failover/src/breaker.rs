//! A breaker of consecutive failures: lets a target that keeps failing rest, then tries it with one request.
//!
//! Plain functions over a state and a time. One breaker is for one target and one Llm, never for a host.

use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many failures in a row open it; 0 is read as 1, the strictest.
    pub failures: u32,
    /// For how long it stays open; it does not grow. Zero is a try with every request, one at a time.
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
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Trying,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed { failures: 0 } }
    }

    /// Asks for one request. Every admission but [`Admission::Open`] is answered by one [`Breaker::record`].
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Closed,
            State::Open { until } if now >= until => {
                self.state = State::Trying;
                Admission::Trial
            }
            State::Open { .. } | State::Trying => Admission::Open,
        }
    }

    /// Tells what came of a request that was admitted so.
    pub fn record(&mut self, admission: Admission, verdict: Verdict, now: Instant) {
        self.state = match (self.state, admission, verdict) {
            (_, Admission::Open, _) => return,
            // A trial of which nothing was learned frees the place for the next.
            (State::Trying, Admission::Trial, Verdict::Nothing) => State::Open { until: now },
            (State::Trying, Admission::Trial, Verdict::Success) => State::Closed { failures: 0 },
            (State::Trying, Admission::Trial, Verdict::Failure) => self.opened(now),
            (State::Closed { .. }, _, Verdict::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, _, Verdict::Failure) => {
                let failures = failures.saturating_add(1);
                if failures >= self.policy.failures.max(1) {
                    self.opened(now)
                } else {
                    State::Closed { failures }
                }
            }
            // What was sent before the breaker opened says nothing new.
            (state, _, _) => state,
        };
    }

    /// Whether it lets the target rest at this moment.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::Trying => true,
        }
    }

    fn opened(&self, now: Instant) -> State {
        State::Open { until: now + self.policy.open }
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
    fn inv_15_zero_failures_is_read_as_one() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 0, ..POLICY });
        let admission = breaker.admit(now);
        assert_eq!(admission, Admission::Closed);
        breaker.record(admission, Verdict::Failure, now);
        assert!(breaker.is_open(now));
    }
}
