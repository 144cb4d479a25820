//! The life of one engine: a pure machine that decides (`state`), one actor that performs it, and the steps of a start.

pub(crate) mod actor;
mod health;
pub(crate) mod start;
pub(crate) mod state;
