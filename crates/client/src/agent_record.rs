//! The agent's record of where it listens, in its state directory: for our own programs where its socket cannot be used, and
//! to recognise the process that listens at an address. What the record states is checked against the kernel before use, so
//! that a record of a killed agent names nothing.

use std::path::Path;

use mcpctl_owner::{PathError, connection::listeners, file, own_uid};
use serde::{Deserialize, Serialize};

/// Name of the file in the agent's state directory.
const FILE: &str = "agent.json";
/// Most bytes of the file: it has three short fields.
const MAX_BYTES: u64 = 4096;

/// A running agent, by its own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRecord {
    /// Its process.
    pub pid: u32,
    /// Where it listens: `127.0.0.1:3200`, or `unix:/path`.
    pub listen: String,
    /// Whether `mcpctl local up` started it.
    pub background: bool,
}

impl AgentRecord {
    /// Writes the record whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, state_dir: &Path) -> Result<(), PathError> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        file::replace(&state_dir.join(FILE), &text)
    }

    /// Removes the record of this state directory; no-op when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(state_dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(state_dir.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The record of this state directory; `None` where there is none that can be read.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let bytes = file::read_own(&state_dir.join(FILE), MAX_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// The TCP address of the record, if its process listens there now and belongs to this user. `None` for a record that a
    /// killed agent left behind, and where the system does not list who listens.
    pub fn confirmed_address(&self) -> Option<std::net::SocketAddr> {
        let address: std::net::SocketAddr = self.listen.parse().ok()?;
        let mut sockets = listeners(address.port()).ok()?;
        sockets.retain(|socket| socket.local == address && socket.uid == own_uid());
        let held = sockets.iter().any(|socket| socket.process().is_some_and(|(pid, _)| pid == self.pid));
        held.then_some(address)
    }
}
