//! The console in a real Chromium: every page is looked at, and used by mouse, by keyboard alone and without scripts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod access;
mod hostile;
mod looks;
mod sign_in;
mod walks;
mod world;
