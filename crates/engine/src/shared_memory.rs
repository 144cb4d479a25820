//! What a killed engine leaves in memory: vLLM's processes share it by files of /dev/shm, which stay until somebody removes
//! them. Who ends by itself removes its own; for those that are killed it is done here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Python's `multiprocessing.shared_memory` names them so, with random characters behind it.
const PREFIX: &str = "/dev/shm/psm_";

/// Shared memory of some processes.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory(BTreeSet<PathBuf>);

impl SharedMemory {
    /// Adds what these processes have at this moment.
    pub(crate) fn see(&mut self, pids: &[u32]) {
        self.0.extend(pids.iter().flat_map(|pid| mapped_by(*pid)));
    }

    /// Removes what nobody has any more.
    pub(crate) fn remove(self) {
        if self.0.is_empty() {
            return;
        }
        let held: BTreeSet<PathBuf> = pids().flat_map(mapped_by).collect();
        for file in self.0.difference(&held) {
            let _ = fs::remove_file(file);
        }
    }
}

/// proc(5): the path is the last column of a mapping. Empty where that cannot be seen.
fn mapped_by(pid: u32) -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find(PREFIX).and_then(|at| line.get(at..)));
    paths.filter(|path| !path.ends_with(" (deleted)")).map(|path| Path::new(path).to_owned()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
