//! A command on a terminal, with keys that are typed and text that is waited for.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use mcpctl_testkit::daemons::eventually;
use nix::pty::Winsize;
use tokio::process::Child;

use crate::shell::Shell;

/// A command on a terminal of 60 columns.
pub struct Terminal {
    pub child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Terminal {
    pub fn start(shell: &Shell, args: &[&str]) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let mut command = shell.command(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("COLUMNS");
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().unwrap();
        drop((command, pty.slave));
        let (keyboard, mut terminal) = (File::from(pty.master.try_clone().unwrap()), File::from(pty.master));
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
        Self { child, keyboard, shown, reading }
    }

    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a text is shown, and forgets everything up to it; returns what was shown before it.
    pub async fn shows(&self, text: &str) -> String {
        eventually(&format!("`{}` is shown", text.escape_debug()), async || {
            let mut shown = self.shown.lock().unwrap();
            let at = shown.find(text)?;
            let before = shown[..at].to_owned();
            shown.drain(..at + text.len());
            Some(before)
        })
        .await
    }

    /// Ends the conversation; returns what was shown since the last text that was waited for.
    pub async fn ends(mut self, keys: &str) -> String {
        self.keys(keys);
        assert!(self.child.wait().await.unwrap().success());
        drop(self.keyboard);
        self.reading.join().unwrap();
        self.shown.lock().unwrap().clone()
    }
}
