//! `mcpctl local rotate-key`: a new local key. A running agent makes the key and uses it at once; where none runs, mcpctl makes
//! it for the next one.

use std::{fs::TryLockError, process::ExitCode};

use mcpctl_client::{ClientError, agent_port, config::LOCAL_KEY_FILE};
use mcpctl_owner::{
    dir,
    file::{self, OpenMode},
};
use mcpctl_secret::token::{self, Prefix};

use crate::{Outcome, agent, failure::Failure};

/// Makes the key.
pub async fn run() -> Outcome {
    match agent::client()?.rotate_local_key().await {
        Ok(()) => note!("mcplocal has a new key and refuses the old one"),
        Err(error @ ClientError::Unreachable { .. }) => {
            without_agent(error)?;
            note!("there is a new key; mcplocal refuses the old one when it runs");
        }
        Err(error) => return Err(error.into()),
    }
    note!(
        "# clients need the new one: eval \"$(mcpctl local env)\", and mcpctl local env --for CLIENT --write where a file has it"
    );
    Ok(ExitCode::SUCCESS)
}

fn without_agent(unreachable: ClientError) -> Result<(), Failure> {
    let dir = dir::ensure_private(&agent::state_dir()?)?;
    // A running agent holds the lock, and would keep the old key.
    let lock = file::open_own(&dir.join("lock"), OpenMode::ReadWrite)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(agent::not_running(unreachable)),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let key = token::mint(Prefix::Local).map_err(Failure::new)?;
    file::replace(&dir.join(LOCAL_KEY_FILE), format!("{}\n", key.expose()).as_bytes())?;
    agent_port::remove_note(&dir)?;
    Ok(())
}
