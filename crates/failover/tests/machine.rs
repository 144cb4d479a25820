//! The state machine, searched whole: every order of events up to a length that is longer than any request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use mcpctl_failover::{
    Access, FailureClass,
    machine::{Action, Event, Setup, State},
};
use proptest::prelude::*;

const REPROBE: Duration = Duration::from_secs(1);

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
    events.extend([Access::Allowed, Access::Forbidden, Access::Unreachable].map(Event::Probed));
    events
}

/// What has to hold, told step by step.
#[derive(Clone, Default)]
struct Watcher {
    /// The last answer of the centre was yes, and no long preparation came after it.
    allowed: bool,
    asked_to_prepare_at: Option<Instant>,
    failed: Option<FailureClass>,
    primary_calls: usize,
    ran_locally: bool,
    local_ok: bool,
}

impl Watcher {
    fn step(&mut self, event: Event, action: &Action, setup: &Setup, now: Instant) {
        match event {
            Event::Probed(access) => self.allowed = access == Access::Allowed,
            Event::PrimaryFailed(class) => self.failed = Some(class),
            Event::Prepared => {
                let since = self.asked_to_prepare_at.take();
                if since.is_none_or(|since| now - since > setup.reprobe_after) {
                    self.allowed = false;
                }
            }
            Event::LocalOk => self.local_ok = self.ran_locally,
            _ => {}
        }
        match action {
            Action::CallPrimary => self.primary_calls += 1,
            Action::Prepare => {
                assert!(self.allowed, "inv 1: prepared without an allow");
                self.asked_to_prepare_at = Some(now);
            }
            Action::RunLocal(_) => {
                assert!(self.allowed, "inv 1: ran without a fresh allow");
                assert!(setup.has_local);
                match self.failed {
                    Some(class) => assert!(class.may_fail_over(&setup.also_on), "inv 2: {class} failed over"),
                    None => assert!(setup.breaker_open, "ran locally although the primary had not failed"),
                }
                self.ran_locally = true;
            }
            Action::ReturnLocal => assert!(self.local_ok, "inv 3: local answer without a local run"),
            Action::ReturnPrimary => assert!(self.primary_calls > 0, "nothing to return"),
            Action::Probe => assert!(setup.has_local),
        }
        assert!(self.primary_calls <= 1, "the primary is asked once");
    }
}

/// Walks every sequence of events; answers how many steps were taken.
fn walk(state: State, watcher: &Watcher, setup: &Setup, now: Instant, depth: usize) -> usize {
    if depth == 0 || state.is_done() {
        return 0;
    }
    let mut steps = 0;
    for event in events() {
        for later in [Duration::ZERO, REPROBE * 2] {
            let (mut watcher, now) = (watcher.clone(), now + later);
            let (next, action) = state.clone().on(event, setup, now);
            watcher.step(event, &action, setup, now);
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
            let (state, action) = State::start().on(Event::Begin, &setup, now);
            let mut watcher = Watcher::default();
            watcher.step(Event::Begin, &action, &setup, now);
            steps += walk(state, &watcher, &setup, now, 6);
        }
    }
    assert!(steps > 10_000, "the walk must not be empty: {steps}");
}

#[test]
fn every_request_ends() {
    // Whatever happens, at most seven events after the beginning there is nothing more to do.
    fn longest(state: &State, setup: &Setup, now: Instant) -> usize {
        if state.is_done() {
            return 0;
        }
        let next = events().into_iter().map(|event| {
            let (next, _) = state.clone().on(event, setup, now + REPROBE * 2);
            1 + longest(&next, setup, now + REPROBE * 2)
        });
        next.max().unwrap()
    }
    let (now, also_on) = (Instant::now(), vec![]);
    let setup = Setup { breaker_open: true, has_local: true, also_on, reprobe_after: REPROBE };
    let (state, _) = State::start().on(Event::Begin, &setup, now);
    assert_eq!(longest(&state, &setup, now), 5);
}

proptest! {
    #[test]
    fn inv_08_only_allowed_leads_to_a_local_run(
        picks in prop::collection::vec((0..21_usize, 0..3_u64), 1..12),
        breaker_open: bool,
        has_local: bool,
    ) {
        let setup = Setup { breaker_open, has_local, also_on: vec![], reprobe_after: REPROBE };
        let mut now = Instant::now();
        let mut watcher = Watcher::default();
        let (mut state, action) = State::start().on(Event::Begin, &setup, now);
        watcher.step(Event::Begin, &action, &setup, now);
        for (pick, seconds) in picks {
            if state.is_done() { break; }
            now += Duration::from_secs(seconds);
            let (next, action) = state.on(events()[pick], &setup, now);
            watcher.step(events()[pick], &action, &setup, now);
            state = next;
        }
    }
}
