//! The shared memory that a killed vLLM leaves behind. Its processes share memory through files of /dev/shm. A process
//! that ends by itself removes its own files; those of a killed process stay until they are removed here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use mcpctl_supervisor::Residue;

/// Python's `multiprocessing.shared_memory` names the files like this, followed by random characters.
const PREFIX: &str = "/dev/shm/psm_";

/// The shared memory of an engine's processes.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory(BTreeSet<PathBuf>);

impl Residue for SharedMemory {
    fn record(&mut self, pids: &[u32]) {
        self.0.extend(pids.iter().flat_map(|pid| mapped_by(*pid)));
    }

    fn remove(self) {
        if self.0.is_empty() {
            return;
        }
        let mapped: BTreeSet<PathBuf> = pids().flat_map(mapped_by).collect();
        for file in self.0.difference(&mapped) {
            let _ = fs::remove_file(file);
        }
    }
}

/// proc(5): the path is the last column of a mapping. Empty where /proc does not show it.
fn mapped_by(pid: u32) -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find(PREFIX).and_then(|at| line.get(at..)));
    paths.filter(|path| !path.ends_with(" (deleted)")).map(|path| Path::new(path).to_owned()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
