//! A record on disk of every program that was started, so that the next agent can end what is left when agent and
//! guardian were both killed.
//!
//! No other process is ever ended, although ids are reused: a group is ended when its leader is the very process that
//! was recorded, or, where the leader is gone, when a member carries the mark that this start alone was given in its
//! environment. In doubt, nothing is ended.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use mcpctl_owner::file::{self, OpenMode};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{Residue, process_group};

const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The environment variable that holds a start's mark.
pub const MARK_VARIABLE: &str = "MCPCTL_ENGINE_MARK";

/// A program that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The key on disk is older than the name here: records outlive an update of the agent.
    #[serde(rename = "engine")]
    pub(crate) name: String,
    /// The leader of the group.
    pub(crate) pid: u32,
    /// Boot and start time, so that a later process of the same id is not mistaken for it.
    identity: Option<String>,
    /// The mark in the environment of the program and its children.
    mark: String,
}

impl Record {
    pub(crate) fn new(name: &str, pid: u32, mark: &str) -> Self {
        let (name, mark) = (name.to_owned(), mark.to_owned());
        Self { name, pid, identity: process_group::identity(pid), mark }
    }

    /// Reads a record; `None` for a file of another user or of other content.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let file = file::open_own(path, OpenMode::ReadWrite)
            .inspect_err(|error| tracing::warn!(%error, "not a record"))
            .ok()?;
        let mut text = Vec::new();
        file.take(MAX_RECORD_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether the leader, its group or a process that left the group is alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.group_is_alive() || !self.strays().is_empty()
    }

    /// Sends a signal to the processes of this start alone. Records their residue first: it cannot be seen of a killed
    /// process.
    pub(crate) fn signal(&self, signal: Signal, residue: &mut impl Residue) {
        if self.group_is_alive() {
            residue.record(&process_group::members_and_strays(self.pid, &environment_entry(&self.mark)));
            process_group::signal(self.pid, signal);
        }
        process_group::signal_each(&self.strays(), signal);
    }

    fn group_is_alive(&self) -> bool {
        if !process_group::is_alive(self.pid) {
            return false;
        }
        match process_group::identity(self.pid) {
            Some(identity) => self.identity == Some(identity),
            None => process_group::carries(self.pid, &environment_entry(&self.mark)) == Some(true),
        }
    }

    fn strays(&self) -> Vec<u32> {
        process_group::strays(self.pid, &environment_entry(&self.mark))
    }
}

/// The entry of an environment that holds the mark.
pub(crate) fn environment_entry(mark: &str) -> String {
    format!("{MARK_VARIABLE}={mark}")
}

/// A record on disk, to be removed when the program is gone.
pub(crate) struct RecordFile(PathBuf);

impl RecordFile {
    /// The file's name contains the process id: while a program drains, its successor of the same name may run already.
    pub(crate) fn write(directory: &Path, record: &Record) -> io::Result<Self> {
        let path = directory.join(format!("{}-{}.json", record.name, record.pid));
        file::replace(&path, &serde_json::to_vec(record)?).map_err(io::Error::other)?;
        Ok(Self(path))
    }

    pub(crate) fn remove(self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A link by the name of the draft and an older record are replaced, not written into.
    #[test]
    fn record_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new("desk", std::process::id(), "mark");
        let path = dir.path().join(format!("desk-{}.json", std::process::id()));
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.with_extension("draft")).unwrap();
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let file = RecordFile::write(dir.path(), &record).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert_eq!(Record::read(&path), Some(record));
        file.remove();
        assert!(!path.exists());
    }
}
