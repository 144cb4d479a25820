//! Attacks on whole daemons: one test per finding and one per property that holds. Each file is one family of attacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod answers;
mod bearer;
mod connections;
mod diverted;
mod engines;
mod fake_mcpd;
mod files;
mod floods;
mod hosts;
mod journal;
mod lines;
mod loops;
mod methods;
mod pages;
mod probe;
mod queries;
mod spoofs;
mod squatting;
mod support;
mod wire;
