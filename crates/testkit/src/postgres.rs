//! A real PostgreSQL on a free loopback port, from the machine's own binaries, stopped and removed when dropped. It never
//! uses the default port or a server that runs already.

use std::{
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

use crate::TIMEOUT;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A server with one empty database, `test`.
pub struct Postgres {
    binaries: PathBuf,
    dir: TempDir,
    port: u16,
    server: Option<Child>,
    user: Option<User>,
}

impl Postgres {
    /// Creates a cluster and starts it.
    pub fn start() -> Self {
        let binaries = binaries();
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().expect("a temporary directory");
        // PostgreSQL refuses to run as root.
        let user = geteuid().is_root().then(|| {
            let named = |name| User::from_name(name).ok().flatten();
            named("postgres")
                .or_else(|| named("nobody"))
                .expect("a user `postgres` or `nobody` to run PostgreSQL as")
        });
        if let Some(user) = &user {
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut postgres = Self { binaries, dir, port, server: None, user };
        let initdb = postgres
            .command("initdb")
            .args(["--no-sync", "--no-locale", "-E", "UTF8", "-U", "test", "-A", "trust", "-D"])
            .arg(postgres.data())
            .output()
            .expect("initdb");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        postgres.start_again();
        let created = postgres
            .command("createdb")
            .args(["-h", "127.0.0.1", "-U", "test", "-p", &postgres.port.to_string(), "test"])
            .output()
            .expect("createdb");
        assert!(created.status.success(), "createdb: {}", String::from_utf8_lossy(&created.stderr));
        postgres
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/test", self.port)
    }

    /// The folder of its programs.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The variables with which its programs reach it as its administrator.
    pub fn client_environment(&self) -> [(&'static str, String); 3] {
        [("PGHOST", "127.0.0.1".to_owned()), ("PGPORT", self.port.to_string()), ("PGUSER", "test".to_owned())]
    }

    /// Starts it after [`Postgres::stop`], on the same port with the same data.
    pub fn start_again(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("the log");
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .args(["-c", "max_connections=60"])
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("postgres");
        self.server = Some(server);
        let start = Instant::now();
        while !self.is_ready() {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            assert!(ended.is_none() && start.elapsed() < TIMEOUT, "postgres did not start: {}", self.log());
            std::thread::park_timeout(POLL_INTERVAL);
        }
    }

    /// Stops it at once, as a crash of the database service does.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(&server, Signal::SIGQUIT);
            let _ = server.wait();
        }
    }

    fn is_ready(&self) -> bool {
        let status = self
            .command("pg_isready")
            .args(["-h", "127.0.0.1", "-U", "test", "-p", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // The test's own folder may be closed to that user.
        command.current_dir(self.dir.path());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The folder of PostgreSQL's programs. The newest of Debian's comes first: a program on `PATH` may be a wrapper that only
/// its owner can run.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    let has_both = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    found
        .into_iter()
        .rev()
        .map(|(_, dir)| dir)
        .chain(on_path)
        .find(|dir| has_both(dir))
        .expect("PostgreSQL's programs `initdb` and `postgres`; install PostgreSQL (no server needs to run)")
}
