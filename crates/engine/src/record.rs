//! The belt to the guardian's braces: which processes an agent started, written down, so that the next agent can end
//! what is left when agent and guardian were both killed.
//!
//! A process is known by its id *and* its start time: ids are reused, and nobody else's process is ended.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::group;

/// A process that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    engine: String,
    /// Leader of its group.
    pid: u32,
    start_time: Option<u64>,
}

/// An engine that was left over and is gone now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The engine.
    pub engine: String,
    /// Its process.
    pub pid: u32,
}

/// A record on disk; removed when the process is gone.
pub(crate) struct RecordFile(PathBuf);

impl RecordFile {
    pub(crate) fn write(state_dir: &Path, engine: &str, pid: u32) -> io::Result<Self> {
        let path = state_dir.join(format!("{engine}.json"));
        let record = Record { engine: engine.to_owned(), pid, start_time: group::start_time(pid) };
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(&record)?)?;
        std::fs::rename(&draft, &path)?;
        Ok(Self(path))
    }

    pub(crate) fn remove(self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends what an agent that was killed left behind, and forgets its records. Call before any engine is started.
pub async fn sweep(state_dir: &Path) -> Vec<Swept> {
    let mut swept = Vec::new();
    let Ok(files) = std::fs::read_dir(state_dir) else { return swept };
    for path in
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let record = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        if let Some(record) = record {
            let same = record.start_time.is_some() && group::start_time(record.pid) == record.start_time;
            // The leader may be gone while its children live on: a group keeps its number as long as it has members, and
            // the kernel gives no process an id that is still a group's.
            let leader_gone = group::start_time(record.pid).is_none();
            if (same || leader_gone) && group::is_alive(record.pid) {
                end(record.pid).await;
                swept.push(Swept { engine: record.engine, pid: record.pid });
            }
        }
        let _ = std::fs::remove_file(&path);
    }
    swept
}

async fn end(group: u32) {
    for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
        group::signal(group, signal);
        let gone = async {
            while group::is_alive(group) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, gone).await.is_ok() {
            return;
        }
    }
}
