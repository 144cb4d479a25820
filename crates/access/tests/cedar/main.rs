//! Decisions against Cedar: generated stores and questions, answered by this crate and by `cedar-policy`, without a difference.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod faults;
mod policies;
mod store;
#[path = "../support/world.rs"]
mod world;

use std::{collections::BTreeMap, num::NonZero, thread};

use mcpctl_access::{
    Denied, FailoverReason, Snapshot,
    verb::{Delete, Edit, Run, View},
};
use mcpctl_api::{Id, Kind, Name, Verb};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use faults::Fault;
use policies::Oracle;
use store::{Store, now};

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// 401.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// The resource of this id.
    Allowed(Id),
}

impl Answer {
    const fn word(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "no credential",
            Self::Forbidden => "denied",
            Self::NotFound => "missing",
            Self::Allowed(_) => "found",
        }
    }
}

/// Questions of one store.
const QUESTIONS: usize = 25;
const KINDS: [Kind; 6] = [Kind::Llm, Kind::Llm, Kind::Llm, Kind::Secret, Kind::User, Kind::Role];

#[derive(Debug)]
struct Question {
    token: Id,
    verb: Verb,
    kind: Kind,
    path: String,
}

/// Questions about what exists, by name and id, and about what does not.
fn questions(store: &Store, seed: u64) -> Vec<Question> {
    let mut rng = StdRng::seed_from_u64(seed);
    let of = |kind: Kind| store.resources.iter().filter(move |stored| stored.kind() == kind);
    let tokens: Vec<Id> = of(Kind::Token).map(|stored| stored.id().clone()).collect();
    let mut question = || {
        let kind = *KINDS.choose(&mut rng).unwrap();
        let others: Vec<_> = store.resources.iter().collect();
        let existing: Vec<_> = of(kind).collect();
        let path = match rng.random_range(0..14) {
            0 | 12 | 13 => "no-such".to_owned(),
            1 => store.gone.choose(&mut rng).map_or_else(|| Id::mint().to_string(), Id::to_string),
            2 => others.choose(&mut rng).map_or_else(String::new, |stored| stored.id().to_string()),
            3 => others.choose(&mut rng).map_or_else(String::new, |stored| stored.name().to_string()),
            4..8 => existing.choose(&mut rng).map_or_else(String::new, |stored| stored.id().to_string()),
            _ => existing.choose(&mut rng).map_or_else(String::new, |stored| stored.name().to_string()),
        };
        let token = match rng.random_range(0..20) {
            0 => store.gone.choose(&mut rng).cloned().unwrap_or_else(Id::mint),
            _ => tokens.choose(&mut rng).cloned().unwrap_or_else(Id::mint),
        };
        Question { token, verb: *Verb::ALL.choose(&mut rng).unwrap(), kind, path }
    };
    (0..QUESTIONS).map(|_| question()).collect()
}

/// The product's answer.
fn answer(snapshot: &Snapshot, question: &Question) -> Answer {
    let Ok(principal) = snapshot.authenticate(&Store::hash(&question.token), now()) else {
        return Answer::Unauthenticated;
    };
    match world::authorize(snapshot, &principal, question.verb, question.kind, &question.path) {
        Ok(stored) => Answer::Allowed(stored.id().clone()),
        Err(Denied::NotFound { .. }) => Answer::NotFound,
        Err(Denied::Forbidden { .. }) => Answer::Forbidden,
    }
}

/// The product's answer to a probe.
fn probe(snapshot: &Snapshot, token: &Id, path: &str) -> FailoverReason {
    let Ok(principal) = snapshot.authenticate(&Store::hash(token), now()) else {
        return FailoverReason::Unauthenticated;
    };
    snapshot.failover_decision(&principal, path).reason
}

/// Compares everything that is asked of the store of this seed; the error is the first difference.
fn compare(seed: u64, fault: Option<Fault>, counts: &mut BTreeMap<&'static str, u64>) -> Result<(), String> {
    let store = Store::generate(seed);
    let oracle = Oracle::new(&store, fault);
    for question in questions(&store, seed) {
        let Question { token, verb, kind, path } = &question;
        let (ours, cedars) =
            (answer(&store.snapshot, &question), oracle.answer(token, now(), *verb, *kind, path));
        if ours != cedars {
            return Err(format!("store {seed}, {question:?}: {ours:?}, by Cedar {cedars:?}"));
        }
        *counts.entry(ours.word()).or_default() += 1;
        let (ours, cedars) = (probe(&store.snapshot, token, path), oracle.failover(token, now(), path));
        if ours != cedars {
            return Err(format!(
                "store {seed}, a probe of {path} with {token}: {ours:?}, by Cedar {cedars:?}"
            ));
        }
        *counts.entry(ours.as_str()).or_default() += 1;
    }
    compare_lists(&store, &oracle, seed).map_err(|difference| format!("store {seed}: {difference}"))
}

/// Lists are decisions too: what a principal may see of a kind, and who may do something.
fn compare_lists(store: &Store, oracle: &Oracle<'_>, seed: u64) -> Result<(), String> {
    let of = |kind: Kind| store.resources.iter().filter(move |stored| stored.kind() == kind);
    let token = of(Kind::Token).nth(usize::try_from(seed % 3).unwrap());
    let principal = token.and_then(|token| store.snapshot.authenticate(&Store::hash(token.id()), now()).ok());
    if let (Some(token), Some(principal)) = (token, &principal) {
        let names = |verb: Verb| -> Vec<Name> {
            let snapshot = &store.snapshot;
            match verb {
                Verb::View => snapshot.permitted::<View>(principal, Kind::Llm).iter().map(name_of).collect(),
                Verb::Run => snapshot.permitted::<Run>(principal, Kind::Llm).iter().map(name_of).collect(),
                Verb::Edit => snapshot.permitted::<Edit>(principal, Kind::Llm).iter().map(name_of).collect(),
                _ => snapshot.permitted::<Delete>(principal, Kind::Llm).iter().map(name_of).collect(),
            }
        };
        for verb in [Verb::View, Verb::Run, Verb::Edit, Verb::Delete] {
            let allowed = |name: &Name| {
                matches!(oracle.answer(token.id(), now(), verb, Kind::Llm, name.as_str()), Answer::Allowed(_))
            };
            let mut cedars: Vec<Name> = of(Kind::Llm).map(|llm| llm.name().clone()).filter(allowed).collect();
            cedars.sort();
            if names(verb) != cedars {
                return Err(format!("{} lists {:?}, by Cedar {cedars:?}", verb.as_str(), names(verb)));
            }
        }
    }
    let mut cedars: Vec<String> = of(Kind::User)
        .chain(of(Kind::ServiceAccount))
        .filter(|account| oracle.account_may_name(account.id(), Verb::Run, Kind::Llm, "claude"))
        .map(|account| account.as_subject().unwrap().to_string())
        .collect();
    cedars.sort();
    let mut ours: Vec<String> = store
        .snapshot
        .who_can(Verb::Run, Kind::Llm, "claude")
        .iter()
        .map(|grantee| grantee.subject.to_string())
        .collect();
    ours.sort();
    if ours == cedars { Ok(()) } else { Err(format!("who can: {ours:?}, by Cedar {cedars:?}")) }
}

fn name_of<V: mcpctl_access::verb::VerbType>(permit: &mcpctl_access::Permit<V>) -> Name {
    permit.resource().name().clone()
}

/// Compares at least so many decisions, on every processor.
fn compare_decisions(decisions: u64) {
    let stores = decisions.div_ceil(QUESTIONS as u64);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let counts = thread::scope(|scope| {
        let share = |first: usize| {
            let mut counts = BTreeMap::new();
            let result = (0..stores)
                .skip(first)
                .step_by(threads)
                .try_for_each(|seed| compare(seed, None, &mut counts));
            result.map(|()| counts)
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for share in running {
            let share = share.join().unwrap().unwrap_or_else(|difference| panic!("{difference}"));
            share.into_iter().for_each(|(word, count)| *counts.entry(word).or_default() += count);
        }
        counts
    });
    println!("{stores} stores: {counts:?}");
    // A comparison in which nothing was allowed, or everything, would prove nothing.
    for word in ["no credential", "denied", "missing", "found"] {
        let count = counts.get(word).copied().unwrap_or_default();
        assert!(count * 25 > decisions, "only {count} of {decisions} were {word}");
    }
    for reason in FailoverReason::ALL {
        let count = counts.get(reason.as_str()).copied().unwrap_or_default();
        assert!(count * 500 > decisions, "only {count} of {decisions} probes were {}", reason.as_str());
    }
}

#[test]
fn inv_09_decisions_agree_with_cedar() {
    compare_decisions(10_000);
}

#[test]
#[ignore = "takes minutes: cargo xtask test exhaustive"]
fn inv_09_a_million_decisions_agree_with_cedar() {
    compare_decisions(1_000_000);
}

#[test]
fn each_rule_broken_on_purpose_is_found() {
    for fault in Fault::ALL {
        let found = (0..400).find(|seed| compare(*seed, Some(fault), &mut BTreeMap::new()).is_err());
        let store = found.unwrap_or_else(|| panic!("{fault:?} shows in no decision"));
        println!("{fault:?} shows in store {store}");
    }
}
