//! The agent under a service manager, whose notification socket belongs to the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use mcpctl_testkit::{
    daemons::{Mcplocal, McplocalOptions, eventually, program},
    deployment::Deployment,
};
use tempfile::TempDir;
use tokio::{net::UnixDatagram, time::timeout};

/// A service manager and the notifications that it has received.
struct ServiceManager {
    dir: TempDir,
    socket: UnixDatagram,
    received: String,
}

impl ServiceManager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        Self { dir, socket, received: String::new() }
    }

    fn socket(&self) -> OsString {
        self.dir.path().join("notify").into()
    }

    /// Waits for a notification and returns how long it took.
    async fn receives(&mut self, notification: &str) -> Duration {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        while !self.received.contains(notification) {
            let receiving = self.socket.recv(&mut buffer);
            let length = timeout(Duration::from_secs(60), receiving)
                .await
                .unwrap_or_else(|_| panic!("no `{notification}`, only: {}", self.received))
                .unwrap();
            self.received += &String::from_utf8_lossy(&buffer[..length]);
            self.received.push('\n');
        }
        start.elapsed()
    }
}

#[tokio::test]
async fn agent_reports_ready_watchdog_and_stopping() {
    let mut manager = ServiceManager::new();
    let watchdog = Duration::from_secs(10);
    let env =
        vec![("NOTIFY_SOCKET", manager.socket()), ("WATCHDOG_USEC", watchdog.as_micros().to_string().into())];
    let mut deployment = Deployment::builder()
        .options(McplocalOptions { env, ..McplocalOptions::default() })
        .engine("desk", "", &[])
        .signed_in()
        .start()
        .await;
    manager.receives("READY=1").await;
    manager.receives("STATUS=listening on 127.0.0.1:").await;
    manager.receives("WATCHDOG=1").await;
    manager.received.clear();
    let between = manager.receives("WATCHDOG=1").await;
    assert!(between < watchdog, "the service manager would have killed it: {between:?}");

    // Only the agent notifies the service manager; its engines do not inherit the variables.
    assert!(deployment.chat_locally("desk").await.status().is_success());
    let pid = deployment.engine("desk").await["pid"].as_u64().unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("LLAMA_API_KEY="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");

    assert!(deployment.agent.stop().success());
    manager.receives("STOPPING=1").await;
    eventually("the engine has ended", async || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn watchdog_of_another_process_gets_no_notifications() {
    let mut manager = ServiceManager::new();
    let env = vec![
        ("NOTIFY_SOCKET", manager.socket()),
        ("WATCHDOG_USEC", "1000".into()),
        ("WATCHDOG_PID", "1".into()),
    ];
    let options = McplocalOptions { env, ..McplocalOptions::default() };
    let mut agent = Mcplocal::start_with("server: https://mcpd.example.com\n", options).await;
    manager.receives("READY=1").await;
    assert!(agent.stop().success());
    manager.receives("STOPPING=1").await;
    assert!(!manager.received.contains("WATCHDOG"), "{}", manager.received);
}

#[tokio::test]
async fn agent_that_cannot_start_does_not_report_ready() {
    let manager = ServiceManager::new();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mcplocal.yaml");
    std::fs::write(&config, "server: https://mcpd.example.com\nlisten: 127.0.0.1:0\n").unwrap();
    // A directory in the place of a file: the agent fails after it has bound its port.
    let state = home.path().join("state");
    std::fs::create_dir_all(state.join("local-key")).unwrap();
    let mut agent = tokio::process::Command::new(program("mcplocal"));
    agent.arg("--config").arg(&config).arg("--state-dir").arg(&state).env("NOTIFY_SOCKET", manager.socket());
    let output = agent.env("XDG_CONFIG_HOME", home.path()).output().await.unwrap();
    assert!(!output.status.success());
    let received = manager.socket.try_recv(&mut [0; 4096]);
    assert_eq!(received.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
