//! The agent in the background, and how `mcpctl` and other programs find it.

use std::{
    fs::{self, File},
    io::Read as _,
    ops::Deref,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use mcpctl_testkit::daemons::{Mcplocal, eventually, program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::net::TcpStream;

use crate::shell::{CommandOutput, Shell, beside};

const CONFIG: &str = "server: https://mcpd.example.com\nlisten: 127.0.0.1:0\n";

/// A shell whose agent is configured and not named by a variable. Dropping it kills an agent that still runs.
struct ConfiguredShell(Shell);

impl Deref for ConfiguredShell {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.0
    }
}

impl Drop for ConfiguredShell {
    fn drop(&mut self) {
        if let Some(pid) = recorded(self) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn configured() -> ConfiguredShell {
    let mut shell = Shell::new();
    shell.env.clear();
    fs::create_dir_all(shell.path("config/mcpctl")).unwrap();
    shell.file("config/mcpctl/mcplocal.yaml", CONFIG);
    ConfiguredShell(shell)
}

fn without_address(agent: &Mcplocal) -> Shell {
    let mut shell = beside(agent);
    shell.env.retain(|(name, _)| *name != "MCPLOCAL_ADDRESS");
    shell
}

/// The address in `export OPENAI_BASE_URL=http://…/v1`.
fn address(env: &str) -> String {
    let line = env.lines().next().unwrap();
    line.trim_start_matches("export OPENAI_BASE_URL=http://").trim_end_matches("/v1").to_owned()
}

fn recorded(shell: &Shell) -> Option<Pid> {
    let record = fs::read(shell.path("state/mcpctl/mcplocal/agent.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
    Some(Pid::from_raw(record["pid"].as_i64()?.try_into().ok()?))
}

fn pid(shell: &Shell) -> Pid {
    recorded(shell).expect("a record")
}

#[tokio::test]
async fn up_shows_what_the_agent_lacks() {
    let shell = configured();
    let gone =
        "providers:\n  - {name: gone, type: llama-server-managed, model: /none.gguf, command: /none}\n";
    shell.file("config/mcpctl/mcplocal.yaml", &format!("{CONFIG}{gone}"));
    let CommandOutput { code, stderr, .. } = shell.run(&["local", "up"]).await;
    assert_eq!(code, 0, "{stderr}");
    for line in
        ["warning: /", "hint: check the path in `command`", "warning: probe: as trustworthy as the TLS to "]
    {
        assert!(stderr.lines().any(|shown| shown.starts_with(line)), "{line}\n{stderr}");
    }
    shell.run(&["local", "down"]).await.succeeded();
}

#[tokio::test]
async fn up_starts_one_agent_and_down_stops_it() {
    let shell = configured();
    let CommandOutput { code, stdout: out, stderr: err } = shell.run(&["local", "up"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("mcplocal listens on 127.0.0.1:") && err.contains("mcplocal.log"), "{out}{err}");
    let listen = out.trim().trim_start_matches("mcplocal listens on ").to_owned();
    assert_eq!(
        shell.run(&["local", "up"]).await.succeeded(),
        format!("mcplocal runs already in the background, on {listen}\n")
    );
    let other = shell.run(&["local", "up", "--config", "other.yaml"]).await;
    assert!(other.code == 0 && other.stderr.contains("where that is not `other.yaml`"), "{}", other.stderr);
    let env = shell.run(&["local", "env"]).await.succeeded();
    assert_eq!(address(&env), listen);
    assert!(env.contains(&format!("\nexport OPENAI_API_BASE=http://{listen}/v1\n")), "{env}");
    TcpStream::connect(&listen).await.unwrap();
    let log = fs::read_to_string(shell.path("state/mcpctl/mcplocal/mcplocal.log")).unwrap();
    // No sign-in has pinned a key yet, and the agent reports that.
    assert!(log.contains("mcplocal is ready") && log.matches("WARN").count() == 1, "{log}");

    let process = pid(&shell);
    assert_eq!(nix::unistd::getsid(Some(process)), Ok(process), "the agent is in the terminal's session");
    assert_eq!(shell.run(&["local", "down"]).await.succeeded(), "mcplocal is stopped\n");
    assert!(TcpStream::connect(&listen).await.is_err());
    assert!(!shell.path("state/mcpctl/mcplocal/agent.json").exists());
    assert_eq!(shell.run(&["local", "down"]).await.succeeded(), "mcplocal does not run\n");
}

#[tokio::test]
async fn up_reports_why_the_agent_could_not_start() {
    let shell = configured();
    shell.file("config/mcpctl/mcplocal.yaml", "server: https://mcpd.example.com\nlisten: 0.0.0.0:1\n");
    let error = shell.run(&["local", "up"]).await.failed(1);
    assert!(error.contains("mcplocal.yaml:2:9: `0.0.0.0:1` is not a loopback address"), "{error}");
    assert!(error.contains("\nhint: write e.g. `127.0.0.1:3200`\n"), "{error}");
}

#[tokio::test]
async fn down_leaves_an_agent_that_up_did_not_start() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let shell = without_address(&agent);
    let error = shell.run(&["local", "down"]).await.failed(1);
    let expected =
        format!("error: mcplocal (pid {}) was not started by `mcpctl local up`\nhint: ", agent.pid());
    assert!(error.starts_with(&expected), "{error}");
    let output = shell.run(&["local", "up"]).await.succeeded();
    assert!(output.starts_with("mcplocal runs already, on 127.0.0.1:"), "{output}");
}

#[tokio::test]
async fn env_prints_no_address_where_no_agent_listens() {
    let mut shell = configured();
    let nothing = |output: CommandOutput| {
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{}", output.stderr);
        output.stderr
    };
    let output = nothing(shell.run(&["local", "env"]).await);
    assert!(output.contains("hint: start it with `mcpctl local up`"), "{output}");

    // A killed agent leaves its record and its key behind.
    shell.run(&["local", "up"]).await.succeeded();
    let listen = address(&shell.run(&["local", "env"]).await.succeeded());
    kill(pid(&shell), Signal::SIGKILL).unwrap();
    eventually("the agent has ended", async || TcpStream::connect(&listen).await.err()).await;
    nothing(shell.run(&["local", "env"]).await);
    // Another program of this user that has taken the port is not the agent.
    let _taken = std::net::TcpListener::bind(&listen).unwrap();
    nothing(shell.run(&["local", "env"]).await);

    shell.0.env.push(("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned()));
    let output = nothing(shell.run(&["local", "env"]).await);
    assert!(output.contains("MCPLOCAL_ADDRESS: nothing listens at http://127.0.0.1:1"), "{output}");
    // Another process may have the id of the killed agent by now.
    fs::remove_file(shell.path("state/mcpctl/mcplocal/agent.json")).unwrap();
}

#[tokio::test]
async fn env_finds_an_agent_whose_socket_was_removed() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let shell = without_address(&agent);
    fs::remove_file(agent.state_dir().join("agent.sock")).unwrap();
    let env = shell.run(&["local", "env", "--shell", "fish"]).await.succeeded();
    assert!(env.starts_with(&format!("set -gx OPENAI_BASE_URL {}/v1\n", agent.url())), "{env}");
    let env = shell.run(&["local", "env", "--shell", "powershell"]).await.succeeded();
    assert!(env.contains(&format!("\n$Env:OPENAI_API_BASE = '{}/v1'\n", agent.url())), "{env}");
}

#[tokio::test]
async fn env_names_no_url_for_an_agent_at_a_unix_socket() {
    let shell = configured();
    let socket = shell.path("agent");
    let config = format!("server: https://mcpd.example.com\nlisten: unix:{}\n", socket.display());
    shell.file("config/mcpctl/mcplocal.yaml", &config);
    let output = shell.run(&["local", "up"]).await.succeeded();
    assert_eq!(output, format!("mcplocal listens on unix:{}\n", socket.display()));
    let CommandOutput { code, stdout: out, stderr: err } = shell.run(&["local", "env"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("which has no URL\nhint: set `listen: 127.0.0.1:3200`"), "{err}");
    shell.run(&["local", "down"]).await.succeeded();
}

/// Starts `mcplocal` on a terminal; returns it with the text that the terminal shows.
fn on_a_terminal(shell: &Shell, args: &[&str]) -> (Child, Arc<Mutex<String>>) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new(program("mcplocal"));
    command
        .args(args)
        .env("XDG_CONFIG_HOME", shell.path("config"))
        .env("XDG_STATE_HOME", shell.path("state"));
    command
        .env_remove("MCPLOCAL_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(pty.slave));
    let child = command.spawn().unwrap();
    let shown = Arc::new(Mutex::new(String::new()));
    let growing = Arc::clone(&shown);
    thread::spawn(move || {
        let (mut terminal, mut buffer) = (File::from(pty.master), [0; 4096]);
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            growing.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    (child, shown)
}

#[tokio::test]
async fn agent_on_a_terminal_shows_one_line_and_no_requests() {
    let shell = configured();
    let (mut agent, shown) = on_a_terminal(&shell, &["serve"]);
    let shown = || shown.lock().unwrap().clone();
    eventually("the line", async || shown().contains("mcplocal listens on 127.0.0.1:").then_some(())).await;
    shell.run(&["local", "status"]).await.succeeded();
    let lines: Vec<String> = shown().lines().map(str::to_owned).collect();
    // Besides the one line a warning, because no sign-in has pinned a key yet.
    let warnings = lines.iter().filter(|line| line.contains("no key of mcpd is pinned"));
    assert!(lines.len() == 2 && warnings.count() == 1, "{lines:?}");
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(agent.wait().unwrap().success());

    let (mut agent, shown) = on_a_terminal(&shell, &["-v"]);
    let shown = || shown.lock().unwrap().clone();
    eventually("the log", async || shown().contains("mcplocal is ready").then_some(())).await;
    // The agent handles signals once it serves.
    shell.run(&["local", "status"]).await.succeeded();
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(agent.wait().unwrap().success());
    eventually("the end", async || shown().contains("asked to end").then_some(())).await;
}
