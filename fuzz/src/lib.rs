//! What strangers can send, as fuzz targets: each takes any bytes and panics where something does not hold. `cargo xtask fuzz` runs
//! them under libFuzzer; the tests of this crate run them over the kept corpora, so that what was found once stays fixed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod bearer;
pub mod document;
mod meaning;
pub mod path;
pub mod sse;
pub mod token;
pub mod translation;

/// A target by its name, which is that of its corpus, too.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("bearer", bearer::run),
    ("document", document::run),
    ("path", path::run),
    ("sse", sse::run),
    ("token", token::run),
    ("translation", translation::run),
];

/// The first byte, which chooses between forms of a target, and the rest.
pub(crate) fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}
