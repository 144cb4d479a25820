//! The processes of one start of an engine: all that have its mark in their environment, by `/proc`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// All processes of one start.
pub struct Family {
    mark: Vec<u8>,
    /// The engine's key, from its environment.
    pub key: String,
}

impl Family {
    /// The family of a process of the engine.
    pub fn of(pid: u32) -> Self {
        let environment = environment(pid);
        let value = |name: &[u8]| environment.iter().find_map(|entry| entry.strip_prefix(name));
        let key = [&b"LLAMA_API_KEY="[..], b"VLLM_API_KEY="].into_iter().find_map(value).expect("its key");
        let key = String::from_utf8(key.to_vec()).unwrap();
        let mark =
            environment.iter().find(|entry| entry.starts_with(b"MCPCTL_ENGINE_MARK=")).expect("its mark");
        Self { mark: mark.clone(), key }
    }

    /// The living members.
    pub fn members(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| environment(*pid).contains(&self.mark)).collect()
    }

    /// The files of their shared memory.
    pub fn shared_memory(&self) -> BTreeSet<PathBuf> {
        let maps = |pid| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let maps = self.members().into_iter().map(maps).collect::<String>();
        let files = maps.lines().filter_map(|line| line.split_whitespace().last());
        files.filter(|file| file.starts_with("/dev/shm/psm_")).map(PathBuf::from).collect()
    }

    /// Freezes all members, so that they react to nothing but SIGKILL.
    pub fn freeze(&self) {
        self.members().into_iter().for_each(|pid| send(pid, Signal::SIGSTOP));
    }

    /// The command line of each member, and the name that it gave itself.
    pub fn names(&self) -> Vec<(u32, String)> {
        let read =
            |pid: u32, file| fs::read(PathBuf::from(format!("/proc/{pid}/{file}"))).unwrap_or_default();
        let name =
            |pid| String::from_utf8_lossy(&[read(pid, "comm"), read(pid, "cmdline")].concat()).into_owned();
        self.members().into_iter().map(|pid| (pid, name(pid))).collect()
    }
}

pub fn kill_process(pid: u32) {
    send(pid, Signal::SIGKILL);
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// The environment of a process; empty where it has ended.
fn environment(pid: u32) -> Vec<Vec<u8>> {
    let entries = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    entries.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}
