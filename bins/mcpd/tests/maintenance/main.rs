//! The commands that keep an installation, on whole daemons and both databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod backup;
mod fsck;
mod installation;
mod migrate;
mod refusals;
mod restore;
mod rotation;
mod upgrades;
