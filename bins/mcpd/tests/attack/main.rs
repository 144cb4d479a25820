//! Attacks on whole daemons: one test per finding, and one per line of what holds. Each file is one family of attacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bombs;
mod browsers;
mod connections;
mod counts;
mod credentials;
mod documents;
mod escalation;
mod files;
mod floods;
mod frames;
mod in_flight;
mod journal;
mod logins;
mod modes;
mod names;
mod narrowed;
mod oracles;
mod paths;
mod places;
mod queries;
mod races;
mod records;
mod rights;
mod secrets;
mod support;
mod targets;
mod upstreams;
mod watch;
mod wire;
mod writers;
