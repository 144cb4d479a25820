//! Responses to the probe that are not mcpd's *allowed*: the caller gets the primary's own error, and the local model never
//! sees the prompt.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcpctl_secret::token::{self, Prefix};
use mcpctl_testkit::{
    daemons::{Mcplocal, program},
    model_server::{ModelServer, Reply},
};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::support::for_each;

const PRIMARY_ERROR: &str =
    r#"{"error":{"message":"the primary's own words","type":"server_error","code":"own"}}"#;

/// The headers of mcpd's *allowed*, which another server can copy.
const MARKS: &str = "content-type: application/json\r\netag: \"7\"\r\nmcpctl-request-id: 0190-spoofed\r\nconnection: close\r\n";

/// The response to the probe of one Llm.
#[derive(Debug, Clone)]
enum Spoof {
    /// Sends this and closes.
    Send(Vec<u8>),
    /// Sends this and keeps the connection.
    Keep(Vec<u8>),
    /// Sends this repeatedly until the agent closes the connection.
    Endless(Vec<u8>),
    /// Sends this byte by byte, slowly.
    Drip(Vec<u8>),
    /// Sends nothing and keeps the connection.
    Silent,
    /// Closes without a byte.
    Close,
    /// Resets the connection.
    Reset,
}

fn send(text: impl Into<String>) -> Spoof {
    Spoof::Send(text.into().into_bytes())
}

/// A response with this status and these headers, each of which ends with CRLF, and otherwise like mcpd's.
fn head(status: &str, headers: &str) -> String {
    head_with_line(&format!("HTTP/1.1 {status}"), headers)
}

/// As [`head`], with any first line.
fn head_with_line(line: &str, headers: &str) -> String {
    format!("{line}\r\n{MARKS}{headers}\r\n")
}

/// A server in mcpd's place that responds by the Llm in the probe's path, and records request lines.
struct Spoofer {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Spoofer {
    async fn start(spoofs: BTreeMap<String, Spoof>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (seen, spoofs) = (Arc::clone(&lines), Arc::new(spoofs));
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&spoofs), Arc::clone(&seen)));
            }
        });
        Self { url, lines, accepting }
    }
}

impl Drop for Spoofer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    mut connection: TcpStream,
    spoofs: Arc<BTreeMap<String, Spoof>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match connection.read(&mut buffer).await {
                Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap().push(line.clone());
        let llm = line.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        match spoofs.get(llm) {
            Some(Spoof::Send(bytes)) => {
                let _ = connection.write_all(bytes).await;
                let _ = connection.shutdown().await;
                return;
            }
            Some(Spoof::Keep(bytes)) => {
                let _ = connection.write_all(bytes).await;
            }
            Some(Spoof::Endless(bytes)) => {
                while connection.write_all(bytes).await.is_ok() {}
                return;
            }
            Some(Spoof::Drip(bytes)) => {
                for byte in bytes {
                    tokio::time::sleep(Duration::from_millis(60)).await;
                    if connection.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            }
            Some(Spoof::Silent) => {
                let _ = connection.read(&mut buffer).await;
                return;
            }
            Some(Spoof::Reset) => {
                connection.set_zero_linger().unwrap();
                return;
            }
            Some(Spoof::Close) | None => return,
        }
    }
}

/// An agent with a primary that always fails, a spoofed mcpd and a local model.
struct SpoofedAgent {
    agent: Mcplocal,
    spoofer: Spoofer,
    desk: ModelServer,
    _primary: ModelServer,
    bearer: String,
}

impl SpoofedAgent {
    /// The agent reaches the spoofed mcpd by `scheme`.
    async fn start(spoofs: BTreeMap<String, Spoof>, scheme: &str) -> Self {
        let llms: Vec<_> = spoofs.keys().cloned().collect();
        let spoofer = Spoofer::start(spoofs).await;
        let primary = Reply::status(503, PRIMARY_ERROR).header("content-type", "application/json");
        let primary = ModelServer::with_default(primary).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\ninference: http://{}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: [{}]\n",
            spoofer.url.replace("http", scheme),
            primary.address(),
            desk.base_url(),
            llms.join(", ")
        ))
        .await;
        let bearer = token::mint(Prefix::Mcpd).unwrap().expose().to_owned();
        Self { agent, spoofer, desk, _primary: primary, bearer }
    }

    /// Sends a chat to an Llm; returns whether the local model answered it. Fails where neither it nor the primary's error
    /// came back.
    async fn fails_over(&self, llm: &str, stream: bool) -> bool {
        let prompt = format!("prompt for {llm}");
        let body = json!({"model": llm, "stream": stream, "messages": [{"role": "user", "content": prompt}]});
        let request = self.agent.request(Method::POST, "/v1/chat/completions", &self.bearer).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        if status == 503 {
            assert_eq!(text, PRIMARY_ERROR, "{llm}: the primary's error is changed");
            return false;
        }
        assert_eq!(status, 200, "{llm}: {text}");
        true
    }

    /// The Llms whose prompts the local model saw.
    fn seen_locally(&self) -> BTreeSet<String> {
        let bodies = self.desk.inferences().into_iter();
        bodies
            .map(|seen| seen.json()["messages"][0]["content"].as_str().unwrap().replace("prompt for ", ""))
            .collect()
    }

    /// Fails where the agent sent anything but probes of these Llms, and questions for a feed of what it runs.
    fn assert_only_probes(&self, llms: &BTreeSet<String>) {
        let lines = self.spoofer.lines.lock().unwrap();
        for line in lines.iter().filter(|line| !line.starts_with("GET /api/v1/feed?llms=")) {
            let llm = line.strip_prefix("HEAD /api/v1/llms/").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
            assert!(llm.is_some_and(|llm| llms.contains(llm)), "the agent sent {line}");
        }
    }
}

#[tokio::test]
async fn only_200_and_204_allow() {
    let mut spoofs = BTreeMap::new();
    for status in 100..600 {
        spoofs.insert(format!("s{status}"), send(head(&format!("{status} Word"), "content-length: 0\r\n")));
    }
    let llms: BTreeSet<_> = spoofs.keys().cloned().collect();
    let agent = SpoofedAgent::start(spoofs, "http").await;
    let allowed = Mutex::new(BTreeSet::new());
    for_each(llms.iter().enumerate(), async |(at, llm)| {
        if agent.fails_over(llm, at % 2 == 0).await {
            allowed.lock().unwrap().insert(llm.clone());
        }
    })
    .await;
    let expected = BTreeSet::from(["s200".to_owned(), "s204".to_owned()]);
    assert_eq!(allowed.into_inner().unwrap(), expected);
    assert_eq!(agent.seen_locally(), expected, "the local model saw a prompt");
    agent.assert_only_probes(&llms);
}

#[tokio::test]
async fn incomplete_or_foreign_responses_deny() {
    let elsewhere = ModelServer::start().await;
    let location = format!("location: http://{}/v1/models\r\ncontent-length: 0\r\n", elsewhere.address());
    let long = "a".repeat(20 << 10);
    let denied = head("403 Forbidden", "content-length: 0\r\n");
    let allowed = head("200 OK", "content-length: 0\r\n");
    let rows = [
        ("silent", Spoof::Silent),
        ("close", Spoof::Close),
        ("reset", Spoof::Reset),
        ("slow", Spoof::Drip(allowed.clone().into_bytes())),
        ("cut-status", send("HTTP/1.1 20")),
        ("cut-line", send("HTTP/1.1 200 OK")),
        ("cut-head", send(head("200 OK", "").trim_end_matches("\r\n").to_owned() + "\r\n")),
        ("cut-header", send("HTTP/1.1 200 OK\r\ncontent-le")),
        ("kept-head", Spoof::Keep(head("200 OK", "").trim_end_matches("\r\n").into())),
        ("moved", send(head("301 Moved Permanently", &location))),
        ("found", send(head("302 Found", &location))),
        ("see-other", send(head("303 See Other", &location))),
        ("temporary", send(head("307 Temporary Redirect", &location))),
        ("permanent", send(head("308 Permanent Redirect", &location))),
        (
            "refresh",
            send(head("403 Forbidden", &format!("refresh: 0; url=http://{}/\r\n", elsewhere.address()))),
        ),
        ("long-head", send(head("200 OK", &format!("x: {long}\r\ncontent-length: 0\r\n")))),
        ("many-headers", send(head("200 OK", &"x: a\r\n".repeat(500)))),
        ("endless-head", Spoof::Endless(b"HTTP/1.1 200 OK\r\nx: a\r\nx: a\r\nx: a\r\nx: a".to_vec())),
        ("endless-line", Spoof::Endless(b"HTTP/1.1 200 OK".to_vec())),
        ("endless-100", Spoof::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())),
        ("continue-403", send(format!("HTTP/1.1 100 Continue\r\n\r\n{denied}"))),
        ("early-hints-403", send(format!("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{denied}"))),
        ("early-hints", send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")),
        (
            "switching",
            send("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        ),
        ("http-09", send("ok\n")),
        ("http-2", send(head_with_line("HTTP/2.0 200 OK", ""))),
        ("http-3", send(head_with_line("HTTP/3 200", ""))),
        ("icy", send(head_with_line("ICY 200 OK", ""))),
        ("rtsp", send(head_with_line("RTSP/1.0 200 OK", ""))),
        ("lower-case", send(head_with_line("http/1.1 200 OK", ""))),
        ("letters", send(head_with_line("HTTP/1.1 2OO OK", ""))),
        ("two-digits", send(head_with_line("HTTP/1.1 20 OK", ""))),
        ("four-digits", send(head_with_line("HTTP/1.1 2000 OK", ""))),
        ("zero-first", send(head_with_line("HTTP/1.1 0200 OK", ""))),
        ("negative", send(head_with_line("HTTP/1.1 -200 OK", ""))),
        ("no-status", send(head_with_line("HTTP/1.1 OK", ""))),
        ("tab", send(head_with_line("HTTP/1.1\t200 OK", ""))),
        ("space-first", send(head_with_line(" HTTP/1.1 200 OK", ""))),
        ("nul-header", send(head("200 OK", "x: a\0b\r\n"))),
        ("bad-header", send(head("200 OK", "no colon\r\n"))),
        ("ssh", send("SSH-2.0-OpenSSH_9.6\r\n")),
        ("smtp", send("220 mail.example ESMTP\r\n")),
        ("tls-alert", Spoof::Send(vec![0x15, 3, 3, 0, 2, 2, 40])),
        ("http2-frames", Spoof::Send(vec![0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88])),
        ("zeros", Spoof::Send(vec![0; 4096])),
        ("denied-then-allowed", Spoof::Keep(format!("{denied}{allowed}").into_bytes())),
        ("denied-with-body", send(format!("{denied}HTTP/1.1 200 OK\r\n\r\n"))),
        ("words", send(head("403 200 OK", "x-status: 200\r\nstatus: 200 OK\r\n"))),
        ("unauthorized", send(head("401 Unauthorized", "mcpctl-access: allowed\r\n"))),
        ("accepted", send(head("202 Accepted", "content-length: 0\r\n"))),
        ("not-authoritative", send(head("203 OK", "content-length: 0\r\n"))),
        ("not-modified", send(head("304 Not Modified", "etag: \"1\"\r\n"))),
    ];
    let mut spoofs: BTreeMap<_, _> = rows.into_iter().map(|(name, spoof)| (name.to_owned(), spoof)).collect();
    let llms: BTreeSet<_> = spoofs.keys().cloned().collect();
    spoofs.insert("control".to_owned(), send(&allowed));
    let agent = SpoofedAgent::start(spoofs, "http").await;
    // Twice: bytes that a response leaves in a connection must not answer the next probe.
    for stream in [false, true] {
        for_each(&llms, async |llm| {
            assert!(!agent.fails_over(llm, stream).await, "{llm}: the local model answered");
        })
        .await;
    }
    assert!(agent.seen_locally().is_empty());
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
    agent.assert_only_probes(&llms);
    assert!(agent.fails_over("control", false).await, "a plain 200 allows");
}

/// A made-up credential, with an id that no mcpd made, has the agent ask mcpd once, and not about each name that it has.
#[tokio::test]
async fn made_up_bearer_and_id_cost_one_probe() {
    let denied = || send(head("401 Unauthorized", "content-length: 0\r\n"));
    let spoofs = (0..20).map(|number| (format!("llm-{number}"), denied())).collect();
    let agent = SpoofedAgent::start(spoofs, "http").await;
    let id = format!("c{:0>24}", "id");
    assert!(!agent.fails_over(&id, false).await);
    let lines = agent.spoofer.lines.lock().unwrap();
    let probes: Vec<_> = lines.iter().filter(|line| line.starts_with("HEAD ")).collect();
    assert_eq!(probes, [&format!("HEAD /api/v1/llms/{id} HTTP/1.1")]);
}

#[tokio::test]
async fn server_without_tls_does_not_pass_for_https() {
    let spoofs = BTreeMap::from([("claude".to_owned(), send(head("200 OK", "content-length: 0\r\n")))]);
    let agent = SpoofedAgent::start(spoofs, "https").await;
    assert!(!agent.fails_over("claude", false).await);
    assert!(agent.seen_locally().is_empty());
    assert!(agent.spoofer.lines.lock().unwrap().is_empty(), "the probe was sent in the clear");
}

#[test]
fn urls_that_would_change_the_probes_path_are_rejected() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mcplocal.yaml");
    for server in [
        "http://127.0.0.1:1/?x",
        "http://127.0.0.1:1/#x",
        "http://a:b@127.0.0.1:1",
        "ftp://127.0.0.1",
        "file:///tmp",
    ] {
        std::fs::write(&file, format!("server: '{server}'\nlisten: 127.0.0.1:0\n")).unwrap();
        // The timeout ends an agent that starts.
        let mut start = Command::new("timeout");
        start.arg("60").arg(program("mcplocal")).arg("--config").arg(&file);
        let output =
            start.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{server}: {code:?}: {error}");
        assert!(error.starts_with("error: "), "{server}: {error}");
    }
}
