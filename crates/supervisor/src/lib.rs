//! Runs a program as a child that never outlives the agent: a guardian between the two ends the program's whole process
//! group when the agent ends, and records let the next agent end what is left when both were killed.
//!
//! ```text
//! agent ──stdin──▶ guardian ──▶ program (own process group, its children included)
//! ```
//!
//! It also keeps the program's output in bounded files without secrets, and computes how long to wait before another
//! start. It doesn't know what the program is, and decides neither when to start nor when to stop it.

mod backoff;
mod child;
pub mod guardian;
mod line_splitter;
mod output_log;
pub mod process_group;
pub mod random;
mod record;
pub mod redaction;
mod residue;
mod sweep;

pub use backoff::restart_delay;
pub use child::{ChildCommand, SpawnError, SupervisedChild};
pub use output_log::OutputLog;
pub use record::MARK_VARIABLE;
pub use residue::Residue;
pub use sweep::{Leftover, sweep};
