//! The breakers of a daemon's upstreams, shared by all requests: one for each upstream of an Llm (in `mcplocal`, its primary),
//! and one for each form of request that is not plain. A `server_error` opens the breaker of the request's form and no other,
//! because images, tools or a long prompt may have caused it; every other failure opens the upstream's own.
//!
//! In `mcplocal`, breakers learn only from callers whom mcpd accepts: a caller with a made-up bearer can neither open a breaker,
//! nor close it, nor use up the trial request. In `mcpd` every caller who gets this far is permitted.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Admission, Bearer, BearerDigest, Breaker, BreakerCondition, BreakerPolicy, FailureClass, Verdict,
};

/// Accepted callers that are remembered, the latest ones.
const MAX_ACCEPTED: usize = 256;

/// What requests have in common that an upstream may fail at while it answers others. The default is a plain request.
pub trait RequestForm: Copy + Eq + Hash + Default + Send {}

impl<F: Copy + Eq + Hash + Default + Send> RequestForm for F {}

/// The breakers of one daemon.
pub struct Breakers<F = ()> {
    policy: BreakerPolicy,
    state: Mutex<BreakersState<F>>,
}

struct BreakersState<F> {
    /// By upstream and form; the plain form's is the upstream's own, the others are there from a failure to a success. Bounded by
    /// the number of forms, and of Llms that have something to fall back to.
    tracked: HashMap<String, HashMap<F, Tracked>>,
    /// Digests of bearers that mcpd has accepted.
    accepted: VecDeque<BearerDigest>,
}

struct Tracked {
    breaker: Breaker,
    /// The class of its last failure, reported while the primary is skipped.
    last_failure: Option<FailureClass>,
}

/// One request's admission to an upstream, or its refusal. Dropped unsettled, it teaches the breakers nothing and frees
/// the trial.
pub struct BreakerPermit<F: RequestForm = ()> {
    breakers: Arc<Breakers<F>>,
    llm: String,
    policy: BreakerPolicy,
    /// `None` where it was not read, because no form of its own has failed.
    form: Option<F>,
    /// `None` where the caller is permitted for certain.
    caller: Option<BearerDigest>,
    /// Of the upstream's own breaker.
    own: Admission,
    /// Of the form's; `Closed` where it has none.
    of_form: Admission,
    /// A failure that counts once mcpd has accepted the caller.
    pending: Option<FailureClass>,
    settled: bool,
}

/// How an upstream's breaker stands that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerReport {
    /// What it does with the next request.
    pub condition: BreakerCondition,
    /// How long ago it opened.
    pub open_for: Duration,
    /// The class of the last failure.
    pub last_failure: Option<FailureClass>,
    /// Whether it concerns only requests that are not plain.
    pub some_forms: bool,
}

impl BreakerReport {
    /// How long requests still skip the upstream; `None` where it is half open.
    pub const fn next_try(&self) -> Option<Duration> {
        match self.condition {
            BreakerCondition::Open { next_try } => Some(next_try),
            BreakerCondition::HalfOpen | BreakerCondition::Closed => None,
        }
    }
}

/// A breaker that skips requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBreaker {
    /// How long it still does; zero while one request tries the upstream.
    pub remaining: Duration,
    /// The class of the upstream's last failure.
    pub last_failure: Option<FailureClass>,
}

impl<F> fmt::Debug for Breakers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<F: RequestForm> Breakers<F> {
    /// Closed breakers.
    pub fn new(policy: BreakerPolicy) -> Self {
        let state = BreakersState { tracked: HashMap::new(), accepted: VecDeque::new() };
        Self { policy, state: Mutex::new(state) }
    }

    /// When they open, and for how long.
    pub fn policy(&self) -> BreakerPolicy {
        self.policy
    }

    /// Admits a request of this form to the primary of an Llm, or refuses it. Call it only for Llms that have a local
    /// provider: the others have nothing to fall back to, and the configuration bounds those that have.
    pub fn admit(self: &Arc<Self>, llm: &str, form: F, bearer: &Bearer, now: Instant) -> BreakerPermit<F> {
        self.admit_under(self.policy, llm, form, Some(bearer), now)
    }

    /// As [`Breakers::admit`], under another policy. Without a bearer the caller is permitted for certain. The form is not needed
    /// where no form of its own has failed ([`Breakers::knows_forms`]).
    pub fn admit_under(
        self: &Arc<Self>,
        policy: BreakerPolicy,
        llm: &str,
        form: impl Into<Option<F>>,
        bearer: Option<&Bearer>,
        now: Instant,
    ) -> BreakerPermit<F> {
        let form = form.into();
        let caller = bearer.map(Bearer::digest);
        let mut state = self.lock();
        let accepted = state.accepts(caller.as_ref());
        if !state.tracked.contains_key(llm) {
            state.tracked.insert(llm.to_owned(), HashMap::from([(F::default(), Tracked::new(policy))]));
        }
        let (mut own, mut of_form) = (Admission::Closed, Admission::Closed);
        if let Some(forms) = state.tracked.get_mut(llm) {
            let tried = |form: F| {
                let mut breaker = forms.get(&form)?.breaker.clone();
                breaker.set_policy(policy);
                let admission = breaker.admit(now);
                Some((form, breaker, admission))
            };
            let tried = [tried(F::default()), form.filter(is_own).and_then(tried)];
            [own, of_form] =
                tried.each_ref().map(|tried| tried.as_ref().map_or(Admission::Closed, |tried| tried.2));
            // The trial of a caller whom mcpd does not know teaches nothing, and would keep others from theirs.
            let refused =
                |admission| admission == Admission::Open || (admission == Admission::Trial && !accepted);
            if refused(own) || refused(of_form) {
                (own, of_form) = (Admission::Open, Admission::Open);
            } else {
                for (form, breaker, _) in tried.into_iter().flatten() {
                    if let Some(tracked) = forms.get_mut(&form) {
                        tracked.breaker = breaker;
                    }
                }
            }
        }
        let (breakers, llm) = (Arc::clone(self), llm.to_owned());
        BreakerPermit { breakers, llm, policy, form, caller, own, of_form, pending: None, settled: false }
    }

    /// Whether an upstream has failed at a form of its own and not answered one since, so that the form of a request matters.
    pub fn knows_forms(&self, llm: &str) -> bool {
        self.lock().knows_forms(llm)
    }

    /// The breaker that would skip a request of this form, if there is one. Admits nothing, so that the request may still go
    /// elsewhere.
    pub fn skipping(&self, policy: BreakerPolicy, llm: &str, form: F, now: Instant) -> Option<OpenBreaker> {
        let state = self.lock();
        let forms = state.tracked.get(llm)?;
        let open = [F::default(), form].into_iter().filter_map(|form| {
            let Tracked { breaker, last_failure } = forms.get(&form)?;
            let mut breaker = breaker.clone();
            breaker.set_policy(policy);
            Some(OpenBreaker { remaining: breaker.open_for(now)?, last_failure: *last_failure })
        });
        open.max_by_key(|open| open.remaining)
    }

    /// Whether an upstream has a breaker: it was admitted to before.
    pub fn is_tracked(&self, llm: &str) -> bool {
        self.lock().tracked.contains_key(llm)
    }

    /// How the breaker of an upstream stands: its own, else the first of a form; `None` where all are closed.
    pub fn report(&self, llm: &str, now: Instant) -> Option<BreakerReport> {
        report(self.lock().tracked.get(llm)?, now)
    }

    /// The upstreams whose breakers are not closed, sorted by name.
    pub fn reports(&self, now: Instant) -> Vec<(String, BreakerReport)> {
        let state = self.lock();
        let reported =
            state.tracked.iter().filter_map(|(llm, forms)| Some((llm.clone(), report(forms, now)?)));
        let mut reports: Vec<_> = reported.collect();
        reports.sort_by(|(a, _), (b, _)| a.cmp(b));
        reports
    }

    /// Removes the breakers of upstreams that `keep` does not hold for. Permits for them record nothing any more.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.lock().tracked.retain(|llm, _| keep(llm));
    }

    /// Upstreams that are skipped for some form of request, sorted by name.
    pub fn open(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        let is_open =
            |forms: &HashMap<F, Tracked>| forms.values().any(|tracked| tracked.breaker.is_open(now));
        let mut open: Vec<_> =
            state.tracked.iter().filter(|(_, forms)| is_open(forms)).map(|(llm, _)| llm.clone()).collect();
        open.sort();
        open
    }
}

impl<F: RequestForm> BreakersState<F> {
    fn knows_forms(&self, llm: &str) -> bool {
        self.tracked.get(llm).is_some_and(|forms| forms.keys().copied().any(|form| is_own(&form)))
    }
}

/// Whether a form has a breaker of its own.
fn is_own<F: RequestForm>(form: &F) -> bool {
    *form != F::default()
}

impl Tracked {
    const fn new(policy: BreakerPolicy) -> Self {
        Self { breaker: Breaker::new(policy), last_failure: None }
    }
}

impl<F> BreakersState<F> {
    /// Whether the caller is permitted, as far as is known.
    fn accepts(&self, caller: Option<&BearerDigest>) -> bool {
        caller.is_none_or(|caller| self.accepted.contains(caller))
    }
}

impl<F> Breakers<F> {
    fn lock(&self) -> MutexGuard<'_, BreakersState<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report<F: RequestForm>(forms: &HashMap<F, Tracked>, now: Instant) -> Option<BreakerReport> {
    let of = |form: &F, Tracked { breaker, last_failure }: &Tracked| {
        let condition = breaker.condition(now);
        (condition != BreakerCondition::Closed).then(|| BreakerReport {
            condition,
            open_for: breaker.opened().map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened)),
            last_failure: *last_failure,
            some_forms: *form != F::default(),
        })
    };
    let reports = forms.iter().filter_map(|(form, tracked)| of(form, tracked));
    reports.min_by_key(|report| (report.some_forms, std::cmp::Reverse(report.next_try())))
}

impl<F: RequestForm> BreakerPermit<F> {
    /// Whether the request skips the primary.
    pub fn is_open(&self) -> bool {
        self.own == Admission::Open || self.of_form == Admission::Open
    }

    /// Whether the breaker is not closed: the request skips the upstream, or is the one that tries it.
    pub fn is_suspect(&self) -> bool {
        self.own != Admission::Closed || self.of_form != Admission::Closed
    }

    /// The class of the primary's last failure.
    pub fn last_failure(&self) -> Option<FailureClass> {
        let state = self.breakers.lock();
        let forms = state.tracked.get(&self.llm)?;
        let forms = [Some(F::default()), self.form].map(|form| forms.get(&form?)?.last_failure);
        forms.into_iter().flatten().next()
    }

    /// Reads the form of the request, where it was not and this end of the primary's attempt concerns the breaker of a form.
    /// Call it before [`BreakerPermit::settle`].
    pub fn read_form(&mut self, failure: Option<FailureClass>, read: impl FnOnce() -> F) {
        if self.form.is_none()
            && (failure == Some(FailureClass::ServerError) || self.breakers.knows_forms(&self.llm))
        {
            self.form = Some(read());
        }
    }

    /// Records how the primary's attempt ended; `None` is success. The failure of a caller who is not known to be accepted
    /// counts once mcpd accepts that caller ([`BreakerPermit::accept_caller`]).
    pub fn settle(&mut self, failure: Option<FailureClass>, now: Instant) {
        let accepted = self.breakers.lock().accepts(self.caller.as_ref());
        match failure {
            None => {
                self.remember_caller();
                self.record(Verdict::Success, None, now);
            }
            Some(class) if class.trips_breaker() && accepted => self.record(Verdict::Failure, failure, now),
            Some(class) if class.trips_breaker() => self.pending = Some(class),
            Some(FailureClass::Denied) => {
                self.forget_caller();
                self.record(Verdict::Nothing, None, now);
            }
            Some(FailureClass::Cancelled | FailureClass::Quota) => self.record(Verdict::Nothing, None, now),
            // The primary works; the caller caused the failure.
            Some(_) => {
                let verdict = if accepted { Verdict::Success } else { Verdict::Nothing };
                self.record(verdict, None, now);
            }
        }
    }

    /// Records that mcpd accepts the caller.
    pub fn accept_caller(&mut self, now: Instant) {
        self.remember_caller();
        if let Some(class) = self.pending.take() {
            self.record(Verdict::Failure, Some(class), now);
        }
    }

    fn remember_caller(&self) {
        let Some(caller) = &self.caller else { return };
        let mut state = self.breakers.lock();
        if !state.accepted.contains(caller) {
            state.accepted.push_back(caller.clone());
            let surplus = state.accepted.len().saturating_sub(MAX_ACCEPTED);
            state.accepted.drain(..surplus);
        }
    }

    fn forget_caller(&self) {
        self.breakers.lock().accepted.retain(|accepted| Some(accepted) != self.caller.as_ref());
    }

    fn record(&mut self, verdict: Verdict, failure: Option<FailureClass>, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut state = self.breakers.lock();
        let Some(forms) = state.tracked.get_mut(&self.llm) else { return };
        let form = self.form.filter(is_own);
        let by_form = failure == Some(FailureClass::ServerError);
        let blamed = form.filter(|_| by_form).unwrap_or_default();
        let admissions = [Some((F::default(), self.own)), form.map(|form| (form, self.of_form))];
        for (form, admission) in admissions.into_iter().flatten() {
            let verdict =
                if verdict == Verdict::Failure && form != blamed { Verdict::Nothing } else { verdict };
            if verdict == Verdict::Failure {
                forms.entry(form).or_insert_with(|| Tracked::new(self.policy));
            }
            let Some(tracked) = forms.get_mut(&form) else { continue };
            let opened_before = tracked.breaker.opened();
            tracked.breaker.record(admission, verdict, now);
            let some_forms = is_own(&form);
            log_change(&self.llm, some_forms, failure, opened_before, tracked.breaker.opened(), now);
            tracked.last_failure = match verdict {
                Verdict::Failure => failure,
                Verdict::Success => None,
                Verdict::Nothing => tracked.last_failure,
            };
            if some_forms && tracked.breaker.is_as_new() {
                forms.remove(&form);
            }
        }
    }
}

/// One line when a breaker opens and one when it closes, however many trials fail in between.
fn log_change(
    upstream: &str,
    some_forms: bool,
    failure: Option<FailureClass>,
    before: Option<Instant>,
    after: Option<Instant>,
    now: Instant,
) {
    match (before, after) {
        (None, Some(_)) => {
            let class = failure.map(FailureClass::as_str);
            tracing::warn!(upstream, some_forms, class, "a breaker opens: the upstream keeps failing");
        }
        (Some(opened), None) => {
            let open_s = now.saturating_duration_since(opened).as_secs();
            tracing::info!(upstream, some_forms, open_s, "a breaker closes: the upstream answers again");
        }
        _ => {}
    }
}

impl<F: RequestForm> Drop for BreakerPermit<F> {
    fn drop(&mut self) {
        self.record(Verdict::Nothing, None, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 2, open: Duration::from_secs(10) };
    const DOWN: Option<FailureClass> = Some(FailureClass::Connect);

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    enum Form {
        #[default]
        Plain,
        Images,
        Tools,
    }
    use Form::{Images, Plain, Tools};

    fn alice() -> Bearer {
        Bearer::new("alice's")
    }

    fn opened(llm: &str, now: Instant) -> Arc<Breakers<Form>> {
        let breakers = Arc::new(Breakers::new(POLICY));
        for _ in 0..2 {
            let mut permit = breakers.admit(llm, Plain, &alice(), now);
            permit.settle(DOWN, now);
            permit.accept_caller(now);
        }
        breakers
    }

    #[test]
    fn each_llm_has_its_own_breaker() {
        let now = Instant::now();
        let breakers = opened("claude", now);
        let permit = breakers.admit("claude", Plain, &alice(), now);
        assert!(permit.is_open());
        assert_eq!(permit.last_failure(), Some(FailureClass::Connect));
        assert!(!breakers.admit("gpt", Plain, &alice(), now).is_open());
        assert_eq!(breakers.open(now), ["claude"]);
    }

    #[test]
    fn question_whether_it_skips_takes_no_trial() {
        let now = Instant::now();
        let breakers = opened("claude", now);
        let skipping =
            |form, seconds| breakers.skipping(POLICY, "claude", form, now + Duration::from_secs(seconds));
        let open =
            |seconds| Some(OpenBreaker { remaining: Duration::from_secs(seconds), last_failure: DOWN });
        assert_eq!((skipping(Plain, 4), skipping(Images, 4)), (open(6), open(6)));
        assert_eq!((skipping(Plain, 10), skipping(Plain, 10)), (None, None));
        let later = now + Duration::from_secs(10);
        let _trial = breakers.admit("claude", Plain, &alice(), later);
        assert_eq!(skipping(Images, 10), open(0), "one trial at a time");
        assert_eq!(breakers.skipping(POLICY, "gpt", Plain, now), None);
    }

    #[test]
    fn dropped_trial_lets_the_next_request_try() {
        let now = Instant::now();
        let breakers = opened("claude", now);
        let later = now + Duration::from_secs(11);
        let trial = breakers.admit("claude", Plain, &alice(), later);
        assert!(!trial.is_open());
        assert!(breakers.admit("claude", Plain, &alice(), later).is_open(), "one trial at a time");
        drop(trial);
        let again = breakers.admit("claude", Plain, &alice(), Instant::now() + Duration::from_secs(20));
        assert!(!again.is_open());
    }

    #[test]
    fn denials_do_not_open_a_breaker() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for _ in 0..5 {
            breakers.admit("claude", Plain, &alice(), now).settle(Some(FailureClass::Denied), now);
        }
        assert!(!breakers.admit("claude", Plain, &alice(), now).is_open());
    }

    #[test]
    fn unknown_callers_neither_open_nor_close_nor_try() {
        let now = Instant::now();
        let breakers = Arc::new(Breakers::new(POLICY));
        let stranger = |number: usize| Bearer::new(format!("made up {number}"));
        for number in 0..1000 {
            breakers.admit("claude", Plain, &stranger(number), now).settle(DOWN, now);
        }
        assert!(!breakers.admit("claude", Plain, &alice(), now).is_open(), "strangers opened it");
        assert!(breakers.lock().accepted.is_empty() && breakers.lock().tracked.len() == 1);

        let breakers = opened("claude", now);
        let later = now + Duration::from_secs(11);
        let mut held = breakers.admit("claude", Plain, &stranger(0), later);
        assert!(held.is_open(), "a stranger took the trial");
        assert!(!breakers.admit("claude", Plain, &alice(), later).is_open(), "the trial is there for others");
        for class in [FailureClass::Denied, FailureClass::Rejected, FailureClass::Quota] {
            held.settle(Some(class), later);
        }
        drop(held);
        let trial = breakers.admit("claude", Plain, &alice(), later);
        assert!(breakers.admit("claude", Plain, &alice(), later).is_open(), "strangers closed it");
        drop(trial);
    }

    #[test]
    fn only_the_latest_callers_are_remembered() {
        let (breakers, now) = (Arc::new(Breakers::new(POLICY)), Instant::now());
        for number in 0..MAX_ACCEPTED + 10 {
            breakers.admit("claude", Plain, &Bearer::new(number.to_string()), now).settle(None, now);
        }
        assert_eq!(breakers.lock().accepted.len(), MAX_ACCEPTED);
    }

    #[test]
    fn server_errors_of_one_form_skip_no_other_form() {
        let now = Instant::now();
        let breakers = opened("other", now);
        let fail = |form, class| {
            let mut permit = breakers.admit("claude", form, &alice(), now);
            assert!(!permit.is_open());
            permit.settle(Some(class), now);
            permit.accept_caller(now);
        };
        let is_open = |form| breakers.admit("claude", form, &alice(), now).is_open();
        (0..2).for_each(|_| fail(Images, FailureClass::ServerError));
        assert!(is_open(Images) && !is_open(Plain));
        assert!(!is_open(Tools));
        let last = breakers.admit("claude", Images, &alice(), now).last_failure();
        assert_eq!(last, Some(FailureClass::ServerError));
        assert_eq!(breakers.open(now), ["claude", "other"]);
        let report = breakers.report("claude", now + Duration::from_secs(4)).unwrap();
        assert_eq!((report.some_forms, report.open_for), (true, Duration::from_secs(4)));
        assert_eq!(report.condition, BreakerCondition::Open { next_try: Duration::from_secs(6) });
        assert_eq!(report.last_failure, Some(FailureClass::ServerError));
        let reported: Vec<_> =
            breakers.reports(now).into_iter().map(|(llm, report)| (llm, report.some_forms)).collect();
        assert_eq!(reported, [("claude".to_owned(), true), ("other".to_owned(), false)]);
        assert_eq!(breakers.report("gpt", now), None);

        // What no request can cause counts for all.
        (0..2).for_each(|_| fail(Tools, FailureClass::Connect));
        assert!(is_open(Plain) && is_open(Images) && is_open(Tools));

        // One trial for all forms, and a success closes both.
        let later = now + Duration::from_secs(11);
        let mut trial = breakers.admit("claude", Images, &alice(), later);
        assert!(!trial.is_open() && breakers.admit("claude", Plain, &alice(), later).is_open());
        trial.settle(None, later);
        assert!(!breakers.admit("claude", Plain, &alice(), later).is_open());
        assert!(!breakers.admit("claude", Images, &alice(), later).is_open());
    }
}
