//! Facts about a process, read from `/proc`, and a pause of it.

use std::{fs, path::PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that does not run, with its connections open, until this is dropped: what a lost network looks like to others.
#[derive(Debug)]
pub struct Paused(Pid);

impl Paused {
    /// Pauses a process.
    pub fn process(pid: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        kill(pid, Signal::SIGSTOP).expect("the process");
        Self(pid)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") << 10
}

/// Peak of the resident memory of a process, bytes.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") << 10
}

/// Seconds of processor time that a process has taken, in user and system mode (proc(5)).
pub fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the state of a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("the fields").split_whitespace().collect();
    // The clock of these fields has 100 ticks a second on every Linux.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// The targets of the open descriptors of a process.
pub fn descriptors(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the descriptors");
    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// The arguments and the environment of a process, as other processes of its user see them.
pub fn arguments_and_environment(pid: u32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).expect("a file of /proc");
    [read("cmdline"), read("environ")].concat()
}

/// The most bytes of a core dump of a process: the soft limit and the hard one.
pub fn core_dump_limits(pid: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the limits of a process");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("the limit");
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut next = || words.next().expect("a limit");
    let soft = next();
    (soft, next())
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a process");
    let value = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of the status");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}
