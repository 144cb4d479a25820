//! `mcpctl chat` as a conversation on a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex},
};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    link::Link,
    model_server::{ModelServer, Reply},
};

use crate::shell::Shell;

#[tokio::test]
async fn turn_after_a_pause_uses_no_broken_connection() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let link = Link::to(mcpd.url()).await;
    let shell = Shell::new();
    let url = link.url();
    shell.run_with(&["login", &url, "--token-stdin", "--context", "c"], &mcpd.admin()).await.succeeded();

    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = shell.command(&["chat", "claude"]);
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    command.stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    drop((command, pty.slave));
    let (mut keyboard, mut terminal) = (File::from(pty.master.try_clone().unwrap()), File::from(pty.master));
    let shown = Arc::new(Mutex::new(String::new()));
    let reading = std::thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = terminal.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        }
    });
    for turn in ["first", "second", "third"] {
        provider.queue(Reply::text(&format!("the {turn} answer")));
        keyboard.write_all(format!("{turn}\r").as_bytes()).unwrap();
        eventually("the answer is shown", async || {
            let shown = shown.lock().unwrap();
            assert!(!shown.contains("error"), "{shown}");
            shown.contains(&format!("the {turn} answer")).then_some(())
        })
        .await;
        // A long pause has this effect: every connection is broken, which shows when it is used.
        link.reset_all();
    }
    keyboard.write_all(b"\x04").unwrap();
    assert!(child.wait().await.unwrap().success());
    drop(keyboard);
    reading.join().unwrap();
}
