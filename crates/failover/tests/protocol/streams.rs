//! A local stream of an agent that has pinned mcpd's keys, from its start to its last token: revocations, the feed, repeated probes,
//! leases, credentials that expire, partitions, suspends, and an attacker on the way who forges, replays and withholds what he likes.
//!
//! What runs and what leases there are is kept by the real machines, driven as the agent drives them. The faults are mistakes of
//! such a driver.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mcpctl_failover::{
    AccessVerdict, Allowance, BearerDigest, Denial, FeedDecision, FeedReading, LlmId, LlmRef,
    RunningRequests, SignedDenial,
    lease::{Lease, LeaseCaller, LeaseCover, LeaseTime, Leases},
};
use stateright::{Model, Property};

/// A step of time: half of the time between two probes, and longer than the pauses after a lost one.
const TICK: Duration = Duration::from_millis(2500);
/// The interval of the probe, in steps.
const PROBE_INTERVAL: u8 = 2;
/// How long an answer may be on its way, in steps: longer than a probe waits in the product.
const PROBE_TIMEOUT: u8 = 2;
/// How long requests go on after the last answer, 15 s, in steps.
pub const CONFIRMATION_TIMEOUT: u8 = 6;
/// `offlineGrace`, in steps: longer than the timeout, so that a lease matters.
pub const GRACE: u8 = 8;
const AGENT: &str = "agent-1";
const NAME: &str = "claude";

/// What the rules of a stream could do wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFault {
    /// What the feed allows confirms, signed or not.
    FeedsConfirm,
    /// An event that denies causes no probe.
    HintsAreIgnored,
    /// A stream goes on where the probe after an event gets no answer.
    HintsNeedNoAnswer,
    /// An event that denies destroys leases, signed or not.
    HintsDestroyLeases,
    /// The probe is not repeated.
    ProbesAreNotRepeated,
    /// An answer confirms that no pinned key has signed.
    UnsignedAnswersConfirm,
    /// An answer to another probe confirms.
    ReplaysConfirm,
    /// An answer counts from its arrival.
    AnswersCountFromArrival,
    /// Without an answer a stream goes on.
    SilenceConfirms,
    /// The timeout runs on a clock that stands still during suspend.
    TimeoutsSleep,
    /// An *allowed* of another Llm that has the name confirms.
    NamesakesConfirm,
    /// The end of a lease is noted when the stream begins and not asked for again.
    LeasesAreCopied,
    /// A lease that covers goes before a verdict.
    LeasesOutweighDenials,
    /// An answer holds for 15 s and a lease for its grace, though the credential ends before.
    ExpiriesAreIgnored,
}

/// What must never be: a token that is delivered
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamViolation {
    /// after the credential expired.
    AfterItsCredential,
    /// after mcpd could be asked in a whole interval of the probe since the revocation.
    AfterAProbeWasDue,
    /// after the feed's event about the revocation, and the time that its probe takes.
    AfterTheEvent,
    /// later than 15 s after the revocation, without a lease.
    AfterTheTimeout,
    /// later than the grace after the last moment at which mcpd allowed it.
    AfterTheGrace,
    /// by a lease that a denial or a logout has destroyed.
    WithoutItsLease,
    /// None of a token: an unsigned event destroyed a lease.
    LeaseLost,
}

impl StreamFault {
    /// Every fault, and what it leads to.
    pub const ALL: [(Self, StreamViolation); 14] = [
        // It puts the probe off, too.
        (Self::FeedsConfirm, StreamViolation::AfterAProbeWasDue),
        (Self::HintsAreIgnored, StreamViolation::AfterTheEvent),
        (Self::HintsNeedNoAnswer, StreamViolation::AfterTheEvent),
        (Self::HintsDestroyLeases, StreamViolation::LeaseLost),
        (Self::ProbesAreNotRepeated, StreamViolation::AfterAProbeWasDue),
        (Self::UnsignedAnswersConfirm, StreamViolation::AfterAProbeWasDue),
        (Self::ReplaysConfirm, StreamViolation::AfterAProbeWasDue),
        (Self::AnswersCountFromArrival, StreamViolation::AfterTheTimeout),
        (Self::SilenceConfirms, StreamViolation::AfterTheTimeout),
        (Self::TimeoutsSleep, StreamViolation::AfterTheTimeout),
        (Self::NamesakesConfirm, StreamViolation::AfterAProbeWasDue),
        (Self::LeasesAreCopied, StreamViolation::WithoutItsLease),
        (Self::LeasesOutweighDenials, StreamViolation::AfterAProbeWasDue),
        (Self::ExpiriesAreIgnored, StreamViolation::AfterItsCredential),
    ];
}

/// The bounds of the state space.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Most steps of time.
    pub ticks: u8,
    /// Most changes of the store.
    pub changes: u8,
    /// Whether the feed shows what mcpd decides.
    pub events: bool,
    /// Most events that an attacker forges, and most answers.
    pub forged: u8,
    /// Most times that the network breaks or heals.
    pub partitions: u8,
    /// Whether the Llm has `offlineGrace`.
    pub leases: bool,
    /// Most suspends of the agent's machine.
    pub suspends: u8,
    /// When the credential expires, in steps; `u8::MAX` for never.
    pub expires: u8,
    pub fault: Option<StreamFault>,
    pub beginning: Instant,
}

/// mcpd's answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamAnswer {
    /// The number of the probe: its nonce.
    probe: u8,
    /// The Llm that is allowed.
    allowed: Option<u8>,
    /// For how many steps the credential is valid.
    valid: u8,
    revision: u8,
    /// Whether a pinned key signed it.
    signed: bool,
}

/// A probe that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Probe {
    number: u8,
    sent: u8,
    /// The same by the clock that stands still during suspend.
    sent_at: Instant,
}

/// Where the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamPhase {
    /// Not begun.
    Ahead,
    /// It delivers tokens.
    Running,
    /// Its caller has got an error event.
    Ended,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamState {
    now: u8,
    slept: u8,
    /// Events of the feed so far, each a millisecond after what came before it.
    events: u8,
    granted: bool,
    /// When the credential expires.
    expires: u8,
    /// The Llm that has the name; the stream's is 0.
    llm: Option<u8>,
    revision: u8,
    partitioned: bool,
    broken: u8,
    forged: u8,
    suspends: u8,
    probes: u8,
    phase: StreamPhase,
    running: RunningRequests,
    probe: Option<Probe>,
    /// What the feed has shown last.
    feed: Option<FeedReading>,
    /// The lease by which the stream began; only a fault reads it.
    copied: Option<(LeaseCover, u8)>,
    /// When the last probe was sent whose answer counted.
    answered: Option<u8>,
    /// When the machine woke up last: it may take a moment until its timers fire.
    woke: Option<u8>,
    answers: BTreeSet<StreamAnswer>,
    leases: Leases,
    /// Since when mcpd does not allow the stream's caller its Llm.
    revoked: Option<u8>,
    /// Since when it has been so while the agent was awake and could ask mcpd, without a break.
    reachable: Option<u8>,
    /// When the feed's event about it was delivered.
    event: Option<u8>,
    /// When mcpd last allowed it.
    last_true: u8,
    /// When the agent lost the lease to a signed denial or a logout.
    dropped: Option<u8>,
    /// Whether a token came later than the timeout, by a lease; for a property that has to be reachable.
    by_lease: bool,
    violation: Option<StreamViolation>,
}

/// Something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamStep {
    /// The stream begins, allowed by the last probe.
    BeginByProof,
    /// The stream begins, because a lease covers it and mcpd does not answer.
    BeginByLease,
    /// The caller gets a token.
    Token,
    /// mcpd answers the probe.
    Judge,
    /// An answer reaches the agent.
    Deliver(StreamAnswer),
    /// An attacker answers the probe.
    ForgeAnswer,
    /// The probe's connection fails.
    Fail,
    /// The feed shows mcpd's state.
    Event,
    /// An attacker shows that access is denied.
    ForgeEvent,
    /// An attacker shows that access is allowed, and goes on to be.
    ForgeAllowed,
    Revoke,
    Grant,
    /// The Llm is deleted, and another one gets its name.
    Recreate,
    /// Another request of the caller gets a signed denial.
    OtherDenied,
    /// The user signs out.
    Logout,
    Break,
    Heal,
    Tick,
    Suspend,
}

impl StreamState {
    fn truth(&self) -> bool {
        self.judge() == Some(0)
    }

    /// The Llm that mcpd allows.
    fn judge(&self) -> Option<u8> {
        self.llm.filter(|_| self.granted && self.valid() > 0)
    }

    /// For how many steps the credential is valid.
    fn valid(&self) -> u8 {
        self.expires.saturating_sub(self.now)
    }

    /// Notes what mcpd allows now.
    fn note(&mut self) {
        if self.truth() {
            (self.revoked, self.reachable, self.event) = (None, None, None);
            self.last_true = self.now;
            return;
        }
        self.revoked.get_or_insert(self.now);
        match self.partitioned {
            true => self.reachable = None,
            false => drop(self.reachable.get_or_insert(self.now)),
        }
    }

    fn time(&self) -> LeaseTime {
        at(self.now)
    }

    fn cover(&mut self) -> Option<LeaseCover> {
        let time = self.time();
        self.leases.cover(&bearer(), &llm(), time)
    }

    fn is_covered(&mut self) -> bool {
        self.cover().is_some_and(|cover| cover.llm == id(0))
    }

    /// A token at this moment, held against everything that must never be.
    fn token(&mut self) -> Option<StreamViolation> {
        let since = |at: Option<u8>| at.map(|at| self.now - at);
        let leased = since(self.answered).is_none_or(|steps| steps >= CONFIRMATION_TIMEOUT);
        if self.woke == Some(self.now) {
            return None;
        }
        let violation = if self.valid() == 0 {
            Some(StreamViolation::AfterItsCredential)
        } else if since(self.reachable).is_some_and(|steps| steps > PROBE_INTERVAL) {
            Some(StreamViolation::AfterAProbeWasDue)
        } else if since(self.event).is_some_and(|steps| steps >= 2 * PROBE_TIMEOUT) {
            Some(StreamViolation::AfterTheEvent)
        } else if since(self.dropped).is_some_and(|steps| steps > 0) && leased {
            Some(StreamViolation::WithoutItsLease)
        } else if since(self.revoked).is_some_and(|steps| steps >= CONFIRMATION_TIMEOUT)
            && !self.is_covered()
            // The agent looks the lease up every second.
            && self.dropped != Some(self.now)
        {
            Some(StreamViolation::AfterTheTimeout)
        } else if self.now - self.last_true >= GRACE {
            Some(StreamViolation::AfterTheGrace)
        } else {
            None
        };
        self.by_lease |= leased;
        violation
    }
}

impl Streams {
    fn is(&self, fault: StreamFault) -> bool {
        self.fault == Some(fault)
    }

    /// The clock of the machine that runs: it stands still during suspend.
    fn clock(&self, state: &StreamState) -> Instant {
        self.beginning
            + TICK * u32::from(state.now - state.slept)
            + Duration::from_millis(state.events.into())
    }

    /// What the agent does when its timer fires or something arrives.
    fn wake(&self, state: &mut StreamState) {
        if state.phase != StreamPhase::Running {
            return;
        }
        if state.probe.is_some_and(|probe| state.now - probe.sent >= PROBE_TIMEOUT) {
            return self.unanswered(state);
        }
        let now = self.clock(state);
        if !self.is(StreamFault::HintsAreIgnored) {
            state.running.observe(state.feed.as_ref());
        }
        let copied = state.copied.clone().filter(|(_, ends)| state.now < *ends).map(|(cover, _)| cover);
        let cover = match self.is(StreamFault::LeasesAreCopied) {
            true => copied,
            false => state.cover(),
        };
        if !self.is(StreamFault::SilenceConfirms) {
            state.running.check(cover.as_ref(), now);
        }
        if !state.running.has_running() {
            state.phase = StreamPhase::Ended;
            return;
        }
        let is_due = state.running.probe_due().is_some_and(|due| due <= now);
        if state.probe.is_none() && is_due && !self.is(StreamFault::ProbesAreNotRepeated) {
            state.running.probe_sent(now);
            state.probe = Some(Probe { number: state.probes, sent: state.now, sent_at: now });
            state.probes += 1;
        }
    }

    fn take(&self, state: &mut StreamState, probe: Probe, verdict: &AccessVerdict) {
        let now = self.clock(state);
        let sent = if self.is(StreamFault::AnswersCountFromArrival) { now } else { probe.sent_at };
        state.running.answered(sent, verdict, now, |interval| interval);
        self.wake(state);
    }

    /// The probe got no answer that counts.
    fn unanswered(&self, state: &mut StreamState) {
        let Some(probe) = state.probe.take() else { return };
        let verdict = match state.cover() {
            Some(cover) => AccessVerdict::Leased { cover, reason: String::new() },
            None => AccessVerdict::Unreachable(String::new()),
        };
        // What was asked long ago does not answer the event.
        let sent_at = if self.is(StreamFault::HintsNeedNoAnswer) { self.beginning } else { probe.sent_at };
        self.take(state, Probe { sent_at, ..probe }, &verdict);
    }

    fn answered(&self, state: &mut StreamState, answer: StreamAnswer) {
        let Some(probe) = state.probe else { return };
        let is_own = answer.probe == probe.number || self.is(StreamFault::ReplaysConfirm);
        let is_signed = answer.signed || self.is(StreamFault::UnsignedAnswersConfirm);
        if !is_own || !is_signed {
            // An attacker came between.
            state.reachable = None;
            return self.unanswered(state);
        }
        state.probe = None;
        let verdict = match answer.allowed {
            Some(allowed) => {
                self.keep_lease(state, answer, allowed, probe.sent);
                state.answered = state.answered.max(Some(probe.sent));
                let named = if self.is(StreamFault::NamesakesConfirm) { 0 } else { allowed };
                AccessVerdict::Allowed(self.allowance(named, answer.valid))
            }
            None => {
                self.denied(state, answer.revision);
                match state.cover().filter(|_| self.is(StreamFault::LeasesOutweighDenials)) {
                    Some(cover) => AccessVerdict::Leased { cover, reason: String::new() },
                    None => AccessVerdict::Forbidden { authenticated: true, rule: None },
                }
            }
        };
        self.take(state, probe, &verdict);
    }

    fn keep_lease(&self, state: &mut StreamState, answer: StreamAnswer, llm_number: u8, sent: u8) {
        let valid = if self.is(StreamFault::ExpiriesAreIgnored) { GRACE } else { answer.valid };
        let lease = self.leases.then(|| lease(llm_number, answer.revision, valid.min(GRACE)));
        let (bearer, now) = (bearer(), state.time());
        let caller = LeaseCaller { bearer: &bearer, signed_in: true };
        state.leases.allowed(caller, &llm(), &id(llm_number), lease, at(sent), now);
        if state.is_covered() {
            state.dropped = None;
        }
    }

    fn denied(&self, state: &mut StreamState, revision: u8) {
        if self.is(StreamFault::LeasesOutweighDenials) && state.is_covered() {
            return;
        }
        let denial = SignedDenial { llm: None, known_caller: true, revision: revision.into() };
        let now = state.time();
        let denial = Denial { signed: Some(denial), rule: None };
        state.leases.denied(&bearer(), &llm(), &denial, now);
        state.dropped = Some(state.now);
    }

    fn pass(&self, state: &mut StreamState, steps: u8, suspended: bool) {
        state.now += steps;
        if suspended {
            state.slept += steps;
            state.woke = Some(state.now);
            let now = self.clock(state);
            if !self.is(StreamFault::TimeoutsSleep) {
                state.running.slept(TICK * u32::from(steps), now);
            }
        }
        state.note();
        self.wake(state);
    }

    /// mcpd's answer at this moment.
    fn judged(&self, state: &StreamState, probe: u8) -> StreamAnswer {
        let (allowed, revision) = (state.judge(), state.revision);
        StreamAnswer { probe, allowed, valid: state.valid().min(GRACE), revision, signed: true }
    }

    /// What a signed *allowed* is worth.
    fn allowance(&self, llm: u8, valid: u8) -> Allowance {
        let holds = match self.is(StreamFault::ExpiriesAreIgnored) {
            true => Allowance::HOLDS,
            false => Allowance::HOLDS.min(TICK * u32::from(valid)),
        };
        Allowance { llm: Some(id(llm)), holds, proof: Some("".into()) }
    }

    fn begin(&self, state: &mut StreamState, allowance: Option<&Allowance>) {
        let now = self.clock(state);
        let number = state.running.join(Some(id(0)), now, allowance);
        state.running.begin(number, Some(&id(0)), now, allowance);
        state.answered = allowance.map(|_| state.now);
        if self.is(StreamFault::LeasesAreCopied) {
            state.copied = state.cover().map(|cover| (cover, state.now + GRACE));
        }
        state.phase = StreamPhase::Running;
        self.wake(state);
    }
}

impl Model for Streams {
    type State = StreamState;
    type Action = StreamStep;

    fn init_states(&self) -> Vec<StreamState> {
        let mut state = StreamState {
            now: 0,
            slept: 0,
            events: 0,
            granted: true,
            expires: self.expires,
            llm: Some(0),
            revision: 0,
            partitioned: false,
            broken: 0,
            forged: 0,
            suspends: 0,
            probes: 0,
            phase: StreamPhase::Ahead,
            running: RunningRequests::new(self.beginning),
            probe: None,
            feed: None,
            copied: None,
            answered: None,
            woke: None,
            answers: BTreeSet::new(),
            leases: Leases::of(AGENT),
            revoked: None,
            reachable: None,
            event: None,
            last_true: 0,
            dropped: None,
            by_lease: false,
            violation: None,
        };
        state.leases.keep_signed_in(Some(&bearer()));
        // Any earlier request of the caller has brought a lease.
        let answer = self.judged(&state, 0);
        self.keep_lease(&mut state, answer, 0, 0);
        vec![state]
    }

    fn actions(&self, state: &StreamState, steps: &mut Vec<StreamStep>) {
        if state.violation.is_some() || state.phase == StreamPhase::Ended {
            return;
        }
        match state.phase {
            StreamPhase::Ahead => {
                // When it begins matters only by the age of the lease.
                if state.truth() && !state.partitioned {
                    steps.push(StreamStep::BeginByProof);
                }
                if !self.leases {
                    return;
                }
                if state.partitioned && state.clone().is_covered() {
                    steps.push(StreamStep::BeginByLease);
                }
            }
            StreamPhase::Running => {
                steps.push(StreamStep::Token);
                if let Some(probe) = state.probe {
                    if !state.partitioned {
                        steps.push(StreamStep::Judge);
                    }
                    steps.push(StreamStep::Fail);
                    let others = self.forged > 0;
                    let on_the_wire =
                        state.answers.iter().filter(|answer| others || answer.probe == probe.number);
                    steps.extend(on_the_wire.map(|answer| StreamStep::Deliver(*answer)));
                }
                if state.forged < self.forged {
                    steps.extend([StreamStep::ForgeEvent, StreamStep::ForgeAllowed]);
                    if state.probe.is_some() {
                        steps.push(StreamStep::ForgeAnswer);
                    }
                }
                if self.events && !state.partitioned && state.revoked.is_some() && state.event.is_none() {
                    steps.push(StreamStep::Event);
                }
            }
            StreamPhase::Ended => {}
        }
        if state.revision < self.changes {
            steps.push(if state.granted { StreamStep::Revoke } else { StreamStep::Grant });
            if state.llm == Some(0) {
                steps.push(StreamStep::Recreate);
            }
        }
        if self.leases && state.dropped.is_none() {
            steps.push(StreamStep::Logout);
            if !state.granted {
                steps.push(StreamStep::OtherDenied);
            }
        }
        if state.broken < self.partitions {
            steps.push(if state.partitioned { StreamStep::Heal } else { StreamStep::Break });
        }
        // Where the network is whole, an answer does not take a whole step.
        let is_answered = state.partitioned || state.probe.is_none() || state.phase != StreamPhase::Running;
        if state.now < self.ticks && is_answered {
            steps.push(StreamStep::Tick);
            if state.suspends < self.suspends {
                steps.push(StreamStep::Suspend);
            }
        }
    }

    fn next_state(&self, state: &StreamState, step: StreamStep) -> Option<StreamState> {
        let mut next = state.clone();
        let state = &mut next;
        match step {
            StreamStep::BeginByProof => {
                let (answer, now) = (self.judged(state, 0), state.now);
                self.keep_lease(state, answer, 0, now);
                self.begin(state, Some(&self.allowance(0, answer.valid)));
            }
            StreamStep::BeginByLease => self.begin(state, None),
            StreamStep::Token => state.violation = state.token(),
            StreamStep::Judge => {
                let answer = self.judged(state, state.probe?.number);
                state.answers.insert(answer);
            }
            StreamStep::Deliver(answer) => self.answered(state, answer),
            StreamStep::ForgeAnswer => {
                state.forged += 1;
                let probe = state.probe?.number;
                let (allowed, valid, revision) = (Some(0), u8::MAX, u8::MAX);
                let forged = StreamAnswer { probe, allowed, valid, revision, signed: false };
                self.answered(state, forged);
            }
            StreamStep::Fail => {
                // An attacker's doing, where the network is whole: it is no longer one.
                state.partitioned = true;
                state.note();
                self.unanswered(state);
            }
            StreamStep::Event | StreamStep::ForgeEvent => {
                match step {
                    StreamStep::Event => state.event = Some(state.now),
                    _ => state.forged += 1,
                }
                if self.is(StreamFault::HintsDestroyLeases) {
                    let held = state.leases.len();
                    let now = state.time();
                    state.leases.clear(now);
                    state.violation = (held > 0).then_some(StreamViolation::LeaseLost);
                }
                state.events += 1;
                let changed_at = self.clock(state);
                let decision = FeedDecision::Denied;
                state.feed = Some(FeedReading { decision, changed_at, heard_at: None, expires_in: None });
                self.wake(state);
            }
            StreamStep::ForgeAllowed => {
                state.forged += 1;
                state.events += 1;
                let now = self.clock(state);
                let decision = FeedDecision::Allowed(id(0));
                let heard_at = Some(now + TICK * u32::from(self.ticks));
                state.feed = Some(FeedReading { decision, changed_at: now, heard_at, expires_in: None });
                if self.is(StreamFault::FeedsConfirm) {
                    let verdict = AccessVerdict::Allowed(self.allowance(0, u8::MAX));
                    state.running.answered(now, &verdict, now, |interval| interval);
                }
                self.wake(state);
            }
            StreamStep::Revoke | StreamStep::Grant => {
                state.revision += 1;
                state.granted = step == StreamStep::Grant;
            }
            StreamStep::Recreate => {
                state.revision += 1;
                state.llm = Some(1);
            }
            StreamStep::OtherDenied => {
                let revision = state.revision;
                self.denied(state, revision);
            }
            StreamStep::Logout => {
                let now = state.time();
                state.leases.clear(now);
                state.dropped = Some(state.now);
            }
            StreamStep::Break | StreamStep::Heal => {
                state.broken += 1;
                state.partitioned = step == StreamStep::Break;
            }
            StreamStep::Tick => self.pass(state, 1, false),
            StreamStep::Suspend => {
                state.suspends += 1;
                state.reachable = None;
                self.pass(state, CONFIRMATION_TIMEOUT, true);
            }
        }
        state.note();
        // What an attacker keeps: the latest *allowed*, as any earlier one would do the same.
        let probe = state.probe.map(|probe| probe.number);
        let is_kept = |answer: &&StreamAnswer| Some(answer.probe) != probe && answer.allowed == Some(0);
        let kept = state.answers.iter().rfind(is_kept).copied().filter(|_| self.forged > 0);
        state.answers.retain(|answer| Some(answer.probe) == probe);
        state.answers.extend(kept);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn never(name: &'static str, condition: fn(&Streams, &StreamState) -> bool) -> Property<Streams> {
            Property::always(name, condition)
        }
        vec![
            never("AfterItsCredential", |_, state| {
                state.violation != Some(StreamViolation::AfterItsCredential)
            }),
            never("AfterAProbeWasDue", |_, state| {
                state.violation != Some(StreamViolation::AfterAProbeWasDue)
            }),
            never("AfterTheEvent", |_, state| state.violation != Some(StreamViolation::AfterTheEvent)),
            never("AfterTheTimeout", |_, state| state.violation != Some(StreamViolation::AfterTheTimeout)),
            never("AfterTheGrace", |_, state| state.violation != Some(StreamViolation::AfterTheGrace)),
            never("WithoutItsLease", |_, state| state.violation != Some(StreamViolation::WithoutItsLease)),
            never("LeaseLost", |_, state| state.violation != Some(StreamViolation::LeaseLost)),
            Property::sometimes("a revocation ends a stream", |_, state: &StreamState| {
                state.phase == StreamPhase::Ended && state.revoked.is_some() && !state.partitioned
            }),
            Property::sometimes(
                "a stream outlives a short partition",
                |model: &Self, state: &StreamState| {
                    let answered = state.answered.is_some_and(|sent| sent + 1 >= model.ticks);
                    model.partitions < 2
                        || (answered && state.phase == StreamPhase::Running && state.broken > 1)
                },
            ),
            Property::sometimes("a credential ends a stream", |model: &Self, state: &StreamState| {
                model.expires > model.ticks || (state.phase == StreamPhase::Ended && state.valid() == 0)
            }),
            Property::sometimes("a lease carries a stream", |model: &Self, state: &StreamState| {
                !model.leases || state.by_lease
            }),
        ]
    }
}

fn at(now: u8) -> LeaseTime {
    LeaseTime {
        boot: Duration::from_secs(1000) + TICK * u32::from(now),
        wall: Duration::from_secs(1_700_000_000) + TICK * u32::from(now),
    }
}

fn bearer() -> BearerDigest {
    BearerDigest::new([1; 32])
}

fn llm() -> LlmRef {
    LlmRef::named(NAME)
}

fn id(number: u8) -> LlmId {
    LlmId::new(&format!("id-{number}"))
}

fn lease(llm: u8, revision: u8, grace: u8) -> Lease {
    Lease {
        subject: "account-1".to_owned(),
        bearer: bearer(),
        llm: id(llm),
        agent: AGENT.to_owned(),
        revision: revision.into(),
        grace: TICK * u32::from(grace),
        token: revision.to_string(),
    }
}
