//! Managed engines as callers meet them, on whole daemons. The engine is the fake one of `crates/engine`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod capabilities;
mod groups;
mod life;
mod logs;
mod prewarm;
mod queue;
mod reload;
mod starting;
