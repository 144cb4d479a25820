//! `mcpctl top`: on a terminal, where it leaves no trace, and once.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpctl_testkit::{
    central::Central,
    daemons::eventually,
    deployment::Deployment,
    model_server::{Gate, Reply},
};
use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::shell::{Shell, beside};

/// Turns to the second screen, and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A command that runs on a terminal.
struct OnTerminal {
    child: Child,
    keyboard: File,
    /// The command's end, so that the terminal outlives it.
    other_end: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(shell: &Shell, args: &[&str], columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let before = tcgetattr(slave.as_fd()).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut command = shell.command(args);
        command.stdin(end()).stdout(end()).stderr(end()).env("NO_COLOR", "1").env_remove("COLUMNS");
        let child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, added) = (File::from(master.try_clone().unwrap()), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                added.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keyboard: File::from(master), other_end: slave, before, shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// The lines of the last page that was drawn whole.
    fn page(&self) -> Vec<String> {
        let text = self.text();
        let pages: Vec<&str> = text.split("\u{1b}[H").skip(1).collect();
        let whole = pages.iter().rev().find_map(|page| page.split_once("\u{1b}[J"));
        let lines = whole.map(|(page, _)| page.replace("\u{1b}[K", "").replace('\r', "")).unwrap_or_default();
        lines.lines().map(str::to_owned).collect()
    }

    /// Waits until a line of the page is as wanted, and returns the page.
    async fn shows(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        eventually(what, async || {
            let page = self.page();
            page.iter().any(|line| is_wanted(line)).then_some(page)
        })
        .await
    }

    fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), signal).unwrap();
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size =
            [("cols", columns), ("rows", rows)].map(|(name, size)| [name.to_owned(), size.to_string()]);
        let terminal = Stdio::from(self.other_end.try_clone().unwrap());
        let mut stty = std::process::Command::new("stty");
        assert!(stty.args(size.concat()).stdin(terminal).status().unwrap().success());
        // The kernel sends it to the terminal's session, and the test has none.
        self.signal(Signal::SIGWINCH);
    }

    /// Waits for the end, and fails unless the terminal is as it was, with this text on it besides.
    async fn ends(mut self, code: i32, left: &str) {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        assert_eq!(ended.expect("it ends").unwrap().code(), Some(code), "{}", self.text());
        assert_eq!(tcgetattr(self.other_end.as_fd()).unwrap(), self.before, "the terminal's modes");
        let text = eventually("the first screen is back", async || {
            let text = self.text();
            text.split_once(LEAVE).is_some_and(|(_, after)| after.contains(left)).then_some(text)
        })
        .await;
        assert_eq!((text.matches(ENTER).count(), text.matches(LEAVE).count()), (1, 1), "{text:?}");
        let after = text.split_once(LEAVE).unwrap().1;
        assert!(after.starts_with("error: ") || (after.is_empty() && left.is_empty()), "{after:?}");
    }
}

async fn stream(deployment: &Deployment) -> reqwest::Response {
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    deployment.send(&body).await
}

/// A person watches an Llm, makes the window smaller, sees mcpd restart, and quits.
#[tokio::test]
async fn terminal_shows_what_runs_survives_a_restart_and_is_given_back() {
    let mut deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    let mut top = OnTerminal::start(&shell, &["top", "--interval", "500ms"], 80, 24);
    top.shows("an Llm without requests", |line| line.starts_with("claude ") && line.contains("unused")).await;

    let gate = Gate::new();
    deployment.provider.queue(Reply::pieces(&["a ", "b ", "c ", "d"]).gate_after(3, &gate));
    let running = stream(&deployment).await;
    let page = top.shows("the stream", |line| line.contains("running 1 (streams 1)")).await;
    assert!(page.len() <= 24 && page.iter().all(|line| line.chars().count() <= 80), "{page:#?}");
    assert!(page[0].starts_with("mcpctl top  q quits  every 500ms  "), "{page:#?}");
    assert!(page.iter().any(|line| line.starts_with("agent: up ")), "{page:#?}");
    assert!(page.iter().any(|line| line.starts_with("desk ") && line.contains("external")), "{page:#?}");
    gate.release();
    running.bytes().await.unwrap();
    top.shows("it has ended", |line| line.contains("running 0 (streams 0)")).await;
    deployment.overload_provider();
    deployment.chat().await.bytes().await.unwrap();
    let is_bad = |line: &str| ["failing", "breaker open"].iter().any(|state| line.ends_with(state));
    top.shows("the failure", |line| line.starts_with("claude ") && is_bad(line)).await;
    top.shows("the failover", |line| line.contains("failovers 1, refused 0, failed 0")).await;

    top.resize(40, 10);
    let page =
        top.shows("a small page", |line| line.chars().count() <= 40 && line.starts_with("mcpctl")).await;
    assert!(page.len() <= 10 && page.iter().all(|line| line.chars().count() <= 40), "{page:#?}");
    top.resize(120, 30);
    top.shows("a wide page", |line| line.contains("STREAMS") && line.contains("FALLBACKS")).await;

    deployment.mcpd.kill();
    top.shows("mcpd is away", |line| line.starts_with("mcpd does not answer, asking again: ")).await;
    deployment.mcpd.restart().await;
    top.shows("mcpd is back", |line| line == "mcpd was started anew: its counts begin again").await;
    top.press(b'x');
    top.press(b'q');
    top.ends(0, "").await;
}

#[tokio::test]
async fn every_way_out_gives_the_terminal_back() {
    let world = Central::start(&["claude"]).await;
    let shell = Shell::signed_in(&world.mcpd).await;
    let start = async || {
        let top = OnTerminal::start(&shell, &["top", "-d", "500ms"], 80, 24);
        top.shows("an Llm", |line| line.starts_with("claude ")).await;
        top
    };
    // Ctrl-C, Ctrl-D.
    for key in [3, 4] {
        let mut top = start().await;
        top.press(key);
        top.ends(0, "").await;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let top = start().await;
        top.signal(signal);
        top.ends(0, "").await;
    }
    // The credential ends: the reason stands on the first screen.
    let token = world.mcpd.user("eve", Some("llm-user")).await;
    let mut eve = Shell::new();
    eve.env.extend([("MCPCTL_SERVER", world.mcpd.url().to_owned()), ("MCPCTL_TOKEN", token)]);
    let top = OnTerminal::start(&eve, &["top", "-d", "500ms"], 80, 24);
    top.shows("an Llm", |line| line.starts_with("claude ")).await;
    assert!(world.mcpd.delete("/api/v1/users/eve", &world.mcpd.admin()).await.status().is_success());
    top.ends(1, "\nhint: unset MCPCTL_TOKEN, or set it to a valid token").await;
}

#[tokio::test]
async fn one_table_where_there_is_no_terminal() {
    let world = Central::start(&["gpt", "claude"]).await;
    let shell = Shell::signed_in(&world.mcpd).await;
    let top = tokio::spawn({
        let mut command = shell.command(&["top", "-o", "json", "-d", "1s"]);
        async move { command.output().await.unwrap() }
    });
    // Requests until it has seen some between its two questions.
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "hello there"}]});
    while !top.is_finished() {
        world.mcpd.post("/v1/chat/completions", &world.alice, &body).await.bytes().await.unwrap();
    }
    let output = top.await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let claude = &report["llms"][0];
    assert_eq!(
        (&claude["llm"], &claude["state"]),
        (&json!("claude"), &json!("ok")),
        "the busiest first: {report}"
    );
    assert!(claude["requestsPerSecond"].as_f64().unwrap() > 0.0, "{report}");
    assert!(claude["outputTokensPerSecond"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["llms"][1]["requestsPerSecond"], 0.0, "{report}");
    assert_eq!((&report["replicas"], &report["agent"]), (&json!(1), &Value::Null), "{report}");

    let table = shell.run(&["top", "--interval", "500ms"]).await.succeeded();
    assert!(table.starts_with("mcpd: ") && table.contains("\nLLM "), "{table}");
    assert!(!table.contains('\u{1b}') && table.lines().count() == 5, "{table}");
    for (args, error) in [
        (&["top", "-d", "1ms"][..], "it is between 500ms and 5m"),
        (&["top", "-d", "soon"], "is not a length of time"),
    ] {
        let text = shell.run(args).await.failed(2);
        assert!(text.contains(error) && text.lines().count() <= 2, "{text}");
    }
    let error = Shell::new().run(&["top"]).await.failed(1);
    assert_eq!(error, "error: no server is known\nhint: mcpctl login https://mcpd.example.com\n");
}

/// A developer whose mcpd is away still sees the own machine.
#[tokio::test]
async fn agent_is_shown_without_mcpd() {
    let mut deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    let table = shell.run(&["top", "-d", "500ms"]).await;
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert!(table.stderr.starts_with("mcpd is not asked: no server is known"), "{}", table.stderr);
    assert!(table.stdout.contains("\ndesk "), "{}", table.stdout);
    shell.run_with(&["login", deployment.mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    deployment.mcpd.kill();
    let table = shell.run(&["top", "-d", "500ms"]).await;
    assert!(table.stderr.contains("mcpd does not answer"), "{}", table.stderr);
    assert!(table.code == 0 && table.stdout.contains("\ndesk "), "{}", table.stdout);
    deployment.agent.kill();
    let error = shell.run(&["top", "-d", "500ms"]).await.failed(1);
    assert!(error.contains("cannot be reached"), "{error}");
}
