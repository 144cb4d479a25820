//! Sign-in by an OpenID provider: one that follows a script, for every fault, and a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod faults;
mod groups;
mod people;
mod real;
mod support;
