//! Every kept input, without a fuzzer: what crashed once, and what reaches far; and inputs that differ from those a little.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs
)]

use std::{fs, panic::catch_unwind, path::Path};

use mcpctl_fuzz::TARGETS;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// All corpora together, in bytes.
const MAX_CORPORA: usize = 300 * 1024;
/// Changed inputs of each target in an ordinary run; `FUZZ_INPUTS` sets another number.
const CHANGED_INPUTS: u64 = 1_500;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(folder).expect(target).map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> =
        entries.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "`{target}` has no corpus");
    inputs
}

#[test]
fn targets_hold_for_every_kept_input() {
    let mut total = 0;
    for (name, run) in TARGETS {
        for (path, data) in corpus(name) {
            total += data.len();
            assert!(catch_unwind(|| run(&data)).is_ok(), "{path} does not hold");
        }
    }
    assert!(total <= MAX_CORPORA, "the corpora have {total} bytes: minimize them with `cargo fuzz cmin`");
}

/// The same inputs in every run, so that CI finds what anyone finds.
#[test]
fn targets_hold_for_changed_inputs() {
    let count = std::env::var("FUZZ_INPUTS").map_or(CHANGED_INPUTS, |count| count.parse().unwrap());
    for (name, run) in TARGETS {
        let corpus: Vec<_> = corpus(name).into_iter().map(|(_, data)| data).collect();
        for seed in 0..count {
            let data = changed(&corpus, &mut StdRng::seed_from_u64(seed));
            assert!(catch_unwind(|| run(&data)).is_ok(), "{name} does not hold for {}", data.escape_ascii());
        }
    }
}

/// An input with a few changes; pieces come from the others.
fn changed(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = corpus.choose(rng).unwrap().clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=data.len());
        let end = (at + rng.random_range(0..24)).min(data.len());
        let other = corpus.choose(rng).unwrap();
        let from = rng.random_range(0..=other.len());
        let piece = &other[from..(from + rng.random_range(0..24)).min(other.len())];
        match rng.random_range(0..6) {
            0 if at < data.len() => data[at] = rng.random(),
            1 => data.insert(at, rng.random()),
            2 => drop(data.drain(at..end)),
            3 => drop(data.splice(at..end, piece.iter().copied())),
            4 => data.extend_from_within(at..end),
            _ if !data.is_empty() => data[0] = rng.random(),
            _ => {}
        }
    }
    data
}
