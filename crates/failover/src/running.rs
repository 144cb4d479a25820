//! Whether local requests that run may go on: those of one caller for one Llm, as a pure machine. It does no I/O and reads no
//! clock.
//!
//! Where mcpd signs its answers, only a signed answer to a probe confirms access or takes it away. The feed, which nothing
//! signs, is a hint: what it denies is probed at once, and where that brings no verdict the requests end. Where no key is
//! pinned, the feed counts as much as a probe.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mcpctl_api::error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED};

use crate::{
    access::{AccessVerdict, Allowance},
    lease::LeaseCover,
    llm::LlmId,
};

/// How often the whole probe is repeated.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// The same where mcpd signs its answers, so that one lost probe does not end a request.
const SIGNED_PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How soon it is repeated while mcpd does not decide.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two probes that the feed causes.
const HINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long requests go on after the last answer of mcpd's: a second less than an answer holds, so that they have ended by then on
/// a busy machine too.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(14);
/// How long the first probe after the machine was suspended may take.
const WAKING_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the lease and the clocks are looked at again while requests run.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a running request has ended before its answer: at the agent, or at mcpd itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AccessEnded {
    /// The caller may not use the Llm any more, or it is another one.
    #[error("access to the Llm was revoked while the request ran")]
    Revoked,
    /// The credential has expired.
    #[error("the credential expired while the request ran")]
    Expired,
    /// Whether the caller may still use the Llm cannot be known: mcpd, or its store, does not answer.
    #[error("whether access to the Llm still holds cannot be confirmed")]
    Unconfirmed,
    /// The mcpd that allowed it, or the keys by which it proves that, are not the agent's any more.
    #[error("the agent's `server` or `proofKeys` changed while the request ran")]
    Reconfigured,
}

impl AccessEnded {
    /// The code of the error, and the outcome in the journal and in the row of usage.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Revoked | Self::Expired => ACCESS_REVOKED,
            Self::Unconfirmed | Self::Reconfigured => ACCESS_UNCONFIRMED,
        }
    }

    /// The word of the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Reconfigured => "reconfigured",
        }
    }

    /// The family of the error, as OpenAI's dialect has it in streams.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Revoked | Self::Expired => "permission_error",
            Self::Unconfirmed | Self::Reconfigured => "server_error",
        }
    }
}

/// What a feed shows of one Llm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedReading {
    /// The decision.
    pub decision: FeedDecision,
    /// When the decision arrived.
    pub changed_at: Instant,
    /// The latest moment for which it is shown to hold.
    pub heard_at: Option<Instant>,
    /// What is left until the credential expires.
    pub expires_in: Option<Duration>,
}

/// What a feed shows to be decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FeedDecision {
    /// The caller may use this Llm.
    Allowed(LlmId),
    /// The caller may not.
    Denied,
    /// The credential is not valid any more, for this reason.
    Ended(AccessEnded),
}

/// The local requests of one caller for one Llm, and what is known of the caller's access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunningRequests {
    requests: BTreeMap<u64, Running>,
    next: u64,
    /// What mcpd allowed last.
    allowed: Option<Allowed>,
    /// When the last probe was sent that had a verdict.
    judged_at: Option<Instant>,
    /// Whether mcpd signs its answers.
    is_signed: bool,
    /// The denials by the feed that no later probe has answered, where answers are signed.
    doubt: Option<Doubt>,
    /// The latest moment for which the feed confirms the access, where answers are not signed.
    heard_at: Option<Instant>,
    /// What is left until the credential expires, by the feed, where answers are not signed.
    expires_in: Option<Duration>,
    /// When the next probe is due, whatever the feed shows.
    probe_at: Instant,
    /// When the last probe was sent that the feed caused.
    hinted_at: Option<Instant>,
    /// When the machine woke up last.
    woke_at: Option<Instant>,
}

/// When the feed showed the first and the last of the denials that are open: whatever it shows later takes none back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Doubt {
    first: Instant,
    last: Instant,
}

/// The last *allowed*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Allowed {
    sent: Instant,
    until: Instant,
    /// Whether it holds for less than [`Allowance::HOLDS`], because the credential expires.
    expires: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Running {
    llm: Option<LlmId>,
    asked_at: Instant,
    ended: Option<AccessEnded>,
}

impl RunningRequests {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self {
            requests: BTreeMap::new(),
            next: 0,
            allowed: None,
            judged_at: None,
            is_signed: false,
            doubt: None,
            heard_at: None,
            expires_in: None,
            probe_at: now + PROBE_INTERVAL,
            hinted_at: None,
            woke_at: None,
        }
    }

    /// A request joins whose probe was sent at `asked_at`; `allowance` is what that allowed, `None` where a lease covers the
    /// request. Returns its number.
    pub fn join(&mut self, llm: Option<LlmId>, asked_at: Instant, allowance: Option<&Allowance>) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        match allowance {
            // Its probe is as good as a repeated one.
            Some(allowance) => self.allow(asked_at, allowance),
            // There are no leases but by signed answers.
            None => self.becomes_signed(asked_at),
        }
        self.requests.insert(number, Running { llm, asked_at, ended: None });
        number
    }

    /// A request begins to run by its last probe, or by a lease: from now on it is bound to this Llm.
    pub fn begin(
        &mut self,
        number: u64,
        llm: Option<&LlmId>,
        asked_at: Instant,
        allowance: Option<&Allowance>,
    ) {
        if let (Some(request), Some(id)) = (self.requests.get_mut(&number), llm) {
            request.llm = Some(id.clone());
        }
        if let Some(allowance) = allowance {
            self.allow(asked_at, allowance);
        }
    }

    /// A request has ended by itself.
    pub fn leave(&mut self, number: u64) {
        self.requests.remove(&number);
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether a request runs whose access has not ended.
    pub fn has_running(&self) -> bool {
        self.requests.values().any(|request| request.ended.is_none())
    }

    /// The requests whose access has ended, and why.
    pub fn ended(&self) -> impl Iterator<Item = (u64, AccessEnded)> + '_ {
        self.requests.iter().filter_map(|(number, request)| Some((*number, request.ended?)))
    }

    /// Ends all requests.
    pub fn end_all(&mut self, why: AccessEnded) {
        self.end(|_| true, why);
    }

    fn end(&mut self, which: impl Fn(&Running) -> bool, why: AccessEnded) {
        for request in self.requests.values_mut().filter(|request| which(request)) {
            request.ended.get_or_insert(why);
        }
    }

    /// mcpd did not open the feed for this caller: a reason to probe.
    pub fn refused(&mut self, now: Instant) {
        let hint_at = self.hinted_at.map_or(now, |hinted| hinted + HINT_INTERVAL);
        self.probe_at = self.probe_at.min(hint_at);
        self.hinted_at = Some(now);
    }

    /// Takes what the feed shows now; `None` where it shows nothing of this Llm.
    pub fn observe(&mut self, feed: Option<&FeedReading>) {
        (self.heard_at, self.expires_in) = (None, None);
        let Some(feed) = feed else { return };
        if self.is_signed {
            let is_open = self.judged_at.is_none_or(|judged| judged < feed.changed_at);
            if is_open && self.is_denied_by(&feed.decision) {
                let last = feed.changed_at;
                self.doubt = Some(Doubt { first: self.doubt.map_or(last, |doubt| doubt.first), last });
            }
            return;
        }
        self.expires_in = feed.expires_in;
        // What was decided before the probe of a request is no statement about it.
        let is_newer = |request: &Running| feed.changed_at >= request.asked_at;
        match &feed.decision {
            FeedDecision::Allowed(id) => {
                self.is_about(id, is_newer);
                self.heard_at = feed.heard_at.filter(|heard| self.woke_at.is_none_or(|woke| *heard >= woke));
            }
            FeedDecision::Denied => self.end(is_newer, AccessEnded::Revoked),
            FeedDecision::Ended(why) => self.end(is_newer, *why),
        }
    }

    fn is_denied_by(&self, decision: &FeedDecision) -> bool {
        let is_another = |id: &LlmId| {
            let differs = |request: &Running| request.llm.as_ref().is_some_and(|known| known != id);
            self.requests.values().any(differs)
        };
        !matches!(decision, FeedDecision::Allowed(id) if !is_another(id))
    }

    /// The Llm has this id now: ends requests for another one that had its name.
    fn is_about(&mut self, id: &LlmId, which: impl Fn(&Running) -> bool) {
        self.end(
            |request| which(request) && request.llm.as_ref().is_some_and(|known| known != id),
            AccessEnded::Revoked,
        );
        for request in self.requests.values_mut().filter(|request| which(request)) {
            request.llm.get_or_insert_with(|| id.clone());
        }
    }

    /// When the next probe is due; `None` where none is wanted.
    pub fn probe_due(&self) -> Option<Instant> {
        let regular = self.has_running().then_some(self.probe_at);
        let hinted =
            self.doubt.map(|doubt| self.hinted_at.map_or(doubt.first, |hinted| hinted + HINT_INTERVAL));
        regular.into_iter().chain(hinted).min()
    }

    /// A probe is sent. One runs at a time.
    pub fn probe_sent(&mut self, now: Instant) {
        if self.doubt.is_some() {
            self.hinted_at = Some(now);
        }
    }

    /// Takes the result of a probe that was sent at `sent`. `spread` varies the time until the next one, so that agents that
    /// lost mcpd at the same moment do not return at the same moment.
    pub fn answered(
        &mut self,
        sent: Instant,
        verdict: &AccessVerdict,
        now: Instant,
        spread: impl Fn(Duration) -> Duration,
    ) {
        let interval = match verdict {
            AccessVerdict::Allowed(allowance) if allowance.proof.is_some() => SIGNED_PROBE_INTERVAL,
            AccessVerdict::Allowed(_) => PROBE_INTERVAL,
            _ => RETRY_INTERVAL,
        };
        self.probe_at = now + spread(interval);
        match verdict {
            AccessVerdict::Allowed(allowance) => self.allow(sent, allowance),
            // Those that began meanwhile have a later probe of their own.
            AccessVerdict::Forbidden { .. } => {
                self.judged(sent);
                self.end(|request| request.asked_at <= sent, AccessEnded::Revoked);
            }
            // INVARIANT 8: what the feed denied, and mcpd does not confirm, does not go on. The lease stays, because the feed may
            // be forged.
            AccessVerdict::Leased { .. } | AccessVerdict::Unreachable(_) => {
                if let Some(doubt) = self.doubt.filter(|doubt| doubt.first <= sent) {
                    let denied_at = if doubt.last <= sent { doubt.last } else { doubt.first };
                    self.judged(sent);
                    self.end(|request| request.asked_at <= denied_at, AccessEnded::Unconfirmed);
                }
            }
        }
    }

    fn allow(&mut self, sent: Instant, allowance: &Allowance) {
        if allowance.proof.is_some() {
            self.becomes_signed(sent);
        } else if self.is_signed {
            // INVARIANT 4: an answer that is not signed is none.
            return;
        }
        self.judged(sent);
        if self.allowed.is_none_or(|known| known.sent <= sent) {
            let holds = allowance.holds.min(CONFIRMATION_TIMEOUT);
            let expires = allowance.holds < Allowance::HOLDS;
            self.allowed = Some(Allowed { sent, until: sent + holds, expires });
        }
        if let Some(id) = &allowance.llm {
            self.is_about(id, |request| request.asked_at <= sent);
        }
    }

    fn becomes_signed(&mut self, sent: Instant) {
        if !self.is_signed {
            self.is_signed = true;
            self.probe_at = self.probe_at.min(sent + SIGNED_PROBE_INTERVAL);
        }
    }

    fn judged(&mut self, sent: Instant) {
        self.judged_at = self.judged_at.max(Some(sent));
        // Of those that came between the first and the last one no time is kept: the probe for the last one answers them.
        self.doubt = self
            .doubt
            .filter(|doubt| doubt.last > sent)
            .map(|Doubt { first, last }| Doubt { first: if first > sent { first } else { last }, last });
    }

    /// The machine was suspended for so long: mcpd is asked at once, and what it confirmed before counts until that has an answer,
    /// or as long as it would have.
    pub fn slept(&mut self, slept: Duration, now: Instant) {
        let Some(until) = self.confirmed_until().filter(|until| *until > now) else { return };
        (self.woke_at, self.heard_at, self.probe_at) = (Some(now), None, now);
        if let Some(allowed) = &mut self.allowed {
            let as_counted = until.checked_sub(slept).unwrap_or(now);
            allowed.until = as_counted.max(until.min(now + WAKING_TIMEOUT));
        }
    }

    /// Until when requests go on without another answer of mcpd's.
    fn confirmed_until(&self) -> Option<Instant> {
        let heard = self.heard_at.map(|at| at + CONFIRMATION_TIMEOUT);
        self.allowed.map(|allowed| allowed.until).max(heard)
    }

    /// Ends requests whose access neither mcpd nor this lease confirms any more. Call it with the lease that covers at this
    /// moment: one that was found earlier may have been destroyed.
    pub fn check(&mut self, lease: Option<&LeaseCover>, now: Instant) {
        let is_expired = self.allowed.is_some_and(|allowed| allowed.expires && now >= allowed.until)
            || self.expires_in.is_some_and(|left| left.is_zero());
        if is_expired {
            return self.end_all(AccessEnded::Expired);
        }
        if self.confirmed_until().is_some_and(|until| now < until) {
            return;
        }
        let is_covered =
            |request: &Running| lease.is_some_and(|lease| request.llm.as_ref() == Some(&lease.llm));
        self.end(|request| !is_covered(request), AccessEnded::Unconfirmed);
    }

    /// When to look again; `None` where there is no request and nothing to probe.
    pub fn wake_at(&self, is_probing: bool, now: Instant) -> Option<Instant> {
        let probe = self.probe_due().filter(|_| !is_probing);
        if self.is_empty() {
            return probe;
        }
        let expiry = self.expires_in.map(|left| now + left.min(CHECK_INTERVAL));
        // What has ended already has nothing more to wait for.
        let ends = [self.confirmed_until(), expiry].into_iter().flatten().filter(|at| *at > now);
        ends.chain(probe).chain([now + CHECK_INTERVAL]).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        running: RunningRequests,
        begun: Instant,
        /// What the feed shows; it is observed at every step, as the agent does.
        feed: Option<FeedReading>,
    }

    impl Case {
        /// One request whose probe was sent at 0.
        fn of(allowance: Option<Allowance>) -> Self {
            let begun = Instant::now();
            let mut running = RunningRequests::new(begun);
            running.join(Some(LlmId::new("id-1")), begun, allowance.as_ref());
            Self { running, begun, feed: None }
        }

        fn at(&self, millis: u64) -> Instant {
            self.begun + Duration::from_millis(millis)
        }

        /// Why the first request has ended by this time.
        fn ended(&mut self, millis: u64, lease: Option<&LeaseCover>) -> Option<AccessEnded> {
            let now = self.at(millis);
            self.running.observe(self.feed.as_ref());
            self.running.check(lease, now);
            self.running.ended().find(|(number, _)| *number == 0).map(|(_, why)| why)
        }

        fn shows(&mut self, decision: FeedDecision, millis: u64) {
            let changed_at = self.at(millis);
            let heard_at = Some(changed_at);
            self.feed = Some(FeedReading { decision, changed_at, heard_at, expires_in: None });
            self.running.observe(self.feed.as_ref());
        }

        /// A probe that is answered 10 ms after it was sent.
        fn probes(&mut self, sent: u64, verdict: &AccessVerdict) {
            let (sent, now) = (self.at(sent), self.at(sent + 10));
            self.running.observe(self.feed.as_ref());
            self.running.probe_sent(sent);
            self.running.answered(sent, verdict, now, |interval| interval);
        }

        /// When the next probe is due, in milliseconds.
        fn due(&mut self) -> Option<u128> {
            self.running.observe(self.feed.as_ref());
            self.running.probe_due().map(|due| due.saturating_duration_since(self.begun).as_millis())
        }
    }

    fn signed(holds: u64) -> Allowance {
        Allowance { holds: Duration::from_secs(holds), proof: Some("proof".into()), ..unsigned() }
    }

    fn unsigned() -> Allowance {
        Allowance::of_status(Some(LlmId::new("id-1")))
    }

    fn one() -> FeedDecision {
        FeedDecision::Allowed(LlmId::new("id-1"))
    }

    fn unreachable() -> AccessVerdict {
        AccessVerdict::Unreachable("partitioned".to_owned())
    }

    fn cover(llm: &str) -> LeaseCover {
        LeaseCover {
            llm: LlmId::new(llm),
            subject: "alice".to_owned(),
            remaining: Duration::from_secs(60),
            ends: Duration::from_secs(60),
            token: "lease".to_owned(),
        }
    }

    #[test]
    fn inv_06_a_feed_confirms_only_where_answers_are_not_signed() {
        for (allowance, ended) in [(signed(15), Some(AccessEnded::Unconfirmed)), (unsigned(), None)] {
            let mut case = Case::of(Some(allowance));
            case.shows(one(), 13_000);
            assert_eq!((case.ended(13_900, None), case.ended(14_000, None)), (None, ended));
        }
        let mut case = Case::of(Some(unsigned()));
        case.shows(one(), 14_000);
        assert_eq!(case.ended(29_000, None), Some(AccessEnded::Unconfirmed));
        // An answer that is not signed confirms nothing where one was.
        let mut case = Case::of(Some(signed(15)));
        case.probes(10_000, &AccessVerdict::Allowed(unsigned()));
        assert_eq!(case.ended(15_000, None), Some(AccessEnded::Unconfirmed));
        let mut case = Case::of(Some(signed(15)));
        case.probes(10_000, &AccessVerdict::Allowed(signed(15)));
        assert_eq!(case.ended(23_900, None), None);
    }

    #[test]
    fn inv_06_denial_by_the_feed_is_probed_where_answers_are_signed() {
        let another = FeedDecision::Allowed(LlmId::new("id-2"));
        for denial in [FeedDecision::Denied, FeedDecision::Ended(AccessEnded::Revoked), another] {
            let mut case = Case::of(Some(signed(15)));
            assert_eq!(case.due(), Some(5000));
            case.shows(denial.clone(), 1000);
            assert_eq!((case.ended(1000, None), case.due()), (None, Some(1000)), "{denial:?}");
            case.probes(1000, &AccessVerdict::Allowed(signed(15)));
            assert_eq!((case.ended(1100, None), case.due()), (None, Some(6010)), "a forged event");
            // Another one: a second later at the soonest, though it came earlier.
            case.shows(denial.clone(), 1500);
            assert_eq!(case.due(), Some(2000));
            case.probes(2000, &AccessVerdict::Forbidden { authenticated: true, rule: None });
            assert_eq!(case.ended(2100, None), Some(AccessEnded::Revoked));

            let mut case = Case::of(Some(unsigned()));
            case.shows(denial, 1000);
            assert_eq!(case.ended(1000, None), Some(AccessEnded::Revoked), "the feed decides");
        }
    }

    #[test]
    fn inv_08_denial_by_the_feed_that_no_probe_answers_ends() {
        let lease = cover("id-1");
        let leased = AccessVerdict::Leased { cover: lease.clone(), reason: String::new() };
        for verdict in [unreachable(), leased] {
            let mut case = Case::of(Some(signed(15)));
            case.shows(FeedDecision::Denied, 1000);
            // One that was sent before does not answer the event.
            case.probes(900, &verdict);
            assert_eq!((case.ended(1100, Some(&lease)), case.due()), (None, Some(1900)));
            case.probes(1900, &verdict);
            assert_eq!(case.ended(2000, Some(&lease)), Some(AccessEnded::Unconfirmed));
            assert_eq!(case.due(), None);
            // A request that joins afterwards has a probe of its own.
            let later = case.running.join(Some(LlmId::new("id-1")), case.at(3000), Some(&signed(15)));
            case.running.check(None, case.at(3000));
            assert!(case.running.ended().all(|(number, _)| number != later));
        }
        // Without a hint, a probe without a verdict ends nothing by itself.
        let mut case = Case::of(Some(signed(15)));
        case.probes(5000, &unreachable());
        assert_eq!((case.ended(5100, None), case.due()), (None, Some(7010)));
    }

    #[test]
    fn inv_08_feed_does_not_take_back_what_it_denied() {
        for later in [None, Some(one()), Some(FeedDecision::Denied)] {
            let mut case = Case::of(Some(signed(15)));
            case.shows(FeedDecision::Denied, 1000);
            case.running.probe_sent(case.at(1000));
            let between = case.running.join(Some(LlmId::new("id-1")), case.at(1100), None);
            // Before the probe fails, the feed shows something else, or the same once more.
            match later.clone() {
                Some(decision) => case.shows(decision, 1200),
                None => case.feed = None,
            }
            assert_eq!((case.ended(1300, None), case.due()), (None, Some(2000)), "{later:?}");
            let (sent, now) = (case.at(1000), case.at(1900));
            case.running.answered(sent, &unreachable(), now, |interval| interval);
            assert_eq!(case.ended(1900, None), Some(AccessEnded::Unconfirmed), "{later:?}");
            // The probe was too early for the second denial, which the next one answers.
            let ended = |case: &Case| case.running.ended().any(|(number, _)| number == between);
            let is_denied_again = later == Some(FeedDecision::Denied);
            assert!(!ended(&case), "{later:?}");
            assert_eq!(case.due(), Some(if is_denied_again { 2000 } else { 3900 }), "{later:?}");
            case.probes(2000, &unreachable());
            assert_eq!(ended(&case), is_denied_again, "{later:?}");
        }
    }

    #[test]
    fn inv_06_lease_counts_only_as_long_as_it_covers() {
        let lease = cover("id-1");
        // Of a request that was allowed by a probe, and of one that a lease allowed.
        for (allowance, since) in [(Some(signed(15)), 15_000), (None, 0)] {
            let mut case = Case::of(allowance.clone());
            assert_eq!(case.ended(since + 30_000, Some(&lease)), None);
            assert_eq!(case.ended(since + 30_100, None), Some(AccessEnded::Unconfirmed), "destroyed");
            let mut case = Case::of(allowance);
            assert_eq!(case.ended(since, Some(&cover("id-2"))), Some(AccessEnded::Unconfirmed));
        }
        let case = Case::of(None);
        assert_eq!(
            case.running.wake_at(true, case.begun),
            Some(case.at(1000)),
            "it is looked up every second"
        );
    }

    #[test]
    fn request_ends_with_its_credential_without_a_feed() {
        let mut case = Case::of(Some(signed(7)));
        assert_eq!(case.ended(6900, None), None);
        assert_eq!(case.running.wake_at(true, case.at(6500)), Some(case.at(7000)));
        assert_eq!(case.ended(7000, Some(&cover("id-1"))), Some(AccessEnded::Expired));
        let mut case = Case::of(Some(signed(14)));
        assert_eq!(case.ended(14_000, Some(&cover("id-1"))), Some(AccessEnded::Expired));
        // An answer that arrived late counts by when it was asked for.
        let mut case = Case::of(Some(signed(15)));
        case.probes(5000, &AccessVerdict::Allowed(signed(3)));
        case.running.begin(0, None, case.at(4000), Some(&signed(15)));
        assert_eq!(case.ended(8000, None), Some(AccessEnded::Expired));
    }

    #[test]
    fn suspended_machine_asks_before_it_goes_on() {
        for (slept, ends) in [(3600, 3000), (2, 12_000)] {
            let mut case = Case::of(Some(signed(15)));
            case.running.slept(Duration::from_secs(slept), case.at(1000));
            assert_eq!(case.due(), Some(1000));
            assert_eq!(case.ended(ends - 1, None), None);
            assert_eq!(case.ended(ends, None), Some(AccessEnded::Unconfirmed));
        }
    }

    #[test]
    fn request_is_bound_to_the_llm_that_it_begins_with() {
        let two = LlmId::new("id-2");
        let allowed = Allowance { llm: Some(two.clone()), ..signed(15) };
        let mut case = Case::of(Some(signed(15)));
        let other = case.running.join(Some(LlmId::new("id-1")), case.begun, Some(&signed(15)));
        // Made again while the engine started, and allowed again.
        case.running.begin(0, Some(&two), case.at(2000), Some(&allowed));
        assert_eq!(case.running.ended().collect::<Vec<_>>(), [(other, AccessEnded::Revoked)]);
    }
}
