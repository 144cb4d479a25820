//! ChromeDriver on a free port, with a Chromium whose profile is in a temporary folder. Both end when this is dropped.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mcpctl_testkit::daemons::eventually;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::TIMEOUT;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long Chromium may take to end by itself after ChromeDriver has ended.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A running ChromeDriver.
#[derive(Debug)]
pub(super) struct Chromedriver {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Chromedriver {
    /// Starts it and waits until it listens.
    pub(super) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("chromium-").tempdir().expect("a temporary directory");
        let log = File::create(dir.path().join("log")).expect("the log");
        // In the process group of the test, so that a runner that ends that group ends ChromeDriver too.
        let child = Command::new(installed("chromedriver"))
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            // Chromium keeps caches and settings of the desktop there.
            .env("HOME", dir.path())
            .env("XDG_CONFIG_HOME", dir.path())
            .env("XDG_CACHE_HOME", dir.path())
            .spawn()
            .expect("chromedriver");
        let mut driver = Self { child, dir, port: 0 };
        driver.port = eventually("ChromeDriver listens", async || driver.listens_at()).await;
        driver
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The capabilities of a session with a headless Chromium that keeps everything in the temporary folder, and gets these
    /// arguments too.
    pub(super) fn capabilities(&self, more: &[String]) -> Value {
        let profile = self.profile().display().to_string();
        let mut arguments = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={profile}"),
            // Chromium ends when ChromeDriver does, because that closes the pipe.
            "--remote-debugging-pipe".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--force-color-profile=srgb".to_owned(),
            "--lang=en".to_owned(),
        ];
        arguments.extend_from_slice(more);
        if geteuid().is_root() {
            // Chromium refuses to run as root within its sandbox.
            arguments.push("--no-sandbox".to_owned());
        }
        json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": installed("chromium"), "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        })
    }

    pub(super) fn processes(&self) -> Processes {
        Processes { profile: self.profile() }
    }

    fn profile(&self) -> PathBuf {
        self.dir.path().join("profile")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn listens_at(&self) -> Option<u16> {
        let log = self.log();
        let (_, rest) = log.rsplit_once("started successfully on port ")?;
        rest.split_once('.')?.0.parse().ok()
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let start = Instant::now();
        loop {
            let running = self.processes().running();
            if running.is_empty() || start.elapsed() > TIMEOUT {
                break;
            }
            if start.elapsed() > END_TIMEOUT {
                for pid in running {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
            std::thread::park_timeout(POLL_INTERVAL);
        }
        if std::thread::panicking() {
            eprintln!("--- ChromeDriver\n{}", self.log());
        }
    }
}

/// The processes of one Chromium: those with its profile among their arguments.
#[derive(Debug, Clone)]
pub struct Processes {
    profile: PathBuf,
}

impl Processes {
    /// Those that run now.
    pub fn running(&self) -> Vec<Pid> {
        let profile = self.profile.as_os_str().as_encoded_bytes();
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.windows(profile.len()).any(|part| part == profile)
        })
        .map(Pid::from_raw)
        .collect()
    }
}

/// The path of a program on the `PATH`.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{program}` is not installed: `apt-get install chromium chromium-driver`, as `cargo xtask test` does as root")
    })
}
