//! The guardian of an engine: the agent's own executable, which ends the engine when the agent ends.

use std::{ffi::OsString, process::ExitCode};

use mcpctl_supervisor::guardian;

use crate::server::SharedMemory;

/// Runs an engine until it has ended, the agent stops it, or the agent is gone. `arguments` are those that follow
/// `engine-guardian` on the command line; a binary's `main` calls this first.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    guardian::run::<SharedMemory>(arguments)
}
