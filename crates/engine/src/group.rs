//! Process groups: signals to all of one, who is left of it, and whether a process is the one that was meant.

use std::process::{Command, Stdio};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
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

/// When a process was started, in words that are the same only for the same process: ids are reused, and after a
/// reboot the kernel counts its time from the beginning again, so the boot belongs to it.
pub(crate) fn identity(pid: u32) -> Option<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => Some(format!("{}/{}", boot.trim(), stat(pid)?.start_time)),
        Err(_) => started_by_ps(pid),
    }
}

/// Whether some living member of the group has this entry in its environment, which children inherit. Nothing where
/// that cannot be seen.
pub(crate) fn carries(group: u32, entry: &str) -> Option<bool> {
    Some(members(group)?.iter().any(|member| carries_entry(member.pid, entry)))
}

fn carries_entry(pid: u32, entry: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
}

/// Living processes outside the group that have this entry in their environment: what it started and what left it for
/// a group or session of its own. Empty where that cannot be seen.
pub(crate) fn strays(group: u32, entry: &str) -> Vec<u32> {
    let outside = |stat: &Stat| stat.group != group && !stat.dead && carries_entry(stat.pid, entry);
    processes().into_iter().flatten().filter(outside).map(|stat| stat.pid).collect()
}

/// A group and what left it, wherever that can be seen.
pub(crate) fn family(group: u32, entry: &str) -> Vec<u32> {
    let members = members(group).unwrap_or_default();
    members.iter().map(|stat| stat.pid).chain(strays(group, entry)).collect()
}

/// Sends a signal to processes, each by itself; one that is gone is no error.
pub(crate) fn signal_each(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Ok(pid @ 2..) = i32::try_from(*pid) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Whether a member of the group listens on this port. Nothing where that cannot be seen.
pub(crate) fn listens(group: u32, port: u16) -> Option<bool> {
    let mut sockets = listeners(&std::fs::read_to_string("/proc/net/tcp").ok()?, port);
    sockets.extend(listeners(&std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default(), port));
    let mut all_seen = true;
    for member in members(group)? {
        let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", member.pid)) else {
            all_seen = false;
            continue;
        };
        let mut targets = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        if targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str())) {
            return Some(true);
        }
    }
    all_seen.then_some(false)
}

/// The sockets of /proc/net/tcp that listen on a port, as the links of /proc/PID/fd name them (proc(5)).
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
        here.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Where there is no /proc, as on macOS.
fn started_by_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        // In local time it would be another one after a journey.
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

struct Stat {
    pid: u32,
    group: u32,
    dead: bool,
    start_time: u64,
}

/// The living members of a group; nothing where there is no /proc.
fn members(group: u32) -> Option<Vec<Stat>> {
    Some(processes()?.filter(|stat| stat.group == group && !stat.dead).collect())
}

fn processes() -> Option<impl Iterator<Item = Stat>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Some(pids.filter_map(stat))
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

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::process::CommandExt as _, process::Child};

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let mut sleeper = Command::new("sleep");
            Self(sleeper.arg("60").env("MARK", "one").process_group(0).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let one = Sleeper::start();
        let pid = one.0.id();
        let known = identity(pid);
        assert!(known.is_some() && known == identity(pid));
        // The machine's first process was not started in the same hundredth of a second.
        assert_ne!(known, identity(1));
        drop(one);
        assert_eq!(identity(pid), None);
    }

    #[test]
    fn ps_tells_when_a_process_was_started_and_nothing_of_one_that_is_not_there() {
        let mut sleeper = Sleeper::start();
        let pid = sleeper.0.id();
        assert!(started_by_ps(pid).is_some_and(|said| said.contains(':')));
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        assert_eq!(started_by_ps(pid), None);
    }

    #[test]
    fn the_dead_do_not_count_as_alive() {
        let mut sleeper = Sleeper::start();
        let group = sleeper.0.id();
        assert!(is_alive(group));
        signal(group, Signal::SIGKILL);
        // Unburied until we wait for it.
        while is_alive(group) {
            std::thread::yield_now();
        }
        sleeper.0.wait().unwrap();
        assert!(!is_alive(group));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_an_inherited_entry_counts() {
        let sleeper = Sleeper::start();
        let group = sleeper.0.id();
        // Until exec, the child shows its parent's environment.
        while carries(group, "MARK=one") != Some(true) {
            std::thread::yield_now();
        }
        assert_eq!(carries(group, "MARK=on"), Some(false));
        assert!(!strays(group, "MARK=one").contains(&group));
        assert!(strays(group + 1, "MARK=one").contains(&group));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_listener_on_a_port_is_told_from_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = stat(std::process::id()).unwrap().group;
        let sleeper = Sleeper::start();
        assert_eq!(listens(ours, port), Some(true));
        assert_eq!(listens(sleeper.0.id(), port), Some(false));
        drop(listener);
        assert_eq!(listens(ours, port), Some(false));
    }
}
