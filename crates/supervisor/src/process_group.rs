//! Process groups: signals to all members, the members that are left, and the identity of a process.

use std::process::{Command, Stdio};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Sends a signal to every process of a group; a group that is gone is no error.
pub(crate) fn signal(group: u32, signal: Signal) {
    // 0 and 1 would mean our own group and every process.
    if let Ok(group @ 2..) = i32::try_from(group) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Whether a process of the group is alive. Zombies hold no memory and do not count.
pub(crate) fn is_alive(group: u32) -> bool {
    match members(group) {
        Some(members) => !members.is_empty(),
        None => match i32::try_from(group) {
            Ok(group @ 2..) => killpg(Pid::from_raw(group), None) != Err(Errno::ESRCH),
            _ => false,
        },
    }
}

/// Resident memory of the group in bytes; `None` where there is no /proc.
pub fn resident_bytes(group: u32) -> Option<u64> {
    let resident = |stat: &Stat| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stat.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(members(group)?.iter().filter_map(resident).sum())
}

/// A text that is the same only for the same process: its start time, because ids are reused, and the boot, because
/// the kernel counts start times from each boot. `None` for a process that does not exist.
pub(crate) fn identity(pid: u32) -> Option<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(boot) => Some(format!("{}/{}", boot.trim(), stat(pid)?.start_time)),
        Err(_) => start_time_by_ps(pid),
    }
}

/// Whether a living member of the group has this entry in its environment, which children inherit. `None` where there
/// is no /proc.
pub(crate) fn carries(group: u32, entry: &str) -> Option<bool> {
    Some(members(group)?.iter().any(|member| carries_entry(member.pid, entry)))
}

fn carries_entry(pid: u32, entry: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
}

/// The value of a variable in the environment of a process; `None` where it is not set or the environment cannot be read.
pub fn variable(pid: u32, name: &str) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_owned());
    environment.split(|byte| *byte == 0).find_map(value)
}

/// The group of a process; `None` for one that does not exist, and where there is no /proc.
pub fn of(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.group)
}

/// The command line of a process, its words with spaces between; `None` for one that does not exist, and where there is no
/// /proc.
pub fn command_line(pid: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned())
}

/// Living processes outside the group that have this entry in their environment: a member started them, and they left
/// for a group or session of their own. Empty where there is no /proc.
pub(crate) fn strays(group: u32, entry: &str) -> Vec<u32> {
    let outside = |stat: &Stat| stat.group != group && !stat.dead && carries_entry(stat.pid, entry);
    processes().into_iter().flatten().filter(outside).map(|stat| stat.pid).collect()
}

/// The members of a group and the processes that left it. Empty where there is no /proc.
pub(crate) fn members_and_strays(group: u32, entry: &str) -> Vec<u32> {
    let members = members(group).unwrap_or_default();
    members.iter().map(|stat| stat.pid).chain(strays(group, entry)).collect()
}

/// Sends a signal to each process; one that is gone is no error.
pub(crate) fn signal_each(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Ok(pid @ 2..) = i32::try_from(*pid) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Whether a member of the group listens on this TCP port. `None` where /proc does not show it.
pub fn listens(group: u32, port: u16) -> Option<bool> {
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

/// The sockets of /proc/net/tcp that listen on a port, named like the links of /proc/PID/fd (proc(5)).
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

/// For systems without /proc, such as macOS.
fn start_time_by_ps(pid: u32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        // Local time would change with the machine's time zone.
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let start_time = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !start_time.is_empty()).then_some(start_time)
}

/// Fields of /proc/PID/stat.
struct Stat {
    pid: u32,
    group: u32,
    dead: bool,
    start_time: u64,
}

/// The living members of a group; `None` where there is no /proc.
fn members(group: u32) -> Option<Vec<Stat>> {
    Some(processes()?.filter(|stat| stat.group == group && !stat.dead).collect())
}

fn processes() -> Option<impl Iterator<Item = Stat>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Some(pids.filter_map(stat))
}

/// proc(5): the name is in parentheses and may hold any character, so fields are counted from the last parenthesis.
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
    fn identity_is_of_one_process() {
        let one = Sleeper::start();
        let pid = one.0.id();
        let first = identity(pid);
        assert!(first.is_some() && first == identity(pid));
        // The machine's first process was not started in the same hundredth of a second.
        assert_ne!(first, identity(1));
        drop(one);
        assert_eq!(identity(pid), None);
    }

    #[test]
    fn ps_gives_start_time_of_existing_process_only() {
        let mut sleeper = Sleeper::start();
        let pid = sleeper.0.id();
        assert!(start_time_by_ps(pid).is_some_and(|time| time.contains(':')));
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        assert_eq!(start_time_by_ps(pid), None);
    }

    #[test]
    fn zombie_does_not_count_as_alive() {
        let mut sleeper = Sleeper::start();
        let group = sleeper.0.id();
        assert!(is_alive(group));
        signal(group, Signal::SIGKILL);
        // A zombie until we wait for it.
        while is_alive(group) {
            std::thread::yield_now();
        }
        sleeper.0.wait().unwrap();
        assert!(!is_alive(group));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_whole_environment_entry_counts() {
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
    fn listener_of_another_group_does_not_count() {
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
