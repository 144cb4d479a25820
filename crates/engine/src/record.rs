//! The belt to the guardian's braces: which processes an agent started, written down, so that the next agent can end
//! what is left when agent and guardian were both killed.
//!
//! Nobody else's process is ended: ids are reused. A group is ended when its leader is the very process that was
//! recorded, or, where the leader is gone, when one of the group carries the mark that this start alone was given in
//! its environment. When in doubt, nothing is ended.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use mcpctl_owner::file::{self, Open};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{group, listen, shared_memory::SharedMemory};

/// Most bytes of a record.
const MAX_RECORD: u64 = 64 << 10;

/// The name of the mark in an engine's environment.
pub(crate) const MARK: &str = "MCPCTL_ENGINE_MARK";

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    engine: String,
    /// Leader of its group.
    pid: u32,
    /// Boot and start time, so that a later process of the same id is not taken for it.
    identity: Option<String>,
    /// What its environment and its children's says.
    mark: String,
}

impl Record {
    pub(crate) fn of(engine: &str, pid: u32, mark: &str) -> Self {
        let (engine, mark) = (engine.to_owned(), mark.to_owned());
        Self { engine, pid, identity: group::identity(pid), mark }
    }

    /// Whether it, its group or what left the group is there.
    pub(crate) fn is_left(&self) -> bool {
        self.group_is_left() || !self.strays().is_empty()
    }

    /// Ends what is left, and nobody else. What that shares is looked at before: of who is killed it cannot be seen.
    pub(crate) fn signal(&self, signal: Signal, shared: &mut SharedMemory) {
        if self.group_is_left() {
            shared.see(&group::family(self.pid, &entry(&self.mark)));
            group::signal(self.pid, signal);
        }
        group::signal_each(&self.strays(), signal);
    }

    fn group_is_left(&self) -> bool {
        if !group::is_alive(self.pid) {
            return false;
        }
        match group::identity(self.pid) {
            Some(now) => self.identity == Some(now),
            None => group::carries(self.pid, &entry(&self.mark)) == Some(true),
        }
    }

    fn strays(&self) -> Vec<u32> {
        group::strays(self.pid, &entry(&self.mark))
    }
}

/// How a mark stands in an environment.
pub(crate) fn entry(mark: &str) -> String {
    format!("{MARK}={mark}")
}

/// An engine that was left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The engine.
    pub engine: String,
    /// Its process.
    pub pid: u32,
    /// Whether it is gone now; where it is not, its record stays for the next sweep.
    pub gone: bool,
}

/// A record on disk; removed when the process is gone.
pub(crate) struct RecordFile(PathBuf);

impl RecordFile {
    /// The process is part of the file's name: after a change of configuration, an engine that still drains and its
    /// successor have the same name.
    pub(crate) fn write(state_dir: &Path, record: &Record) -> io::Result<Self> {
        let path = state_dir.join(format!("{}-{}.json", record.engine, record.pid));
        file::replace(&path, &serde_json::to_vec(record)?).map_err(io::Error::other)?;
        Ok(Self(path))
    }

    pub(crate) fn remove(self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After each signal. Shorter than for an engine in service: nobody is served by what is left over.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends what an agent that was killed left behind, and forgets its records. Call before any engine is started, and with
/// no other agent on the same directory.
pub async fn sweep(state_dir: &Path) -> Vec<Swept> {
    let mut swept = Vec::new();
    let Ok(files) = std::fs::read_dir(state_dir) else {
        return swept;
    };
    for path in
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let record = read(&path).and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let mut gone = true;
        if let Some(record) = record.filter(Record::is_left) {
            gone = end(&record).await;
            swept.push(Swept { engine: record.engine, pid: record.pid, gone });
        }
        if gone {
            let _ = std::fs::remove_file(&path);
        }
    }
    listen::remove_left(state_dir);
    swept
}

/// What is no file of this user's is no record.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file =
        file::open_own(path, Open::Claim).inspect_err(|error| tracing::warn!(%error, "not a record")).ok()?;
    let mut text = Vec::new();
    file.take(MAX_RECORD).read_to_end(&mut text).ok().map(|_| text)
}

/// Looked at anew before each signal: the group may have ended and its number gone to somebody else.
async fn end(record: &Record) -> bool {
    let mut shared = SharedMemory::default();
    for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
        record.signal(signal, &mut shared);
        let gone = async {
            while record.is_left() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, gone).await.is_ok() {
            shared.remove();
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_record_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::of("desk", std::process::id(), "mark");
        let path = dir.path().join(format!("desk-{}.json", std::process::id()));
        // Another file by the name of the draft, and a record from before, are replaced and not written into.
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.with_extension("draft")).unwrap();
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let file = RecordFile::write(dir.path(), &record).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
        file.remove();
        assert!(!path.exists());
    }
}
