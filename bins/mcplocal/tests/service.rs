//! The agent under a service manager, which is played by the socket that it would listen on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, eventually, program};
use tokio::net::UnixDatagram;

/// What the manager hears.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    /// Waits for a word, and gives the time that it took.
    async fn hears(&mut self, word: &str) -> Duration {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while !self.heard.contains(word) {
            let heard = tokio::time::timeout(Duration::from_secs(30), self.socket.recv(&mut buffer)).await;
            let length =
                heard.unwrap_or_else(|_| panic!("`{word}` was not heard, only: {}", self.heard)).unwrap();
            self.heard += &String::from_utf8_lossy(&buffer[..length]);
            self.heard.push('\n');
        }
        begun.elapsed()
    }
}

#[tokio::test]
async fn the_manager_hears_that_it_is_ready_that_it_lives_and_that_it_ends() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = Manager { socket: UnixDatagram::bind(&path).unwrap(), heard: String::new() };
    let model = home.path().join("model");
    std::fs::write(&model, "").unwrap();
    let config = format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    );
    let more = [("NOTIFY_SOCKET", path.as_os_str()), ("WATCHDOG_USEC", "4000000".as_ref())];
    let mut agent = Mcplocal::start_with(home, &config, &more).await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=listening on 127.0.0.1:").await;
    manager.hears("WATCHDOG=1").await;
    manager.heard.clear();
    let between = manager.hears("WATCHDOG=1").await;
    assert!(between < Duration::from_secs(4), "the manager would have ended it: {between:?}");

    // What is for the manager is the agent's to say, and not its engines'.
    agent.sign_in(&mcpd, "alice", &alice);
    assert!(agent.chat("local/desk", &agent.local_key(), false).await.status().is_success());
    let pid = agent.status().await["providers"][0]["engine"]["pid"].as_u64().unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("LLAMA_API_KEY="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");

    assert!(agent.stop().success());
    manager.hears("STOPPING=1").await;
    eventually("the engine is gone", async || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_manager_that_does_not_watch_hears_nothing_more() {
    let mcpd = Mcpd::start().await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = Manager { socket: UnixDatagram::bind(&path).unwrap(), heard: String::new() };
    // A watchdog of another process is not ours.
    let more = [
        ("NOTIFY_SOCKET", path.as_os_str()),
        ("WATCHDOG_USEC", "1000".as_ref()),
        ("WATCHDOG_PID", "1".as_ref()),
    ];
    let mut agent = Mcplocal::start_with(home, &format!("server: {}\n", mcpd.url()), &more).await;
    manager.hears("READY=1").await;
    assert!(agent.stop().success());
    manager.hears("STOPPING=1").await;
    assert!(!manager.heard.contains("WATCHDOG"), "{}", manager.heard);
}

#[tokio::test]
async fn an_agent_that_cannot_start_does_not_say_that_it_is_ready() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let config = home.path().join("mcplocal.yaml");
    std::fs::write(&config, "server: https://mcpd.example.com\nlisten: 127.0.0.1:0\n").unwrap();
    // It finds out after it has bound its port.
    let state = home.path().join("state");
    std::fs::create_dir_all(state.join("local-key")).unwrap();
    let mut agent = tokio::process::Command::new(program("mcplocal"));
    agent.arg("--config").arg(&config).arg("--state-dir").arg(&state).env("NOTIFY_SOCKET", &path);
    let output = agent.env("XDG_CONFIG_HOME", home.path()).output().await.unwrap();
    assert!(!output.status.success());
    let heard = socket.try_recv(&mut [0; 4096]);
    assert_eq!(heard.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
