//! The breakers of the primary, shared by all requests: one for each central Llm, and one for each form of request that is not
//! plain. A `server_error` that only images, tools or long prompts get opens the breaker of their form and no other, because it
//! may be the request's doing; all other failures open the Llm's.
//!
//! They learn only from callers that the centre knows: a caller with a made-up bearer can neither open a breaker, nor close
//! it, nor take the trial by which the primary is tried again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use mcpctl_failover::{Admission, Bearer, Breaker, BreakerPolicy, FailureClass, Verdict};
use mcpctl_secret::token::{self, TokenHash};

use crate::capabilities::Form;

/// Callers that are remembered as known, the latest of them.
const MAX_KNOWN: usize = 256;

/// The breakers of the primary.
pub struct Breakers {
    policy: BreakerPolicy,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One for each Llm that the configuration names, under the plain form, and for each other form seen. Forms are few: four
    /// flags and the logarithm of a length that the limit on bodies bounds.
    tracked: HashMap<String, HashMap<Form, Tracked>>,
    /// Digests of bearers that the centre has accepted.
    known: VecDeque<TokenHash>,
}

struct Tracked {
    breaker: Breaker,
    /// Why it last failed: the class that is reported while it is skipped.
    last: Option<FailureClass>,
}

/// One request's place at the primary. Dropped unsettled, nothing was learned.
pub struct BreakerPermit {
    breakers: Arc<Breakers>,
    llm: String,
    form: Form,
    caller: TokenHash,
    /// By the Llm's breaker, and by that of the request's form, which are one for a plain request.
    admissions: [(Form, Admission); 2],
    /// A failure that counts once the centre has accepted the caller.
    pending: Option<FailureClass>,
    settled: bool,
}

impl Breakers {
    /// Closed ones.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: Mutex::default() }
    }

    /// When they open, and for how long.
    pub fn policy(&self) -> BreakerPolicy {
        self.policy
    }

    /// Asks for a place at the primary for a request of this form to this Llm. Only for Llms that have a local provider: the
    /// configuration bounds them, and for all others there is nothing to skip to.
    pub fn admit(self: &Arc<Self>, llm: &str, form: Form, bearer: &Bearer, now: Instant) -> BreakerPermit {
        let caller = token::hash(bearer.expose());
        let mut state = self.lock();
        let known = state.known.contains(&caller);
        let forms = state.tracked.entry(llm.to_owned()).or_default();
        let mut asked = [Form::default(), form].map(|form| {
            let new = || Tracked { breaker: Breaker::new(self.policy), last: None };
            let mut breaker = forms.entry(form).or_insert_with(new).breaker.clone();
            let admission = breaker.admit(now);
            (form, breaker, admission)
        });
        // A trial that a stranger takes teaches nothing, and would keep others from theirs.
        let refused = |admission| admission == Admission::Open || (admission == Admission::Trial && !known);
        if asked.iter().any(|(_, _, admission)| refused(*admission)) {
            asked.iter_mut().for_each(|(_, _, admission)| *admission = Admission::Open);
        } else {
            for (form, breaker, _) in &asked {
                if let Some(tracked) = forms.get_mut(form) {
                    tracked.breaker = breaker.clone();
                }
            }
        }
        let admissions = asked.map(|(form, _, admission)| (form, admission));
        let (breakers, llm) = (Arc::clone(self), llm.to_owned());
        BreakerPermit { breakers, llm, form, caller, admissions, pending: None, settled: false }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Llms whose primary is skipped, for some form of request at least, in order of name.
    pub fn open(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        let is_open =
            |forms: &HashMap<Form, Tracked>| forms.values().any(|tracked| tracked.breaker.is_open(now));
        let mut open: Vec<_> =
            state.tracked.iter().filter(|(_, forms)| is_open(forms)).map(|(llm, _)| llm.clone()).collect();
        open.sort();
        open
    }
}

impl BreakerPermit {
    /// Whether the primary is to be skipped.
    pub fn is_open(&self) -> bool {
        self.admissions.iter().any(|(_, admission)| *admission == Admission::Open)
    }

    /// Why the primary last failed.
    pub fn last(&self) -> Option<FailureClass> {
        let state = self.breakers.lock();
        let forms = state.tracked.get(&self.llm)?;
        [Form::default(), self.form].iter().find_map(|form| forms.get(form)?.last)
    }

    /// What came of asking the primary: `None` is success. A failure of a caller who is not known counts once the centre
    /// has accepted that caller.
    pub fn settle(&mut self, failure: Option<FailureClass>, now: Instant) {
        let known = self.breakers.lock().known.contains(&self.caller);
        match failure {
            None => {
                self.remember();
                self.record(Verdict::Success, None, now);
            }
            Some(class) if class.trips_breaker() && known => self.record(Verdict::Failure, failure, now),
            Some(class) if class.trips_breaker() => self.pending = Some(class),
            Some(FailureClass::Denied) => {
                self.forget();
                self.record(Verdict::Nothing, None, now);
            }
            Some(FailureClass::Cancelled | FailureClass::Quota) => self.record(Verdict::Nothing, None, now),
            // The primary worked; the caller was to blame.
            Some(_) => {
                let verdict = if known { Verdict::Success } else { Verdict::Nothing };
                self.record(verdict, None, now);
            }
        }
    }

    /// The centre accepts the caller.
    pub fn vouch(&mut self, now: Instant) {
        self.remember();
        if let Some(class) = self.pending.take() {
            self.record(Verdict::Failure, Some(class), now);
        }
    }

    fn remember(&self) {
        let mut state = self.breakers.lock();
        if !state.known.contains(&self.caller) {
            state.known.push_back(self.caller);
            let surplus = state.known.len().saturating_sub(MAX_KNOWN);
            state.known.drain(..surplus);
        }
    }

    fn forget(&self) {
        self.breakers.lock().known.retain(|known| *known != self.caller);
    }

    fn record(&mut self, verdict: Verdict, failure: Option<FailureClass>, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut state = self.breakers.lock();
        let Some(forms) = state.tracked.get_mut(&self.llm) else { return };
        let of_form = failure == Some(FailureClass::ServerError);
        let blamed = if of_form { self.form } else { Form::default() };
        let [llm, own] = self.admissions;
        let one = self.form == Form::default();
        for (form, admission) in [Some(llm), (!one).then_some(own)].into_iter().flatten() {
            let Some(tracked) = forms.get_mut(&form) else { continue };
            let verdict =
                if verdict == Verdict::Failure && form != blamed { Verdict::Nothing } else { verdict };
            tracked.breaker.record(admission, verdict, now);
            tracked.last = match verdict {
                Verdict::Failure => failure,
                Verdict::Success => None,
                Verdict::Nothing => tracked.last,
            };
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        self.record(Verdict::Nothing, None, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 2, open: Duration::from_secs(10) };
    const PLAIN: Form = Form { tools: false, vision: false, prefill: false, embeddings: false, size: 0 };
    const IMAGES: Form = Form { vision: true, ..PLAIN };
    const DOWN: Option<FailureClass> = Some(FailureClass::Connect);

    fn alice() -> Bearer {
        Bearer::new("alice's")
    }

    fn opened(llm: &str, now: Instant) -> Arc<Breakers> {
        let breakers = Arc::new(Breakers::new(POLICY));
        for _ in 0..2 {
            let mut place = breakers.admit(llm, PLAIN, &alice(), now);
            place.settle(DOWN, now);
            place.vouch(now);
        }
        breakers
    }

    #[test]
    fn each_llm_has_its_own_and_dropped_trials_free_their_place() {
        let now = Instant::now();
        let breakers = opened("claude", now);
        let place = breakers.admit("claude", PLAIN, &alice(), now);
        assert!(place.is_open());
        assert_eq!(place.last(), Some(FailureClass::Connect));
        assert!(!breakers.admit("gpt", PLAIN, &alice(), now).is_open());
        assert_eq!(breakers.open(now), ["claude"]);

        let later = now + Duration::from_secs(11);
        let trial = breakers.admit("claude", PLAIN, &alice(), later);
        assert!(!trial.is_open());
        assert!(breakers.admit("claude", PLAIN, &alice(), later).is_open(), "one trial at a time");
        drop(trial);
        let again = breakers.admit("claude", PLAIN, &alice(), Instant::now() + Duration::from_secs(20));
        assert!(!again.is_open());
    }

    #[test]
    fn a_denial_does_not_speak_against_the_primary() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for _ in 0..5 {
            breakers.admit("claude", PLAIN, &alice(), now).settle(Some(FailureClass::Denied), now);
        }
        assert!(!breakers.admit("claude", PLAIN, &alice(), now).is_open());
    }

    #[test]
    fn callers_the_centre_does_not_know_teach_a_breaker_nothing() {
        let now = Instant::now();
        let breakers = Arc::new(Breakers::new(POLICY));
        let stranger = |number: usize| Bearer::new(format!("made up {number}"));
        for number in 0..1000 {
            breakers.admit("claude", PLAIN, &stranger(number), now).settle(DOWN, now);
        }
        assert!(!breakers.admit("claude", PLAIN, &alice(), now).is_open(), "strangers opened it");
        assert!(breakers.lock().known.is_empty() && breakers.lock().tracked.len() == 1);

        let breakers = opened("claude", now);
        let later = now + Duration::from_secs(11);
        let mut held = breakers.admit("claude", PLAIN, &stranger(0), later);
        assert!(held.is_open(), "a stranger took the trial");
        assert!(!breakers.admit("claude", PLAIN, &alice(), later).is_open(), "the trial is there for others");
        for class in [FailureClass::Denied, FailureClass::Rejected, FailureClass::Quota] {
            held.settle(Some(class), later);
        }
        drop(held);
        let trial = breakers.admit("claude", PLAIN, &alice(), later);
        assert!(breakers.admit("claude", PLAIN, &alice(), later).is_open(), "strangers closed it");
        drop(trial);
    }

    #[test]
    fn only_the_latest_callers_are_remembered() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for number in 0..MAX_KNOWN + 10 {
            breakers.admit("claude", PLAIN, &Bearer::new(number.to_string()), now).settle(None, now);
        }
        assert_eq!(breakers.lock().known.len(), MAX_KNOWN);
    }

    #[test]
    fn server_errors_of_one_form_are_not_held_against_the_others() {
        let now = Instant::now();
        let breakers = opened("other", now);
        let fail = |form, class| {
            let mut place = breakers.admit("claude", form, &alice(), now);
            assert!(!place.is_open());
            place.settle(Some(class), now);
            place.vouch(now);
        };
        let is_open = |form| breakers.admit("claude", form, &alice(), now).is_open();
        (0..2).for_each(|_| fail(IMAGES, FailureClass::ServerError));
        assert!(is_open(IMAGES) && !is_open(PLAIN));
        assert!(!is_open(Form { tools: true, ..PLAIN }));
        assert_eq!(breakers.admit("claude", IMAGES, &alice(), now).last(), Some(FailureClass::ServerError));
        assert_eq!(breakers.open(now), ["claude", "other"]);

        // What no request can cause counts for all.
        (0..2).for_each(|_| fail(Form { tools: true, ..PLAIN }, FailureClass::Connect));
        assert!(is_open(PLAIN) && is_open(IMAGES) && is_open(Form { tools: true, ..PLAIN }));

        // One trial for all forms, and a success closes both.
        let later = now + Duration::from_secs(11);
        let mut trial = breakers.admit("claude", IMAGES, &alice(), later);
        assert!(!trial.is_open() && breakers.admit("claude", PLAIN, &alice(), later).is_open());
        trial.settle(None, later);
        assert!(!breakers.admit("claude", PLAIN, &alice(), later).is_open());
        assert!(!breakers.admit("claude", IMAGES, &alice(), later).is_open());
    }
}
