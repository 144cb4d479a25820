//! One breaker per central Llm, shared by all requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mcpctl_failover::{Admission, Breaker, BreakerPolicy, FailureClass, Verdict};

/// The breakers of the primary.
pub struct Breakers {
    policy: BreakerPolicy,
    tracked: Mutex<HashMap<String, Tracked>>,
}

struct Tracked {
    breaker: Breaker,
    /// Why it last failed: what is said while it is skipped.
    last: Option<FailureClass>,
}

/// One request's place at the primary. Dropped without a word, nothing was learned.
pub struct Place {
    breakers: Arc<Breakers>,
    llm: String,
    admission: Admission,
    settled: bool,
}

impl Breakers {
    /// Closed ones.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, tracked: Mutex::default() }
    }

    /// When they open, and for how long.
    pub fn policy(&self) -> BreakerPolicy {
        self.policy
    }

    /// Asks for a place at the primary for this Llm. Only for Llms that have a stand-in: the configuration bounds them,
    /// and for all others there is nothing to skip to.
    pub fn admit(self: &Arc<Self>, llm: &str, now: Instant) -> Place {
        let new = || Tracked { breaker: Breaker::new(self.policy), last: None };
        let admission = self.lock().entry(llm.to_owned()).or_insert_with(new).breaker.admit(now);
        Place { breakers: Arc::clone(self), llm: llm.to_owned(), admission, settled: false }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tracked>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Llms whose primary is resting, in order of name.
    pub fn open(&self, now: Instant) -> Vec<String> {
        let all = self.lock();
        let mut open: Vec<_> = all
            .iter()
            .filter(|(_, tracked)| tracked.breaker.is_open(now))
            .map(|(llm, _)| llm.clone())
            .collect();
        open.sort();
        open
    }
}

impl Place {
    /// Whether the primary is to be skipped.
    pub fn is_open(&self) -> bool {
        self.admission == Admission::Open
    }

    /// Why the primary last failed.
    pub fn last(&self) -> Option<FailureClass> {
        self.breakers.lock().get(&self.llm).and_then(|tracked| tracked.last)
    }

    /// Tells what came of it: `None` is success.
    pub fn settle(mut self, failure: Option<FailureClass>, now: Instant) {
        let verdict = match failure {
            None => Verdict::Success,
            Some(class) if class.trips_breaker() => Verdict::Failure,
            Some(FailureClass::Cancelled) => Verdict::Nothing,
            // The primary worked; the caller was to blame, or the centre said no.
            Some(_) => Verdict::Success,
        };
        self.record(verdict, failure, now);
    }

    fn record(&mut self, verdict: Verdict, failure: Option<FailureClass>, now: Instant) {
        self.settled = true;
        let mut all = self.breakers.lock();
        if let Some(tracked) = all.get_mut(&self.llm) {
            tracked.breaker.record(self.admission, verdict, now);
            if verdict == Verdict::Failure {
                tracked.last = failure;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.settled {
            self.record(Verdict::Nothing, None, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 2, open: Duration::from_secs(10) };

    #[test]
    fn each_llm_has_its_own_and_dropped_trials_free_their_place() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for _ in 0..2 {
            breakers.admit("claude", now).settle(Some(FailureClass::Connect), now);
        }
        let place = breakers.admit("claude", now);
        assert!(place.is_open());
        assert_eq!(place.last(), Some(FailureClass::Connect));
        assert!(!breakers.admit("gpt", now).is_open());
        assert_eq!(breakers.open(now), ["claude"]);

        let later = now + Duration::from_secs(11);
        let trial = breakers.admit("claude", later);
        assert!(!trial.is_open());
        assert!(breakers.admit("claude", later).is_open(), "one trial at a time");
        drop(trial);
        let again = breakers.admit("claude", Instant::now() + Duration::from_secs(20));
        assert!(!again.is_open());
    }

    #[test]
    fn a_denial_does_not_speak_against_the_primary() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for _ in 0..5 {
            breakers.admit("claude", now).settle(Some(FailureClass::Denied), now);
        }
        assert!(!breakers.admit("claude", now).is_open());
    }
}
