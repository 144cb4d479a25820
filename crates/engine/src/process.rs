//! An engine's process, under a guardian.

use std::{path::Path, sync::Arc};

use mcpctl_supervisor::{ChildCommand, Leftover, SupervisedChild};

use crate::{environment, error::EngineError, launch::Launch, listen, log::EngineLog, server::SharedMemory};

/// A running engine. Dropping it ends the engine.
pub(crate) type Process = SupervisedChild<SharedMemory>;

/// Starts an engine; its output goes to `log`.
pub(crate) async fn spawn(
    name: &str,
    launch: &Launch,
    guardian: &Path,
    state_dir: &Path,
    log: &Arc<EngineLog>,
) -> Result<Process, EngineError> {
    // INVARIANT 10: the engine gets neither the tokens that our own programs read from the environment, nor any other
    // variable that is not listed.
    let env = environment::inherited().chain(launch.env.iter().cloned()).collect();
    let command = ChildCommand { program: launch.program.clone(), args: launch.args.clone(), env };
    let log = Arc::clone(log);
    let on_line = move |line: &str| drop(log.line(line));
    SupervisedChild::spawn(name, &command, guardian, state_dir, on_line)
        .await
        .map_err(|error| EngineError::Spawn { name: name.to_owned(), reason: error.to_string() })
}

/// Ends the engines that a killed agent left running, and removes their records and sockets from its state directory.
/// Call it before any engine is started, and with no other agent on the same directory.
pub async fn sweep(state_dir: &Path) -> Vec<Leftover> {
    let leftovers = mcpctl_supervisor::sweep::<SharedMemory>(state_dir).await;
    listen::remove_leftover_sockets(state_dir);
    leftovers
}
