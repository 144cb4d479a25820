//! What can happen, and what the agent makes of it: the real machine and the real leases, driven as the router drives them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mcpctl_failover::{
    AccessVerdict, Allowance, BearerDigest, Denial, FailureClass, LlmId, LlmRef, SignedDenial,
    lease::{Lease, LeaseCaller, LeaseTime, Leases},
    machine::{AccessGrant, Action, Event, FailoverState, Setup},
};
use stateright::{Model, Property};

use crate::{
    faults::Fault,
    state::{Answer, Asked, Clock, GRACE, GRACE_TICKS, Known, MAX_LLMS, Phase, Run, State, Store, Violation},
};

const AGENT: &str = "agent-1";
const NAME: &str = "claude";
/// Keys below this number are pinned: the current and the next one of the time when the user signed in.
const PINNED: u8 = 2;
/// Stands for no signature, and for that of an attacker's own key.
const FORGED: u8 = u8::MAX;
const FIRST: usize = 0;

/// A request that a caller sends.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub caller: usize,
    pub asked: Asked,
    pub breaker_open: bool,
}

/// The bounds of the state space.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub questions: Vec<Question>,
    /// How the primary can fail.
    pub classes: Vec<FailureClass>,
    /// Most changes of the store.
    pub changes: u8,
    /// Most steps of time.
    pub ticks: u8,
    /// Whether the Llm has `offlineGrace`.
    pub leases: bool,
    /// Whether clocks differ: suspended, paused, set back.
    pub clocks: bool,
    /// Whether answers to earlier probes come again.
    pub replays: bool,
    /// Most restarts of the agent.
    pub restarts: u8,
    /// Most rotations of mcpd's key.
    pub rotations: u8,
    pub fault: Option<Fault>,
    pub beginning: Instant,
}

/// Something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The caller sends its request.
    Begin(usize),
    /// The primary ends.
    Primary(usize, Result<(), FailureClass>),
    /// mcpd answers the request's probe. A probe may be answered again later.
    Judge(usize),
    /// An answer from the wire reaches the request that waits for one.
    Deliver(usize, Answer),
    /// An attacker answers.
    Spoof(usize),
    /// The probe gets no answer: timeout, partition, mcpd down.
    Silence(usize),
    /// The engine is ready.
    Prepared(usize),
    /// It is not going to be.
    PrepareFailed(usize),
    /// The engine answered.
    LocalOk(usize),
    /// It broke.
    LocalFailed(usize),
    /// The binding comes or goes.
    Grant(bool),
    /// The Llm is deleted.
    Delete,
    /// It is made again under its name.
    Create,
    /// mcpd signs with its next key.
    Rotate,
    /// Time passes.
    Tick,
    /// Time passes while the machine is suspended.
    Suspend,
    /// Time passes while the virtual machine is paused.
    Pause,
    /// The wall clock is set back.
    SetBack,
    /// The agent ends and starts again.
    Restart,
}

impl Store {
    /// What mcpd decides now: the Llm that is allowed.
    fn judge(&self, caller: usize, asked: Asked, fault: Option<Fault>) -> Option<u8> {
        let llm = self.llm?;
        let found = match asked {
            Asked::Name => true,
            Asked::Id(id) => id == llm || fault == Some(Fault::IdsMeanNamesakes),
        };
        (found && self.granted && caller == FIRST).then_some(llm)
    }
}

impl Protocol {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn now(&self, run: &Run, clock: Clock) -> Instant {
        clock.awake(self.beginning, run.begun)
    }

    /// The clocks of leases.
    fn lease_time(&self, clock: Clock) -> LeaseTime {
        let mut time = clock.lease_time();
        if self.is(Fault::LeasesSleep) {
            time =
                Clock { real: clock.real - clock.suspended - clock.paused, ..Clock::default() }.lease_time();
        }
        if self.is(Fault::WallClockIsNotRead) {
            time.wall = Clock { real: clock.real - clock.paused, ..Clock::default() }.lease_time().wall;
        }
        time
    }

    fn setup(&self, at: usize) -> Setup {
        let cold =
            if self.is(Fault::ColdStartsAreNotProbed) { Duration::MAX } else { Duration::from_secs(1) };
        let breaker_open = self.questions[at].breaker_open;
        Setup { breaker_open, has_local: true, also_on: Vec::new(), reprobe_after: cold }
    }

    fn asked(&self, at: usize) -> LlmRef {
        match self.questions[at].asked {
            Asked::Name => LlmRef::named(NAME),
            Asked::Id(id) => LlmRef::by_id(&llm_id(id), NAME),
        }
    }

    /// Drives the machine by one event.
    fn drive(&self, state: &mut State, at: usize, event: Event) {
        let now = self.now(&state.runs[at], state.clock);
        let machine = state.runs[at].machine.clone();
        let (machine, action) = machine.on(event, &self.setup(at), now);
        let phase = match action {
            Action::CallPrimary => Phase::Primary,
            Action::Probe => {
                let run = &mut state.runs[at];
                (run.probes, run.sent, run.known) = (run.probes + 1, Some(state.clock), None);
                Phase::Probing
            }
            Action::Prepare => Phase::Preparing,
            Action::RunLocal(grant) if !self.is_in_force(state, at, &grant) => {
                state.runs[at].machine = machine;
                return self.drive(state, at, Event::LocalFailed);
            }
            Action::RunLocal(grant) => {
                state.violation = self.judge_run(state, at, &grant);
                Phase::Running { leased: grant.lease().is_some() }
            }
            Action::ReturnLocal => match state.runs[at].phase {
                Phase::Running { leased } => Phase::Local { leased },
                phase => {
                    state.violation = Some(Violation::NoResult);
                    phase
                }
            },
            Action::ReturnPrimary => {
                state.violation = state.runs[at].primary.is_none().then_some(Violation::NoResult);
                Phase::Primarys
            }
        };
        let run = &mut state.runs[at];
        (run.machine, run.phase) = (machine, phase);
    }

    /// Whether the lease that a grant rests on still covers the request, as `FailoverRouter::run` checks.
    fn is_in_force(&self, state: &mut State, at: usize, grant: &AccessGrant) -> bool {
        let Some(found) = grant.lease() else { return true };
        let (bearer, now) = (self.bearer(at), self.lease_time(state.clock));
        let cover = state.leases.cover(&bearer, &self.asked(at), now);
        self.is(Fault::RunsDoNotCheckLeases) || cover.is_some_and(|cover| cover.llm == found.llm)
    }

    fn bearer(&self, at: usize) -> BearerDigest {
        bearer(if self.is(Fault::LeasesAreShared) { FIRST } else { self.questions[at].caller })
    }

    /// INVARIANT 1, 2: what a local run has to have behind it.
    fn judge_run(&self, state: &State, at: usize, grant: &AccessGrant) -> Option<Violation> {
        let (question, run) = (self.questions[at], &state.runs[at]);
        let may_fail_over = match run.primary {
            None => question.breaker_open,
            Some(Ok(())) => false,
            Some(Err(class)) => class.may_fail_over(&[]),
        };
        if !may_fail_over {
            return Some(Violation::WithoutFailure);
        }
        let llm = grant.llm_id().and_then(|id| id.as_str().strip_prefix("id-")?.parse::<u8>().ok());
        let fits = |llm: &u8| matches!(question.asked, Asked::Name) || question.asked == Asked::Id(*llm);
        let Some(llm) = llm.filter(fits) else { return Some(Violation::WithoutAllow) };
        let (known, known_at) = run.known.unwrap_or((Known::Nothing, Clock::default()));
        let Some(lease) = grant.lease() else {
            let fresh = self.now(run, state.clock) == self.now(run, known_at);
            return match run.true_since & (1 << llm) != 0 {
                false => Some(Violation::WithoutAllow),
                true => (!fresh).then_some(Violation::OldAllow),
            };
        };
        let revision: u8 = lease.token.parse().unwrap();
        let last_true = state.last_true[usize::from(llm)];
        let in_time = last_true.is_some_and(|last| state.clock.real - last < GRACE_TICKS);
        match known {
            _ if question.caller != FIRST => Some(Violation::WithoutAllow),
            Known::Answer(_) => Some(Violation::LeaseDespiteVerdict),
            _ if !in_time => Some(Violation::LeaseTooOld),
            _ if state.denied_at[usize::from(llm)].is_some_and(|denied| denied > revision) => {
                Some(Violation::LeaseAfterDenial)
            }
            Known::Nothing => None,
        }
    }

    /// What the agent makes of an answer, or of none: as `FailoverRouter::check_access`.
    fn probed(&self, state: &mut State, at: usize, answer: Option<Answer>) {
        let answer = answer.filter(|answer| {
            let own = answer.nonce == (at, state.runs[at].probes) || self.is(Fault::NonceIsNotCompared);
            own && (answer.key < PINNED || self.is(Fault::UnsignedAnswersCount))
        });
        let (llm, now) = (self.asked(at), self.lease_time(state.clock));
        let (caller, bearer) = (self.questions[at].caller, self.bearer(at));
        let sent = match state.runs[at].sent {
            Some(sent) if !self.is(Fault::LeasesCountFromArrival) => self.lease_time(sent),
            _ => now,
        };
        let known = answer.map_or(Known::Nothing, Known::Answer);
        let first = match self.is(Fault::LeasesComeFirst) {
            true => state.leases.cover(&bearer, &llm, now),
            false => None,
        };
        let verdict = match answer {
            _ if let Some(cover) = first => AccessVerdict::Leased { cover, reason: String::new() },
            Some(Answer { allowed: Some(id), revision, .. }) => {
                let id = llm_id(id);
                let lease = self.leases.then(|| lease(caller, &id, revision));
                let caller = LeaseCaller { bearer: &bearer, signed_in: true };
                state.leases.allowed(caller, &llm, &id, lease, sent, now);
                AccessVerdict::Allowed(Allowance {
                    llm: Some(id),
                    holds: Allowance::HOLDS,
                    proof: Some("".into()),
                })
            }
            Some(Answer { allowed: None, revision, .. }) => {
                let denial = SignedDenial { llm: None, known_caller: true, revision: u64::from(revision) };
                let denial = Denial { signed: Some(denial), rule: None };
                if !self.is(Fault::DenialsKeepLeases) {
                    state.leases.denied(&bearer, &llm, &denial, now);
                }
                self.note_denial(state, at, revision);
                AccessVerdict::Forbidden { authenticated: true, rule: None }
            }
            None if self.is(Fault::SilenceAllows) => {
                AccessVerdict::Allowed(Allowance::of_status(Some(llm_id(0))))
            }
            None => match state.leases.cover(&bearer, &llm, now) {
                Some(cover) => {
                    if self.is(Fault::LeasesRenewThemselves) {
                        let revision = cover.token.parse().unwrap();
                        let caller = LeaseCaller { bearer: &bearer, signed_in: true };
                        let lease = lease(FIRST, &cover.llm, revision);
                        state.leases.allowed(caller, &llm, &cover.llm, Some(lease), now, now);
                    }
                    AccessVerdict::Leased { cover, reason: String::new() }
                }
                None => AccessVerdict::Unreachable(String::new()),
            },
        };
        state.runs[at].known = Some((known, state.clock));
        self.drive(state, at, Event::Probed(verdict));
    }

    /// Which Llms a denial that the agent has read is about: the one of the id, or whichever had the name.
    fn note_denial(&self, state: &mut State, at: usize, revision: u8) {
        let Question { caller, asked, .. } = self.questions[at];
        for (llm, denied) in (0..).zip(&mut state.denied_at) {
            if caller == FIRST && (asked == Asked::Name || asked == Asked::Id(llm)) {
                *denied = (*denied).max(Some(revision));
            }
        }
    }

    /// What mcpd allows now is noted, for the properties.
    fn note_truth(&self, state: &mut State) {
        let Some(llm) = state.store.judge(FIRST, Asked::Name, None) else { return };
        state.last_true[usize::from(llm)] = Some(state.clock.real);
        for (run, question) in state.runs.iter_mut().zip(&self.questions) {
            if question.caller == FIRST && !matches!(run.phase, Phase::Ahead) {
                run.true_since |= 1 << llm;
            }
        }
    }

    fn change(&self, state: &mut State, step: Step) {
        state.store.revision += 1;
        match step {
            Step::Grant(granted) => state.store.granted = granted,
            Step::Delete => state.store.llm = None,
            _ => {
                state.store.llm = Some(state.store.next);
                state.store.next += 1;
            }
        }
    }

    fn pass(&self, state: &mut State, step: Step) {
        let clock = &mut state.clock;
        clock.real += u8::from(step != Step::SetBack);
        clock.suspended += u8::from(step == Step::Suspend);
        clock.paused += u8::from(step == Step::Pause);
        clock.back += u8::from(step == Step::SetBack);
    }

    fn restart(&self, state: &mut State) {
        state.restarts += 1;
        state.leases = no_leases();
        state.denied_at = Default::default();
        for run in &mut state.runs {
            if !matches!(run.phase, Phase::Ahead | Phase::Local { .. } | Phase::Primarys) {
                run.phase = Phase::Lost;
            }
        }
    }

    /// With the fault, a request begins with what an earlier one was answered.
    fn cached(&self, state: &State, at: usize) -> Option<Answer> {
        let earlier = state.runs[..at].iter().find_map(|run| match run.known {
            Some((Known::Answer(answer), _)) if answer.allowed.is_some() => Some(answer),
            _ => None,
        });
        earlier.filter(|_| self.is(Fault::VerdictsAreCached))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let run = Run {
            phase: Phase::Ahead,
            machine: FailoverState::start(),
            begun: Clock::default(),
            probes: 0,
            sent: None,
            known: None,
            primary: None,
            true_since: 0,
        };
        let mut state = State {
            clock: Clock::default(),
            store: Store { revision: 0, granted: true, llm: Some(0), next: 1, key: 0 },
            runs: vec![run; self.questions.len()],
            answers: BTreeSet::new(),
            leases: no_leases(),
            last_true: Default::default(),
            denied_at: Default::default(),
            restarts: 0,
            violation: None,
        };
        self.note_truth(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.violation.is_some() {
            return;
        }
        for (at, run) in state.runs.iter().enumerate() {
            match run.phase {
                Phase::Ahead => steps.push(Step::Begin(at)),
                Phase::Primary => {
                    // mcpd decides about the request itself, too.
                    let Question { caller, asked, .. } = self.questions[at];
                    let allowed = state.store.judge(caller, asked, None).is_some();
                    steps.push(Step::Primary(at, if allowed { Ok(()) } else { Err(FailureClass::Denied) }));
                    steps.extend(self.classes.iter().map(|class| Step::Primary(at, Err(*class))));
                }
                Phase::Probing => {
                    steps.extend([Step::Judge(at), Step::Spoof(at), Step::Silence(at)]);
                    steps.extend(state.answers.iter().map(|answer| Step::Deliver(at, *answer)));
                }
                Phase::Preparing => steps.extend([Step::Prepared(at), Step::PrepareFailed(at)]),
                Phase::Running { .. } => steps.extend([Step::LocalOk(at), Step::LocalFailed(at)]),
                Phase::Local { .. } | Phase::Primarys | Phase::Lost => {}
            }
        }
        let (store, clock) = (&state.store, state.clock);
        if store.revision < self.changes {
            steps.push(Step::Grant(!store.granted));
            match store.llm {
                Some(_) => steps.push(Step::Delete),
                None if usize::from(store.next) < MAX_LLMS => steps.push(Step::Create),
                None => {}
            }
        }
        if store.key < self.rotations {
            steps.push(Step::Rotate);
        }
        if clock.real < self.ticks {
            steps.push(Step::Tick);
            if self.clocks {
                steps.push(Step::Suspend);
                // Who pauses a machine and sets its clock back owns it, and is none against whom a lease protects.
                if clock.back == 0 {
                    steps.push(Step::Pause);
                }
            }
        }
        if self.clocks && clock.back == 0 && clock.paused == 0 {
            steps.push(Step::SetBack);
        }
        if state.restarts < self.restarts {
            steps.push(Step::Restart);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        let state = &mut next;
        match step {
            Step::Begin(at) => {
                state.runs[at].begun = state.clock;
                self.drive(state, at, Event::Begin);
                self.note_truth(state);
            }
            Step::Primary(at, result) => {
                state.runs[at].primary = Some(result);
                let event = match result {
                    Ok(()) => Event::PrimaryOk,
                    Err(_) if self.is(Fault::EveryClassFailsOver) => {
                        Event::PrimaryFailed(FailureClass::Connect)
                    }
                    Err(class) => Event::PrimaryFailed(class),
                };
                self.drive(state, at, event);
            }
            Step::Judge(at) => {
                let Question { caller, asked, .. } = self.questions[at];
                let allowed = state.store.judge(caller, asked, self.fault);
                let Store { revision, key, .. } = state.store;
                state.answers.insert(Answer { nonce: (at, state.runs[at].probes), allowed, revision, key });
            }
            Step::Deliver(at, answer) => self.probed(state, at, Some(answer)),
            Step::Spoof(at) => {
                let nonce = (at, state.runs[at].probes);
                let spoofed = Answer { nonce, allowed: Some(0), revision: u8::MAX, key: FORGED };
                self.probed(state, at, Some(spoofed));
            }
            Step::Silence(at) => match self.cached(state, at) {
                Some(answer) => {
                    let nonce = (at, state.runs[at].probes);
                    self.probed(state, at, Some(Answer { nonce, ..answer }));
                }
                None => self.probed(state, at, None),
            },
            Step::Prepared(at) => self.drive(state, at, Event::Prepared),
            Step::PrepareFailed(at) => self.drive(state, at, Event::PrepareFailed),
            Step::LocalOk(at) => self.drive(state, at, Event::LocalOk),
            Step::LocalFailed(at) => self.drive(state, at, Event::LocalFailed),
            Step::Grant(_) | Step::Delete | Step::Create => self.change(state, step),
            Step::Rotate => state.store.key += 1,
            Step::Tick | Step::Suspend | Step::Pause | Step::SetBack => self.pass(state, step),
            Step::Restart => self.restart(state),
        }
        self.note_truth(state);
        if !self.replays {
            let State { answers, runs, .. } = state;
            answers.retain(|Answer { nonce: (at, probe), .. }| {
                runs[*at].phase == Phase::Probing && runs[*at].probes == *probe
            });
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("WithoutAllow", |_, state: &State| !broken(state, Violation::WithoutAllow)),
            Property::always("OldAllow", |_, state: &State| !broken(state, Violation::OldAllow)),
            Property::always("WithoutFailure", |_, state: &State| !broken(state, Violation::WithoutFailure)),
            Property::always("LeaseTooOld", |_, state: &State| !broken(state, Violation::LeaseTooOld)),
            Property::always("LeaseAfterDenial", |_, state: &State| {
                !broken(state, Violation::LeaseAfterDenial)
            }),
            Property::always("LeaseDespiteVerdict", |_, state: &State| {
                !broken(state, Violation::LeaseDespiteVerdict)
            }),
            Property::always("NoResult", |_, state: &State| !broken(state, Violation::NoResult)),
            Property::sometimes("an allow leads to a local answer", |_, state: &State| {
                ended(state, Phase::Local { leased: false })
            }),
            Property::sometimes("a lease leads to a local answer", |model: &Self, state: &State| {
                !model.leases || ended(state, Phase::Local { leased: true })
            }),
            Property::sometimes("a denial ends a lease", |model: &Self, state: &State| {
                !model.leases || (state.leases.is_empty() && state.denied_at.iter().any(Option::is_some))
            }),
            Property::sometimes("every request gets a result", |_, state: &State| {
                state.runs.iter().all(|run| matches!(run.phase, Phase::Local { .. } | Phase::Primarys))
            }),
        ]
    }
}

fn broken(state: &State, violation: Violation) -> bool {
    state.violation == Some(violation)
}

fn ended(state: &State, phase: Phase) -> bool {
    state.runs.iter().any(|run| run.phase == phase)
}

fn llm_id(number: u8) -> LlmId {
    LlmId::new(&format!("id-{number}"))
}

fn bearer(caller: usize) -> BearerDigest {
    BearerDigest::new([u8::try_from(caller).unwrap(); 32])
}

/// Those of an agent that was just started, at which the first caller is signed in.
fn no_leases() -> Leases {
    let mut leases = Leases::of(AGENT);
    leases.keep_signed_in(Some(&bearer(FIRST)));
    leases
}

fn lease(caller: usize, llm: &LlmId, revision: u8) -> Lease {
    Lease {
        subject: format!("account-{caller}"),
        bearer: bearer(caller),
        llm: llm.clone(),
        agent: AGENT.to_owned(),
        revision: u64::from(revision),
        grace: GRACE,
        token: revision.to_string(),
    }
}
