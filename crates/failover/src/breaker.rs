//! A breaker of consecutive failures: skips an upstream that keeps failing, then tries it with one request.
//!
//! Plain functions over a state and a time. One breaker is for one upstream and one Llm, never for a host.

use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// The number of consecutive failures that open it; 0 means the same as 1, the strictest.
    pub failures: u32,
    /// How long it stays open; the time does not grow. Zero skips no time, but still allows one trial at a time.
    pub open: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 3, open: Duration::from_secs(10) }
    }
}

/// Whether a request may go to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Closed,
    /// It may, as the one that tries the upstream.
    Trial,
    /// It may not.
    Open,
}

/// How an admitted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream works.
    Success,
    /// It failed, and the caller did not cause that.
    Failure,
    /// Nothing was learned: the caller went away, or caused the failure.
    Nothing,
}

/// What a breaker does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerCondition {
    /// It admits the request.
    Closed,
    /// It refuses the request, and admits one after this time.
    Open {
        /// The time that is left.
        next_try: Duration,
    },
    /// One request tries the upstream, or the next one will.
    HalfOpen,
}

/// The state of one breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    /// When it opened last; trials that failed since then change nothing of that.
    opened: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed {
        failures: u32,
    },
    Open {
        since: Instant,
    },
    /// The open time has passed; the next request is the trial.
    Due,
    Trying,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed { failures: 0 }, opened: None }
    }

    /// Whether it has nothing to remember.
    pub const fn is_as_new(&self) -> bool {
        matches!(self.state, BreakerState::Closed { failures: 0 })
    }

    /// Replaces the policy; what was learned stays.
    pub const fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// Admits one request, or not. Every admission but [`Admission::Open`] is followed by one [`Breaker::record`].
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            BreakerState::Closed { .. } => Admission::Closed,
            BreakerState::Open { since } if self.is_waiting(since, now) => Admission::Open,
            BreakerState::Open { .. } | BreakerState::Due => {
                self.state = BreakerState::Trying;
                Admission::Trial
            }
            BreakerState::Trying => Admission::Open,
        }
    }

    /// Records how a request with this admission ended.
    pub fn record(&mut self, admission: Admission, verdict: Verdict, now: Instant) {
        self.state = match (self.state, admission, verdict) {
            (_, Admission::Open, _) => return,
            // A trial that taught nothing lets the next request be the trial.
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
            // A request from before the breaker opened teaches nothing new.
            (state, _, _) => state,
        };
        match self.state {
            BreakerState::Closed { .. } => self.opened = None,
            BreakerState::Open { .. } => self.opened = self.opened.or(Some(now)),
            BreakerState::Due | BreakerState::Trying => {}
        }
    }

    /// When it opened; `None` while it is closed.
    pub const fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// What it does with the next request.
    pub fn condition(&self, now: Instant) -> BreakerCondition {
        match self.state {
            BreakerState::Closed { .. } => BreakerCondition::Closed,
            BreakerState::Open { since } if self.is_waiting(since, now) => BreakerCondition::Open {
                next_try: self.policy.open.saturating_sub(now.saturating_duration_since(since)),
            },
            BreakerState::Open { .. } | BreakerState::Due | BreakerState::Trying => {
                BreakerCondition::HalfOpen
            }
        }
    }

    /// Whether requests skip the upstream now.
    pub fn is_open(&self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed { .. } | BreakerState::Due => false,
            BreakerState::Open { since } => self.is_waiting(since, now),
            BreakerState::Trying => true,
        }
    }

    /// How long requests still skip the upstream; `None` where the next one is admitted. Zero while another one tries it.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            BreakerState::Open { since } if self.is_waiting(since, now) => {
                Some(self.policy.open.saturating_sub(now.saturating_duration_since(since)))
            }
            BreakerState::Trying => Some(Duration::ZERO),
            BreakerState::Closed { .. } | BreakerState::Due | BreakerState::Open { .. } => None,
        }
    }

    /// Compared as a span, because a sum of time and window could overflow.
    fn is_waiting(&self, since: Instant, now: Instant) -> bool {
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
    fn consecutive_failures_open_it() {
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
    fn condition_shows_when_it_opened_and_when_it_is_tried() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let open = |seconds| BreakerCondition::Open { next_try: Duration::from_secs(seconds) };
        let mut breaker = opened(now);
        assert_eq!((breaker.condition(at(4)), breaker.opened()), (open(6), Some(now)));
        assert_eq!(breaker.condition(at(10)), BreakerCondition::HalfOpen);
        assert_eq!(breaker.admit(at(10)), Admission::Trial);
        assert_eq!(breaker.condition(at(11)), BreakerCondition::HalfOpen);
        breaker.record(Admission::Trial, Verdict::Failure, at(12));
        assert_eq!((breaker.condition(at(13)), breaker.opened()), (open(9), Some(now)));
        assert_eq!(breaker.admit(at(22)), Admission::Trial);
        breaker.record(Admission::Trial, Verdict::Success, at(23));
        assert_eq!((breaker.condition(at(23)), breaker.opened()), (BreakerCondition::Closed, None));
    }

    #[test]
    fn remaining_open_time_ends_with_the_admission() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(Breaker::new(POLICY).open_for(now), None);
        assert_eq!(breaker.open_for(at(4)), Some(Duration::from_secs(6)));
        assert_eq!(breaker.open_for(at(10)), None);
        assert_eq!(breaker.admit(at(10)), Admission::Trial);
        assert_eq!(breaker.open_for(at(10)), Some(Duration::ZERO), "another one tries it");
        breaker.record(Admission::Trial, Verdict::Nothing, at(10));
        assert_eq!(breaker.open_for(at(10)), None);
    }

    #[test]
    fn one_trial_is_admitted_after_the_open_time() {
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
    fn failed_trial_opens_for_the_same_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Admission::Trial);
        breaker.record(Admission::Trial, Verdict::Failure, later);
        assert_eq!(breaker.admit(later + Duration::from_millis(9_999)), Admission::Open);
        assert_eq!(breaker.admit(later + Duration::from_secs(10)), Admission::Trial);
    }

    #[test]
    fn cancelled_trial_admits_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Admission::Trial);
        breaker.record(Admission::Trial, Verdict::Nothing, later);
        assert!(!breaker.is_open(later));
        assert_eq!(breaker.admit(later), Admission::Trial);
    }

    #[test]
    fn late_success_does_not_close_an_open_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.record(Admission::Closed, Verdict::Success, now);
        assert!(breaker.is_open(now));
    }

    #[test]
    fn inv_15_zero_failures_means_one() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 0, ..POLICY });
        let admission = breaker.admit(now);
        assert_eq!(admission, Admission::Closed);
        breaker.record(admission, Verdict::Failure, now);
        assert!(breaker.is_open(now));
    }

    #[test]
    fn inv_15_zero_open_time_still_admits_one_trial_at_a_time() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, open: Duration::ZERO });
        breaker.record(Admission::Closed, Verdict::Failure, now);
        assert_eq!(breaker.admit(now), Admission::Trial);
        assert_eq!(breaker.admit(now), Admission::Open);
        breaker.record(Admission::Trial, Verdict::Failure, now);
        assert_eq!(breaker.admit(now), Admission::Trial, "a failed trial does not close it");
    }

    #[test]
    fn longest_open_time_does_not_overflow() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, open: Duration::MAX });
        breaker.record(Admission::Closed, Verdict::Failure, now);
        assert_eq!(breaker.admit(now + Duration::from_secs(1 << 30)), Admission::Open);
    }

    #[test]
    fn clock_that_steps_back_does_not_close_it() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now - Duration::from_secs(30)), Admission::Open);
    }

    #[test]
    fn late_results_decide_nothing_during_a_trial() {
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
    fn refused_requests_do_not_count() {
        let now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..5 {
            breaker.record(Admission::Open, Verdict::Failure, now);
        }
        assert_eq!(breaker.admit(now), Admission::Closed);
    }

    #[test]
    fn defaults_match_the_contract() {
        assert_eq!(BreakerPolicy::default(), POLICY);
    }
}
