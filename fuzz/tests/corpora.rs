//! Every kept input, without a fuzzer: what crashed once, and what reaches far.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{fs, path::Path};

use mcpctl_fuzz::TARGETS;

/// All corpora together, in bytes.
const MAX_CORPORA: usize = 300 * 1024;

#[test]
fn targets_hold_for_every_kept_input() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut total = 0;
    for (name, run) in TARGETS {
        let mut inputs: Vec<_> =
            fs::read_dir(corpora.join(name)).expect(name).map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "`{name}` has no corpus");
        for input in inputs {
            let data = fs::read(&input).unwrap();
            total += data.len();
            let held = std::panic::catch_unwind(|| run(&data));
            assert!(held.is_ok(), "{} does not hold", input.display());
        }
    }
    assert!(total <= MAX_CORPORA, "the corpora have {total} bytes: minimize them with `cargo fuzz cmin`");
}
