//! Directories and files of the agent: it uses nothing that another user could have created or could change, and it creates
//! nothing that another user can read.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use mcpctl_testkit::{
    daemons::program,
    other_user::{OTHER_UID, may_act_as_other_user},
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

/// Far more than a start takes; an agent that reads a pipe would wait for ever.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The directories of a user of the agent.
struct Home {
    dir: TempDir,
    listen: String,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("files-").tempdir().unwrap();
        let home = Self { dir, listen: "127.0.0.1:0".to_owned() };
        home.configure();
        home
    }

    fn configure(&self) {
        let text = format!("server: https://mcpd.example.com\nlisten: {}\n", self.listen);
        fs::write(self.config(), text).unwrap();
        chmod(&self.config(), 0o644);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("mcplocal.yaml")
    }

    fn state(&self) -> PathBuf {
        self.path("state/mcpctl/mcplocal")
    }

    /// Starts the agent, waits until it is ready or has ended, and kills it; returns whether it was ready, and its log.
    async fn start(&self) -> (bool, String) {
        // A umask that a careless login shell may have set.
        let mut child = Command::new("sh")
            .args(["-c", "umask 0; exec \"$@\"", "sh"])
            .arg(program("mcplocal"))
            .arg("--config")
            .arg(self.config())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let reading = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                log += &line;
                log.push('\n');
                if line.contains("mcplocal is ready") {
                    return true;
                }
            }
            false
        };
        let ready = timeout(START_TIMEOUT, reading).await.expect("neither ready nor ended");
        child.kill().await.unwrap();
        (ready, log)
    }

    /// The error with which the agent does not start.
    async fn start_error(&self) -> String {
        let (ready, log) = self.start().await;
        assert!(!ready && log.starts_with("error: "), "{log}");
        log
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn everything_it_creates_is_for_its_user_alone() {
    let home = Home::new();
    assert!(home.start().await.0);
    let mut names = Vec::new();
    for entry in fs::read_dir(home.state()).unwrap() {
        let entry = entry.unwrap();
        let expected = if entry.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        names.push(entry.file_name().into_string().unwrap());
        assert_eq!(mode(&entry.path()), expected, "{names:?}");
    }
    for name in ["agent-id", "agent.sock", "engines", "journal.jsonl", "local-key", "lock", "logs"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    for dir in [home.state(), home.path("state/mcpctl"), home.path("state")] {
        assert_eq!(mode(&dir), 0o700);
    }
}

#[tokio::test]
async fn writable_state_directory_is_rejected() {
    let home = Home::new();
    fs::create_dir_all(home.state()).unwrap();
    for (dir, open) in [(home.state(), 0o777), (home.state(), 0o770), (home.path("state/mcpctl"), 0o777)] {
        chmod(&dir, open);
        let error = home.start_error().await;
        assert!(
            error.contains(&format!("its mode is {open:04o}\nhint: chmod go-w {}", dir.display())),
            "{error}"
        );
        chmod(&dir, 0o700);
    }
    assert_eq!(fs::read_dir(home.state()).unwrap().count(), 0, "nothing is written there");
    assert!(home.start().await.0);
    for dir in ["engines", "logs"] {
        chmod(&home.state().join(dir), 0o777);
        assert!(home.start_error().await.contains("its mode is 0777"), "{dir}");
        chmod(&home.state().join(dir), 0o700);
    }
}

#[tokio::test]
async fn planted_links_and_pipes_are_rejected() {
    let home = Home::new();
    fs::create_dir_all(home.state()).unwrap();
    let victim = home.path("victim");
    fs::write(&victim, "precious").unwrap();
    chmod(&victim, 0o600);
    for name in ["lock", "local-key"] {
        let path = home.state().join(name);
        symlink(&victim, &path).unwrap();
        assert!(home.start_error().await.contains("is a symbolic link"), "{name}");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(home.start_error().await.contains("has a second name"), "{name}");
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(home.start_error().await.contains("is not a regular file"), "{name}");
        fs::remove_file(&path).unwrap();
    }
    // The agent ignores a record of an engine that is a pipe, and does not wait for it.
    fs::create_dir_all(home.state().join("engines")).unwrap();
    mkfifo(&home.state().join("engines/desk-1.json"), Mode::S_IRWXU).unwrap();
    assert!(home.start().await.0);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[tokio::test]
async fn writable_configuration_is_rejected() {
    let home = Home::new();
    for open in [0o666, 0o664, 0o646] {
        chmod(&home.config(), open);
        let error = home.start_error().await;
        assert!(
            error.contains(&format!("its mode is {open:04o}")) && error.contains("hint: chmod go-w"),
            "{error}"
        );
    }
    chmod(&home.config(), 0o644);
    chmod(home.dir.path(), 0o777);
    assert!(home.start_error().await.contains("can be written to by other users"));
    chmod(home.dir.path(), 0o700);
    fs::remove_file(home.config()).unwrap();
    mkfifo(&home.config(), Mode::S_IRWXU).unwrap();
    assert!(home.start_error().await.contains("is not a regular file"));
}

#[tokio::test]
async fn only_dead_sockets_are_replaced() {
    let mut home = Home::new();
    let path = home.path("listen");
    home.listen = format!("unix:{}", path.display());
    home.configure();
    fs::write(&path, "precious").unwrap();
    assert!(home.start_error().await.contains("what is there is not a socket\nhint: remove what is there"));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();
    symlink(home.path("nowhere"), &path).unwrap();
    assert!(home.start_error().await.contains("what is there is not a socket"));
    fs::remove_file(&path).unwrap();
    let live = UnixListener::bind(&path).unwrap();
    assert!(home.start_error().await.contains("another program listens there"));
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    drop(live);
    assert!(home.start().await.0, "a dead socket is replaced");
    // The same holds for the agent's own socket.
    fs::remove_file(home.state().join("agent.sock")).unwrap();
    fs::create_dir(home.state().join("agent.sock")).unwrap();
    assert!(home.start_error().await.contains("what is there is not a socket"));
}

#[tokio::test]
async fn long_state_directory_has_its_socket_elsewhere() {
    let home = Home::new();
    let long = home.path(&"x".repeat(120));
    let start = |runtime: &'static str| {
        Command::new(program("mcplocal"))
            .arg("--config")
            .arg(home.config())
            .arg("--state-dir")
            .arg(&long)
            .env("XDG_CONFIG_HOME", home.path("config"))
            .env("XDG_RUNTIME_DIR", home.path(runtime))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let mut agent = start("run");
    let mut lines = BufReader::new(agent.stderr.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("mcplocal is ready") {
                return;
            }
        }
        panic!("it ended");
    };
    timeout(START_TIMEOUT, ready).await.unwrap();
    let sockets: Vec<_> = fs::read_dir(home.path("run/mcpctl")).unwrap().collect();
    assert_eq!((sockets.len(), mode(&home.path("run/mcpctl"))), (1, 0o700));
    let status = Command::new(program("mcpctl"))
        .args(["local", "status"])
        .env("MCPLOCAL_STATE_DIR", &long)
        .env("XDG_RUNTIME_DIR", home.path("run"))
        .output();
    let status = status.await.unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    agent.kill().await.unwrap();

    fs::create_dir(home.path("open")).unwrap();
    chmod(&home.path("open"), 0o777);
    let output = timeout(START_TIMEOUT, start("open").wait_with_output()).await.unwrap().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("can be written to by other users"), "{error}");
}

#[tokio::test]
async fn files_of_another_user_are_rejected() {
    if !may_act_as_other_user() {
        return;
    }
    let home = Home::new();
    fs::create_dir_all(home.state()).unwrap();
    for path in [home.state(), home.path("state"), home.config()] {
        chown(&path, Some(OTHER_UID), None).unwrap();
        assert!(home.start_error().await.contains("belongs to user `nobody`"), "{}", path.display());
        chown(&path, Some(0), None).unwrap();
    }
    fs::write(home.state().join("local-key"), "mcpl_known").unwrap();
    chmod(&home.state().join("local-key"), 0o600);
    chown(home.state().join("local-key"), Some(OTHER_UID), None).unwrap();
    assert!(home.start_error().await.contains("belongs to user `nobody`"));
}
