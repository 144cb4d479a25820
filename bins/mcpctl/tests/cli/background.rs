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

use crate::shell::{Said, Shell, beside};

const CONFIG: &str = "server: https://mcpd.example.com\nlisten: 127.0.0.1:0\n";

/// A person whose agent is configured, and follows no variable. An agent that is left in the background is killed.
struct Person(Shell);

impl Deref for Person {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.0
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if let Some(pid) = recorded(self) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn configured() -> Person {
    let mut shell = Shell::new();
    shell.more.clear();
    fs::create_dir_all(shell.path("config/mcpctl")).unwrap();
    shell.file("config/mcpctl/mcplocal.yaml", CONFIG);
    Person(shell)
}

fn without_address(agent: &Mcplocal) -> Shell {
    let mut shell = beside(agent);
    shell.more.retain(|(name, _)| *name != "MCPLOCAL_ADDRESS");
    shell
}

/// The address of `export OPENAI_BASE_URL=http://…/v1`.
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
async fn up_starts_one_agent_and_down_stops_it() {
    let shell = configured();
    let Said { code, out, err } = shell.run(&["local", "up"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("mcplocal listens on 127.0.0.1:") && err.contains("mcplocal.log"), "{out}{err}");
    let listen = out.trim().trim_start_matches("mcplocal listens on ").to_owned();
    assert_eq!(
        shell.run(&["local", "up"]).await.good(),
        format!("mcplocal runs already in the background, on {listen}\n")
    );
    let env = shell.run(&["local", "env"]).await.good();
    assert_eq!(address(&env), listen);
    assert!(env.contains(&format!("\nexport OPENAI_API_BASE=http://{listen}/v1\n")), "{env}");
    TcpStream::connect(&listen).await.unwrap();
    let log = fs::read_to_string(shell.path("state/mcpctl/mcplocal/mcplocal.log")).unwrap();
    assert!(log.contains("mcplocal is ready") && !log.contains("WARN"), "{log}");

    let process = pid(&shell);
    assert_eq!(nix::unistd::getsid(Some(process)), Ok(process), "it has left the terminal's session");
    assert_eq!(shell.run(&["local", "down"]).await.good(), "mcplocal is stopped\n");
    assert!(TcpStream::connect(&listen).await.is_err());
    assert!(!shell.path("state/mcpctl/mcplocal/agent.json").exists());
    assert_eq!(shell.run(&["local", "down"]).await.good(), "mcplocal does not run\n");
}

#[tokio::test]
async fn up_reports_why_the_agent_could_not_start() {
    let shell = configured();
    shell.file("config/mcpctl/mcplocal.yaml", "server: https://mcpd.example.com\nlisten: 0.0.0.0:1\n");
    let said = shell.run(&["local", "up"]).await.failed(1);
    assert!(said.contains("mcplocal.yaml:2:9: `0.0.0.0:1` is not a loopback address"), "{said}");
    assert!(said.contains("\nhint: write e.g. `127.0.0.1:3200`\n"), "{said}");
}

#[tokio::test]
async fn down_leaves_an_agent_that_up_did_not_start() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let shell = without_address(&agent);
    let said = shell.run(&["local", "down"]).await.failed(1);
    let expected =
        format!("error: mcplocal (pid {}) was not started by `mcpctl local up`\nhint: ", agent.pid());
    assert!(said.starts_with(&expected), "{said}");
    let said = shell.run(&["local", "up"]).await.good();
    assert!(said.starts_with("mcplocal runs already, on 127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn env_prints_no_address_where_no_agent_listens() {
    let mut shell = configured();
    let nothing = |said: Said| {
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
        said.err
    };
    let said = nothing(shell.run(&["local", "env"]).await);
    assert!(said.contains("hint: start it with `mcpctl local up`"), "{said}");

    // A killed agent leaves its record and its key.
    shell.run(&["local", "up"]).await.good();
    let listen = address(&shell.run(&["local", "env"]).await.good());
    kill(pid(&shell), Signal::SIGKILL).unwrap();
    eventually("the agent is gone", async || TcpStream::connect(&listen).await.err()).await;
    nothing(shell.run(&["local", "env"]).await);
    // Nor does it name another program of this user that took the port.
    let _taken = std::net::TcpListener::bind(&listen).unwrap();
    nothing(shell.run(&["local", "env"]).await);

    shell.0.more.push(("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned()));
    let said = nothing(shell.run(&["local", "env"]).await);
    assert!(said.contains("MCPLOCAL_ADDRESS: nothing listens at http://127.0.0.1:1"), "{said}");
    // Its process may have another one's number by now.
    fs::remove_file(shell.path("state/mcpctl/mcplocal/agent.json")).unwrap();
}

#[tokio::test]
async fn env_finds_an_agent_whose_socket_was_removed() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let shell = without_address(&agent);
    fs::remove_file(agent.state_dir().join("agent.sock")).unwrap();
    let env = shell.run(&["local", "env", "--shell", "fish"]).await.good();
    assert!(env.starts_with(&format!("set -gx OPENAI_BASE_URL {}/v1\n", agent.url())), "{env}");
    let env = shell.run(&["local", "env", "--shell", "powershell"]).await.good();
    assert!(env.contains(&format!("\n$Env:OPENAI_API_BASE = '{}/v1'\n", agent.url())), "{env}");
}

#[tokio::test]
async fn env_names_no_url_for_an_agent_at_a_unix_socket() {
    let shell = configured();
    let socket = shell.path("agent");
    let config = format!("server: https://mcpd.example.com\nlisten: unix:{}\n", socket.display());
    shell.file("config/mcpctl/mcplocal.yaml", &config);
    let said = shell.run(&["local", "up"]).await.good();
    assert_eq!(said, format!("mcplocal listens on unix:{}\n", socket.display()));
    let Said { code, out, err } = shell.run(&["local", "env"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("which has no URL\nhint: set `listen: 127.0.0.1:3200`"), "{err}");
    shell.run(&["local", "down"]).await.good();
}

/// Starts `mcplocal` on a terminal, and gives it with what the terminal shows.
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
    shell.run(&["local", "status"]).await.good();
    assert_eq!(shown().lines().count(), 1, "{}", shown());
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(agent.wait().unwrap().success());

    let (mut agent, shown) = on_a_terminal(&shell, &["-v"]);
    let shown = || shown.lock().unwrap().clone();
    eventually("the log", async || shown().contains("mcplocal is ready").then_some(())).await;
    // It takes signals once it serves.
    shell.run(&["local", "status"]).await.good();
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(agent.wait().unwrap().success());
    eventually("the end", async || shown().contains("asked to end").then_some(())).await;
}
