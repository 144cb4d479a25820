//! The state machine, searched whole: every order of events up to a length that is longer than any request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use mcpctl_failover::{
    AccessVerdict, Allowance, FailureClass, LlmId,
    lease::LeaseCover,
    machine::{Action, Event, FailoverState, Setup},
};
use proptest::prelude::*;

const REPROBE: Duration = Duration::from_secs(1);

/// One of each kind; the lease ends in the middle of a long preparation.
fn verdicts() -> Vec<AccessVerdict> {
    let cover = LeaseCover {
        llm: LlmId::new("id-1"),
        subject: "alice".to_owned(),
        remaining: REPROBE,
        ends: REPROBE,
        token: String::new(),
    };
    vec![
        AccessVerdict::Allowed(Allowance::of_status(None)),
        AccessVerdict::Leased { cover, reason: String::new() },
        AccessVerdict::Forbidden { authenticated: true, rule: None },
        AccessVerdict::Unreachable(String::new()),
    ]
}

fn events() -> Vec<Event> {
    let mut events = vec![
        Event::Begin,
        Event::PrimaryOk,
        Event::Prepared,
        Event::PrepareFailed,
        Event::LocalOk,
        Event::LocalFailed,
    ];
    events.extend(FailureClass::ALL.map(Event::PrimaryFailed));
    events.extend(verdicts().into_iter().map(Event::Probed));
    events
}

/// Checks what has to hold at each step. An event counts only as the result of the action before it: any other event is
/// noise, and noise must not lead to a local answer.
#[derive(Clone, Default)]
struct Watcher {
    /// The last probe returned *allowed*, or found a lease, and no long preparation came after it.
    allowed: bool,
    /// How long the lease covers.
    lease: Option<Duration>,
    pending: Option<Pending>,
    failed: Option<FailureClass>,
    primary_calls: usize,
    primary_ok: bool,
    probes: usize,
    local_ok: bool,
    noise: bool,
}

/// The driver's last action.
#[derive(Clone, Copy, PartialEq)]
enum Pending {
    Primary,
    Probe,
    Prepare { since: Instant },
    Local,
}

impl Watcher {
    fn step(&mut self, event: &Event, action: &Action, setup: &Setup, now: Instant) {
        match (self.pending.take(), event) {
            (None, Event::Begin) => {}
            (Some(Pending::Primary), Event::PrimaryOk) => self.primary_ok = true,
            (Some(Pending::Primary), Event::PrimaryFailed(class)) => self.failed = Some(*class),
            (Some(Pending::Probe), Event::Probed(verdict)) => {
                self.allowed = verdict.access().is_granted();
                self.lease = match verdict {
                    AccessVerdict::Leased { cover, .. } => Some(cover.remaining),
                    _ => None,
                };
            }
            (Some(Pending::Prepare { since }), Event::Prepared) => {
                let age = now - since;
                self.allowed &= age <= setup.reprobe_after && self.lease.is_none_or(|left| age < left);
            }
            (Some(Pending::Local), Event::LocalOk) => self.local_ok = true,
            (Some(Pending::Prepare { .. }), Event::PrepareFailed)
            | (Some(Pending::Local), Event::LocalFailed) => self.allowed = false,
            _ => (self.allowed, self.noise) = (false, true),
        }
        match action {
            Action::CallPrimary => {
                self.primary_calls += 1;
                self.pending = Some(Pending::Primary);
            }
            Action::Prepare => {
                assert!(self.allowed, "inv 1: prepared without an allow");
                self.pending = Some(Pending::Prepare { since: now });
            }
            Action::RunLocal(_) => {
                assert!(self.allowed, "inv 1: ran without a fresh allow");
                assert!(setup.has_local);
                match self.failed {
                    Some(class) => assert!(class.may_fail_over(&setup.also_on), "inv 2: {class} failed over"),
                    None => assert!(setup.breaker_open, "ran locally although the primary had not failed"),
                }
                assert!(!self.primary_ok, "ran locally although the primary answered");
                self.pending = Some(Pending::Local);
            }
            Action::ReturnLocal => {
                assert!(self.local_ok && self.allowed, "inv 3: local answer without a local run");
            }
            Action::ReturnPrimary => {
                assert!(!self.local_ok, "a local answer was thrown away");
                assert!(self.primary_calls > 0, "nothing to return");
                assert!(
                    self.noise || self.primary_ok || self.failed.is_some(),
                    "inv 3: nothing to return yet"
                );
            }
            Action::Probe => {
                assert!(setup.has_local, "probed without a local provider");
                self.probes += 1;
                self.pending = Some(Pending::Probe);
            }
        }
        assert!(self.primary_calls <= 1, "the primary is called once");
        assert!(self.probes <= 2, "one long preparation is probed once");
    }
}

/// Walks every sequence of events; returns the number of steps.
fn walk(state: FailoverState, watcher: &Watcher, setup: &Setup, now: Instant, depth: usize) -> usize {
    if depth == 0 || state.is_done() {
        return 0;
    }
    let mut steps = 0;
    for event in events() {
        for later in [Duration::ZERO, REPROBE, REPROBE + Duration::from_nanos(1)] {
            let (mut watcher, now) = (watcher.clone(), now + later);
            let (next, action) = state.clone().on(event.clone(), setup, now);
            watcher.step(&event, &action, setup, now);
            assert_eq!(next.failed(), watcher.failed, "the machine reports how the primary failed");
            steps += 1 + walk(next, &watcher, setup, now, depth - 1);
        }
    }
    steps
}

#[test]
fn inv_01_02_03_hold_for_every_order_of_events() {
    let now = Instant::now();
    let mut steps = 0;
    for (breaker_open, has_local) in [(false, false), (false, true), (true, false), (true, true)] {
        for also_on in [vec![], vec![FailureClass::ContextLength]] {
            let setup = Setup { breaker_open, has_local, also_on, reprobe_after: REPROBE };
            steps += walk(FailoverState::start(), &Watcher::default(), &setup, now, 7);
        }
    }
    assert!(steps > 10_000, "the walk must not be empty: {steps}");
}

#[test]
fn every_request_ends() {
    // Whatever happens, five events after the beginning there is nothing more to do: the longest way is the primary,
    // the probe, a long start, the probe again, the local run; or all that but the primary first, and the primary
    // after all.
    fn longest(state: &FailoverState, setup: &Setup, now: Instant) -> usize {
        if state.is_done() {
            return 0;
        }
        let next = events().into_iter().map(|event| {
            let (next, _) = state.clone().on(event, setup, now + REPROBE * 2);
            1 + longest(&next, setup, now + REPROBE * 2)
        });
        next.max().unwrap()
    }
    let now = Instant::now();
    for (breaker_open, has_local, expected) in
        [(false, false, 1), (true, false, 1), (false, true, 5), (true, true, 5)]
    {
        let setup = Setup { breaker_open, has_local, also_on: vec![], reprobe_after: REPROBE };
        let (state, _) = FailoverState::start().on(Event::Begin, &setup, now);
        assert_eq!(longest(&state, &setup, now), expected, "breaker {breaker_open}, local {has_local}");
    }
}

#[test]
fn inv_01_only_a_start_longer_than_the_limit_is_probed_again() {
    let setup = Setup { breaker_open: true, has_local: true, also_on: vec![], reprobe_after: REPROBE };
    let now = Instant::now();
    let (state, action) = FailoverState::start().on(Event::Begin, &setup, now);
    assert_eq!(action, Action::Probe);
    let (state, action) =
        state.on(Event::Probed(AccessVerdict::Allowed(Allowance::of_status(None))), &setup, now);
    assert_eq!(action, Action::Prepare);
    let (_, action) = state.clone().on(Event::Prepared, &setup, now + REPROBE);
    assert!(matches!(action, Action::RunLocal(_)), "{action:?}");
    let (state, action) = state.on(Event::Prepared, &setup, now + REPROBE + Duration::from_nanos(1));
    assert_eq!(action, Action::Probe);
    let (_, action) = state.on(
        Event::Probed(AccessVerdict::Allowed(Allowance::of_status(None))),
        &setup,
        now + REPROBE * 3,
    );
    assert!(matches!(action, Action::RunLocal(_)), "{action:?}");
}

#[test]
fn grant_names_the_llm_and_what_allowed_it() {
    let setup = Setup { breaker_open: true, has_local: true, also_on: vec![], reprobe_after: REPROBE };
    let now = Instant::now();
    let granted = |verdict: AccessVerdict| {
        let (state, _) = FailoverState::start().on(Event::Begin, &setup, now);
        let (state, _) = state.on(Event::Probed(verdict), &setup, now);
        let Action::RunLocal(grant) = state.on(Event::Prepared, &setup, now).1 else { panic!("no run") };
        let holds = grant.allowance().map(|allowance| allowance.holds);
        (grant.llm_id().map(|id| id.as_str().to_owned()), holds, grant.lease().is_some())
    };
    let allowed =
        Allowance { holds: Duration::from_secs(7), ..Allowance::of_status(Some(LlmId::new("id-2"))) };
    let allowed = granted(AccessVerdict::Allowed(allowed));
    assert_eq!(allowed, (Some("id-2".to_owned()), Some(Duration::from_secs(7)), false));
    assert_eq!(granted(verdicts().remove(1)), (Some("id-1".to_owned()), None, true));
}

/// What a driver may report after this action.
fn answers(action: &Action) -> Vec<Event> {
    match action {
        Action::CallPrimary => {
            FailureClass::ALL.map(Event::PrimaryFailed).into_iter().chain([Event::PrimaryOk]).collect()
        }
        Action::Probe => verdicts().into_iter().map(Event::Probed).collect(),
        Action::Prepare => vec![Event::Prepared, Event::PrepareFailed],
        Action::RunLocal(_) => vec![Event::LocalOk, Event::LocalFailed],
        Action::ReturnPrimary | Action::ReturnLocal => events(),
    }
}

proptest! {
    #[test]
    fn inv_08_only_allowed_or_a_lease_leads_to_a_local_run(
        picks in prop::collection::vec(
            (prop::bool::weighted(0.9), any::<prop::sample::Index>(), 0..3000_u64),
            8,
        ),
        also_on in prop::collection::vec(prop::sample::select(FailureClass::ALL.to_vec()), 0..4),
        reprobe_after in 0..2000_u64,
        breaker_open: bool,
        has_local: bool,
    ) {
        let reprobe_after = Duration::from_millis(reprobe_after);
        let setup = Setup { breaker_open, has_local, also_on, reprobe_after };
        let mut now = Instant::now();
        let mut watcher = Watcher::default();
        let (mut state, mut action) = FailoverState::start().on(Event::Begin, &setup, now);
        watcher.step(&Event::Begin, &action, &setup, now);
        for (fitting, pick, later) in picks {
            if state.is_done() { break; }
            now += Duration::from_millis(later);
            let event = pick.get(&if fitting { answers(&action) } else { events() }).clone();
            (state, action) = state.on(event.clone(), &setup, now);
            watcher.step(&event, &action, &setup, now);
        }
    }
}
