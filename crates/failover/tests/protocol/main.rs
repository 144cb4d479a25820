//! The failover and its leases as a protocol, searched whole within bounds: every order of failures, probes, revocations, new Llms,
//! starts, restarts and clocks, with answers that are lost, late, replayed and forged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod faults;
mod model;
mod state;
mod streams;

use std::{fmt::Debug, hash::Hash, num::NonZero, thread, time::Instant};

use mcpctl_failover::FailureClass;
use stateright::{Checker as _, HasDiscoveries, Model};

use faults::Fault;
use model::{Protocol, Question};
use state::Asked;
use streams::{CONFIRMATION_TIMEOUT, GRACE, StreamFault, StreamViolation, Streams};

const BY_NAME: Question = Question { caller: 0, asked: Asked::Name, breaker_open: false };
const BY_ID: Question = Question { caller: 0, asked: Asked::Id(0), breaker_open: false };
const SKIPPED: Question = Question { caller: 0, asked: Asked::Name, breaker_open: true };
const STRANGER: Question = Question { caller: 1, asked: Asked::Name, breaker_open: false };

fn protocol(questions: &[Question]) -> Protocol {
    Protocol {
        questions: questions.to_vec(),
        classes: vec![FailureClass::Connect],
        changes: 2,
        ticks: 2,
        leases: true,
        clocks: false,
        replays: false,
        restarts: 0,
        rotations: 0,
        fault: None,
        beginning: Instant::now(),
    }
}

/// Searches all states, and returns how many there are.
fn search<M>(name: &str, model: M) -> usize
where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Send
        + Sync
        + 'static,
{
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let started = Instant::now();
    let checker = model.checker().threads(threads).spawn_bfs().join();
    println!("{name}: {} states in {:?}", checker.unique_state_count(), started.elapsed());
    checker.assert_properties();
    checker.unique_state_count()
}

fn search_all<M>(searches: impl IntoIterator<Item = (&'static str, M)>)
where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Send
        + Sync
        + 'static,
{
    let states: usize = searches.into_iter().map(|(name, model)| search(name, model)).sum();
    println!("{states} states in all");
    assert!(states > 10_000, "the search must not be empty: {states}");
}

#[test]
fn inv_01_02_03_hold_in_every_order_of_events() {
    let every_class =
        Protocol { classes: FailureClass::ALL.to_vec(), ticks: 1, leases: false, ..protocol(&[BY_NAME]) };
    let narrow = |questions: &[Question]| Protocol { changes: 1, ticks: 1, ..protocol(questions) };
    search_all([
        ("every failure", every_class),
        ("keys rotate", Protocol { rotations: 2, changes: 1, ..protocol(&[SKIPPED]) }),
        ("clocks", Protocol { clocks: true, ..protocol(&[BY_NAME]) }),
        ("answers replayed", Protocol { replays: true, ..narrow(&[BY_NAME, SKIPPED]) }),
        ("restarts", Protocol { restarts: 1, ..narrow(&[BY_NAME, SKIPPED]) }),
        ("of two callers", Protocol { changes: 1, ..protocol(&[BY_NAME, STRANGER]) }),
        ("by name and by id", Protocol { changes: 1, ..protocol(&[BY_NAME, BY_ID]) }),
        ("made again", Protocol { ticks: 1, ..protocol(&[BY_NAME, BY_ID]) }),
    ]);
}

#[test]
#[ignore = "takes minutes: cargo xtask test exhaustive"]
fn inv_01_02_03_hold_within_wider_bounds() {
    search_all([
        ("clocks", Protocol { clocks: true, changes: 1, ..protocol(&[BY_NAME, SKIPPED]) }),
        ("answers replayed", Protocol { replays: true, ticks: 1, ..protocol(&[BY_NAME, SKIPPED]) }),
        ("restarts", Protocol { restarts: 1, ..protocol(&[BY_NAME, SKIPPED]) }),
        ("of two callers", protocol(&[BY_NAME, STRANGER])),
        ("by name and by id", Protocol { changes: 3, ..protocol(&[BY_NAME, BY_ID]) }),
    ]);
}

#[test]
fn each_invariant_broken_on_purpose_is_found() {
    for (fault, violation) in Fault::ALL {
        let question = match fault {
            Fault::LeasesAreShared => STRANGER,
            Fault::IdsMeanNamesakes => BY_ID,
            _ => SKIPPED,
        };
        let clocks = matches!(fault, Fault::LeasesSleep | Fault::WallClockIsNotRead);
        // No wider than it takes, so that the first thing found is what the fault leads to.
        let broken = Protocol {
            fault: Some(fault),
            classes: match fault {
                Fault::EveryClassFailsOver => vec![FailureClass::Denied],
                _ => vec![FailureClass::Connect],
            },
            changes: if fault == Fault::IdsMeanNamesakes { 2 } else { 1 },
            clocks,
            replays: fault == Fault::NonceIsNotCompared,
            ..protocol(&[BY_NAME, question])
        };
        let checker = broken
            .checker()
            .threads(thread::available_parallelism().map_or(1, NonZero::get))
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found: Vec<_> = checker.discoveries().into_keys().collect();
        println!("{fault:?}: {} states, {found:?}", checker.unique_state_count());
        assert!(found.contains(&format!("{violation:?}").as_str()), "{fault:?} is not found: {found:?}");
    }
}

fn streams() -> Streams {
    Streams {
        ticks: CONFIRMATION_TIMEOUT + 2,
        changes: 1,
        events: true,
        forged: 0,
        partitions: 1,
        leases: false,
        suspends: 0,
        expires: u8::MAX,
        fault: None,
        beginning: Instant::now(),
    }
}

#[test]
fn inv_06_streams_end_in_every_order_of_events() {
    let leased = Streams { leases: true, ticks: GRACE + 1, ..streams() };
    search_all([
        ("forged and replayed", Streams { forged: 1, ..streams() }),
        ("granted again", Streams { changes: 2, partitions: 2, ..streams() }),
        ("suspended", Streams { suspends: 1, forged: 1, ..streams() }),
        ("expired", Streams { expires: 5, forged: 1, ..streams() }),
        ("leased", leased.clone()),
        ("leased and expired", Streams { expires: GRACE - 1, changes: 0, ..leased }),
    ]);
}

#[test]
#[ignore = "takes minutes: cargo xtask test exhaustive"]
fn inv_06_streams_end_within_wider_bounds() {
    let leased = Streams { leases: true, ticks: GRACE + 1, ..streams() };
    search_all([
        ("forged and replayed", Streams { forged: 2, ..streams() }),
        ("granted again", Streams { changes: 3, partitions: 3, ..streams() }),
        ("leased and expired", Streams { expires: GRACE - 1, ..leased.clone() }),
        ("leased and suspended", Streams { suspends: 1, ..leased.clone() }),
        ("leased, of two partitions", Streams { partitions: 2, ..leased.clone() }),
        (
            "leased and forged",
            Streams { forged: 1, partitions: 0, ticks: CONFIRMATION_TIMEOUT + 1, ..leased },
        ),
    ]);
}

#[test]
fn each_rule_of_streams_broken_on_purpose_is_found() {
    for (fault, violation) in StreamFault::ALL {
        let forged = u8::from(!matches!(
            fault,
            StreamFault::ProbesAreNotRepeated
                | StreamFault::NamesakesConfirm
                | StreamFault::LeasesOutweighDenials
        ));
        // No wider than it takes, so that the first thing found is what the fault leads to.
        let broken = Streams {
            fault: Some(fault),
            leases: matches!(violation, StreamViolation::WithoutItsLease | StreamViolation::LeaseLost)
                || fault == StreamFault::LeasesOutweighDenials,
            events: violation == StreamViolation::AfterTheEvent,
            forged,
            partitions: forged,
            suspends: u8::from(fault == StreamFault::TimeoutsSleep),
            expires: if fault == StreamFault::ExpiriesAreIgnored { 3 } else { u8::MAX },
            ..streams()
        };
        let checker = broken.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found: Vec<_> = checker.discoveries().into_keys().collect();
        println!("{fault:?}: {} states, {found:?}", checker.unique_state_count());
        assert!(found.contains(&format!("{violation:?}").as_str()), "{fault:?} is not found: {found:?}");
    }
}
