//! What an engine is doing. These types travel to clients of the agent, so `mcpctl-api` defines them.

pub use mcpctl_api::agent::{EngineState, EngineStatus, StartPhase};
