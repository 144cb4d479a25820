//! Parses the wire formats of model servers: requests, answers, stream events, and the framing of those events.
//! It reads only the fields that decisions depend on and leaves every other byte unchanged. It opens no connection
//! and makes no decision.

pub mod anthropic;
pub mod lenient;
pub mod openai;
pub mod sse;
pub mod translate;
pub mod usage;

mod members;
mod operation;

pub use operation::{Dialect, ExtraOperations, Operation};
