//! One daemon as a child process, and how tests wait for it.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::TcpSocket;

use crate::TIMEOUT;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a daemon that a test drops may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The path of a program of this workspace, which is built into an ancestor of the test's own folder.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let found = test.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is not built: run `cargo build --bins` first, as `cargo xtask test` does")
    })
}

/// A loopback address that refuses connections. It stays bound until the test's process ends, so that no other program gets
/// the port meanwhile.
pub fn closed_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let address = socket.local_addr().expect("an address");
    std::mem::forget(socket);
    address
}

/// Polls `condition` until it returns a value; fails the test after [`TIMEOUT`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    within(TIMEOUT, what, condition).await
}

/// As [`eventually`], with another timeout.
pub async fn within<T, F: Future<Output = Option<T>>>(
    timeout: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < timeout, "{what}: not within {} s", timeout.as_secs());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A running daemon whose output goes to a log file.
pub(super) struct Daemon {
    pub(super) child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(super) fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log"))
            .stderr(file)
            .spawn()
            .expect("the daemon");
        Self { child, log }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log contains `text`, and returns the word after its last occurrence.
    pub(super) async fn logged_after(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some((_, rest)) = log.rsplit_once(text) {
                return rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            let ended = self.child.try_wait().expect("the daemon");
            assert!(ended.is_none() && start.elapsed() < TIMEOUT, "the daemon did not start:\n{log}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let _ = kill(Pid::from_raw(pid), signal);
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the daemon")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SIGTERM first, so that an agent can stop its engines.
            self.signal(Signal::SIGTERM);
            let start = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < STOP_TIMEOUT {
                std::thread::park_timeout(POLL_INTERVAL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// A limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFiles {
    /// The limit at the start, which a process may raise.
    Soft(u32),
    /// The limit that a process cannot raise.
    Hard(u32),
}

/// A command that starts a program, with another limit of open files where one is given.
pub(super) fn command(name: &str, open_files: Option<OpenFiles>) -> Command {
    let limited = |option: String| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit {option} && exec \"$0\" \"$@\"")]).arg(program(name));
        command
    };
    let mut command = match open_files {
        None => Command::new(program(name)),
        Some(OpenFiles::Soft(count)) => limited(format!("-Sn {count}")),
        Some(OpenFiles::Hard(count)) => limited(format!("-n {count}")),
    };
    // Tests export no traces to a collector of the machine that they run on.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

pub(super) fn http_client() -> reqwest::Client {
    http_client_builder().build().expect("a client")
}

pub(super) fn http_client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}
