//! Process groups: signals to all of one, and who is left of it.

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Sends a signal to every process of a group; a group that is gone is no error.
pub(crate) fn signal(group: u32, signal: Signal) {
    // 0 and 1 would mean our own group and everybody.
    if let Ok(group @ 2..) = i32::try_from(group) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Whether any process of the group is left. The dead that nobody has buried yet hold no memory and do not count.
pub(crate) fn is_alive(group: u32) -> bool {
    match members(group) {
        Some(members) => !members.is_empty(),
        None => match i32::try_from(group) {
            Ok(group @ 2..) => killpg(Pid::from_raw(group), None) != Err(Errno::ESRCH),
            _ => false,
        },
    }
}

/// Bytes of memory that the group holds, where that can be seen.
pub(crate) fn resident_bytes(group: u32) -> Option<u64> {
    let resident = |stat: &Stat| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stat.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(members(group)?.iter().filter_map(resident).sum())
}

/// The time at which a process was started, in the kernel's own count: a process of the same id but another time is
/// another process.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_time)
}

struct Stat {
    pid: u32,
    group: u32,
    dead: bool,
    start_time: u64,
}

/// The living members of a group; nothing where there is no /proc.
fn members(group: u32) -> Option<Vec<Stat>> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Some(pids.filter_map(stat).filter(|stat| stat.group == group && !stat.dead).collect())
}

/// proc(5): the name is in parentheses and may hold anything, so fields are counted from the last one.
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        pid,
        dead: matches!(*fields.first()?, "Z" | "X"),
        group: fields.get(2)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}
