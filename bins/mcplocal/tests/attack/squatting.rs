//! Another user of the machine listens at the address of the agent or of its mcpd, or connects to the agent's own socket.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, eventually, program},
    deployment::openai_item,
    model_server::{ModelServer, Reply},
    other_user::{OTHER_UID, Squatter, may_act_as_other_user},
};
use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

const LLM: &str = r#"{"kind":"Llm","name":"claude","object":"list","data":[]}"#;

/// An agent whose mcpd is at `server`, where the user `alice` is signed in.
async fn agent_of(server: &str, desk: &ModelServer, more: &str) -> Mcplocal {
    let agent = Mcplocal::start(&format!(
        "server: {server}\nproviders:\n{}{more}",
        openai_item("desk", &desk.base_url(), &["failoverFor: claude"])
    ))
    .await;
    let contexts = agent.state_dir().ancestors().nth(3).unwrap().join("config/mcpctl/config.yaml");
    fs::create_dir_all(contexts.parent().unwrap()).unwrap();
    let text = format!(
        "currentContext: c\ncontexts:\n  - {{name: c, server: '{server}', user: alice, token: mcpd_alices}}\n"
    );
    fs::write(&contexts, text).unwrap();
    fs::set_permissions(&contexts, Permissions::from_mode(0o600)).unwrap();
    agent
}

#[tokio::test]
async fn another_users_mcpd_gets_no_bearer_and_no_prompt() {
    if !may_act_as_other_user() {
        return;
    }
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let squatter = Squatter::start(address, LLM);
        let server = format!("http://127.0.0.1:{}", squatter.address().port());
        let agent = agent_of(&server, &desk, "").await;
        let key = agent.local_key();
        for stream in [false, true] {
            let answer = agent.chat("claude", &key, stream).await;
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{address}");
        }
        let _ = agent.request(Method::GET, "/v1/models", &key).send().await.unwrap();
        assert_eq!(squatter.received(), "", "{address}");
        assert!(desk.inferences().is_empty(), "the probe was answered by another user");
        assert!(agent.log().contains("belongs to user"), "{}", agent.log());
    }
}

#[tokio::test]
async fn configured_system_user_may_run_mcpd() {
    if !may_act_as_other_user() {
        return;
    }
    let desk = ModelServer::start().await;
    let squatter = Squatter::start("127.0.0.1:0", LLM);
    for user in [OTHER_UID.to_string(), "'*'".to_owned()] {
        let agent = agent_of(&squatter.url(), &desk, &format!("serverUser: {user}\n")).await;
        let answer = agent.chat("claude", &agent.local_key(), false).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert!(squatter.received().contains("mcpd_alices"));
}

/// The error with which an agent with these directories does not start at an address.
fn start_error(homes: [(&'static str, PathBuf); 2], listen: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mcplocal.yaml");
    fs::write(&config, format!("server: https://mcpd.example.com\nlisten: {listen}\n")).unwrap();
    let output = Command::new(program("mcplocal"))
        .arg("--config")
        .arg(&config)
        .envs(homes)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn key_is_renewed_after_another_user_held_the_port() {
    if !may_act_as_other_user() {
        return;
    }
    let config = "server: https://mcpd.example.com\n";
    let mut agent = Mcplocal::start(config).await;
    let old = agent.local_key();
    agent.stop();
    let squatter = Squatter::start("127.0.0.1:0", LLM);
    let error = start_error(agent.homes(), &squatter.address().to_string());
    assert!(error.contains("a program of user `nobody` (uid 65534) listens there"), "{error}");
    assert!(error.contains("hint: choose another address with `listen`; clients may have given"), "{error}");
    drop(squatter);

    agent.restart().await;
    assert_ne!(agent.local_key(), old);
    assert!(agent.log().contains("the local key was renewed"), "{}", agent.log());
    let status = |key: String| agent.request(Method::GET, "/status", &key).send();
    assert_eq!(status(old).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(status(agent.local_key()).await.unwrap().status(), StatusCode::OK);
    let renewed = agent.local_key();
    agent.kill();
    agent.restart().await;
    assert_eq!(agent.local_key(), renewed, "the key was renewed twice");
}

#[tokio::test]
async fn program_of_the_same_user_on_the_port_is_named() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let homes =
        [("XDG_CONFIG_HOME", home.path().join("config")), ("XDG_STATE_HOME", home.path().join("state"))];
    let error = start_error(homes, &listener.local_addr().unwrap().to_string());
    assert!(
        error.contains("your program `") && error.contains(&format!("(pid {})", std::process::id())),
        "{error}"
    );
}

#[tokio::test]
async fn another_user_at_the_other_loopback_address_is_reported() {
    if !may_act_as_other_user() {
        return;
    }
    let squatter = Squatter::start("[::1]:0", LLM);
    let home = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", squatter.address().port());
    let config = home.path().join("mcplocal.yaml");
    fs::write(&config, format!("server: https://mcpd.example.com\nlisten: {listen}\n")).unwrap();
    let mut agent = tokio::process::Command::new(program("mcplocal"))
        .arg("--config")
        .arg(&config)
        .envs([
            ("XDG_CONFIG_HOME", home.path().join("config")),
            ("XDG_STATE_HOME", home.path().join("state")),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stderr.take().unwrap()).lines();
    let warning = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("another user's program listens on the agent's port") {
                return line;
            }
        }
        panic!("mcplocal ended")
    };
    let warning = tokio::time::timeout(Duration::from_secs(60), warning).await.unwrap();
    assert!(warning.contains(&format!("[::1]:{}", squatter.address().port())), "{warning}");
}

async fn by_socket(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn own_socket_is_private_and_needs_no_key() {
    let mcpd = Mcpd::start().await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let socket = agent.state_dir().join("agent.sock");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&agent.state_dir())), (0o600, 0o700));
    assert!(by_socket(&socket, &request("GET /status")).await.starts_with("HTTP/1.1 200 "));

    let old = agent.local_key();
    assert!(by_socket(&socket, &request("POST /api/v1/local-key/rotate")).await.starts_with("HTTP/1.1 204 "));
    let new = agent.local_key();
    assert_ne!(old, new);
    let at_port = |method, path, key: &str| agent.request(method, path, key).send();
    assert_eq!(at_port(Method::GET, "/status", &old).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(at_port(Method::GET, "/status", &new).await.unwrap().status(), StatusCode::OK);
    let rotating = at_port(Method::POST, "/api/v1/local-key/rotate", &new).await.unwrap();
    assert_eq!(rotating.status(), StatusCode::NOT_FOUND, "the holder of the key can lock the user out");
    let anonymous = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/status", agent.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_user_is_rejected_at_the_own_socket() {
    if !may_act_as_other_user() {
        return;
    }
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let socket = agent.state_dir().join("agent.sock");
    // Modes that its owner could set by mistake.
    for dir in socket.ancestors().take(5) {
        fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    }
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
                  s.sendall(b'GET /status HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n')\nprint('got', s.recv(99))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(&socket)
        .uid(OTHER_UID)
        .gid(OTHER_UID)
        .current_dir("/")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let rejections = ["got b''", "ConnectionResetError", "BrokenPipeError"];
    assert!(rejections.iter().any(|rejection| text.contains(rejection)), "{text}");
    eventually("the rejection is logged", async || {
        agent.log().contains("rejected a connection of another user to the socket").then_some(())
    })
    .await;
}
