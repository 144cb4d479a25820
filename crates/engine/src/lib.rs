//! A managed local model server: started by the first request that needs it, ready when it has completed a request, stopped
//! after its idle timeout, and never left behind.
//!
//! ```text
//! agent ──stdin──▶ guardian ──▶ engine (own process group, children included)
//!   │                 │ ends the group when the pipe closes, however the agent ended
//!   └ actor: stopped → starting → ready → draining → stopped; failed, backing off
//! ```
//!
//! Which requests go to an engine is not decided here.

mod availability;
mod endpoint;
mod engine;
mod environment;
mod error;
mod guard;
pub mod guardian;
mod launch;
mod lifecycle;
mod listen;
mod log;
mod memory;
mod options;
mod process;
mod secrets;
mod server;
mod spec;
mod status;
mod suspend;

pub use endpoint::{Endpoint, EngineHost};
pub use engine::Engine;
pub use error::EngineError;
pub use guard::EngineGuard;
pub use listen::EngineSocket;
pub use memory::{Arbiter, Gpu, Need, OtherPrograms, Placement, gpus, other_programs, shortage};
pub use options::{EngineEnv, EngineOptions};
pub use process::sweep;
pub use server::{CapabilityFlags, Notice, ServerKind};
pub use spec::{EngineSpec, SpecError, expand};
pub use status::{EngineState, EngineStatus, StartPhase};
pub use suspend::SuspendClock;
