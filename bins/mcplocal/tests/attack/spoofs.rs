//! Answers to the probe that are not the centre's *allowed*: the caller gets the primary's own error, and the local
//! model never sees the prompt.

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

/// The headers of an *allowed* of mcpd's, which a false centre can copy.
const MARKS: &str = "content-type: application/json\r\netag: \"7\"\r\nmcpctl-request-id: 0190-spoofed\r\nconnection: close\r\n";

/// How the false centre answers the probe of one Llm.
#[derive(Debug, Clone)]
enum Spoof {
    /// Sends this and closes.
    Say(Vec<u8>),
    /// Sends this and keeps the connection.
    Keep(Vec<u8>),
    /// Sends this again and again, until the agent leaves.
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

fn say(text: impl Into<String>) -> Spoof {
    Spoof::Say(text.into().into_bytes())
}

/// An answer of this status and these headers, each ending with CRLF, that is otherwise like mcpd's.
fn head(status: &str, headers: &str) -> String {
    answer_of(&format!("HTTP/1.1 {status}"), headers)
}

/// As [`head`], of any first line.
fn answer_of(line: &str, headers: &str) -> String {
    format!("{line}\r\n{MARKS}{headers}\r\n")
}

/// A server that answers by the Llm of the probe's path, and records request lines.
struct Centre {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Centre {
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

impl Drop for Centre {
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
            Some(Spoof::Say(bytes)) => {
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

/// An agent between a primary that fails in its own words, a false centre and a local model.
struct World {
    agent: Mcplocal,
    centre: Centre,
    desk: ModelServer,
    _primary: ModelServer,
    bearer: String,
}

impl World {
    /// `server` is the scheme and address of the centre; the false one's where it is left out.
    async fn new(spoofs: BTreeMap<String, Spoof>, scheme: &str) -> Self {
        let llms: Vec<_> = spoofs.keys().cloned().collect();
        let centre = Centre::start(spoofs).await;
        let primary = Reply::status(503, PRIMARY_ERROR).header("content-type", "application/json");
        let primary = ModelServer::with_default(primary).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\ninference: http://{}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: [{}]\n",
            centre.url.replace("http", scheme),
            primary.address(),
            desk.base_url(),
            llms.join(", ")
        ))
        .await;
        let bearer = token::mint(Prefix::Mcpd).unwrap().expose().to_owned();
        Self { agent, centre, desk, _primary: primary, bearer }
    }

    /// Asks for an Llm; answers whether the local model answered. Fails where it is neither that nor the primary's error.
    async fn asks(&self, llm: &str, stream: bool) -> bool {
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

    /// Fails where the agent asked the centre for anything but the probes of these Llms.
    fn assert_only_probes(&self, llms: &BTreeSet<String>) {
        for line in self.centre.lines.lock().unwrap().iter() {
            let llm = line.strip_prefix("HEAD /api/v1/llms/").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
            assert!(llm.is_some_and(|llm| llms.contains(llm)), "the centre was asked: {line}");
        }
    }
}

#[tokio::test]
async fn only_200_and_204_allow() {
    let mut spoofs = BTreeMap::new();
    for status in 100..600 {
        spoofs.insert(format!("s{status}"), say(head(&format!("{status} Word"), "content-length: 0\r\n")));
    }
    let llms: BTreeSet<_> = spoofs.keys().cloned().collect();
    let world = World::new(spoofs, "http").await;
    let allowed = Mutex::new(BTreeSet::new());
    for_each(llms.iter().enumerate(), async |(at, llm)| {
        if world.asks(llm, at % 2 == 0).await {
            allowed.lock().unwrap().insert(llm.clone());
        }
    })
    .await;
    let expected = BTreeSet::from(["s200".to_owned(), "s204".to_owned()]);
    assert_eq!(allowed.into_inner().unwrap(), expected);
    assert_eq!(world.seen_locally(), expected, "the local model saw a prompt");
    world.assert_only_probes(&llms);
}

#[tokio::test]
async fn answers_that_are_no_whole_answer_deny() {
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
        ("cut-status", say("HTTP/1.1 20")),
        ("cut-line", say("HTTP/1.1 200 OK")),
        ("cut-head", say(head("200 OK", "").trim_end_matches("\r\n").to_owned() + "\r\n")),
        ("cut-header", say("HTTP/1.1 200 OK\r\ncontent-le")),
        ("kept-head", Spoof::Keep(head("200 OK", "").trim_end_matches("\r\n").into())),
        ("moved", say(head("301 Moved Permanently", &location))),
        ("found", say(head("302 Found", &location))),
        ("see-other", say(head("303 See Other", &location))),
        ("temporary", say(head("307 Temporary Redirect", &location))),
        ("permanent", say(head("308 Permanent Redirect", &location))),
        (
            "refresh",
            say(head("403 Forbidden", &format!("refresh: 0; url=http://{}/\r\n", elsewhere.address()))),
        ),
        ("long-head", say(head("200 OK", &format!("x: {long}\r\ncontent-length: 0\r\n")))),
        ("many-headers", say(head("200 OK", &"x: a\r\n".repeat(500)))),
        ("endless-head", Spoof::Endless(b"HTTP/1.1 200 OK\r\nx: a\r\nx: a\r\nx: a\r\nx: a".to_vec())),
        ("endless-line", Spoof::Endless(b"HTTP/1.1 200 OK".to_vec())),
        ("endless-100", Spoof::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())),
        ("continue-403", say(format!("HTTP/1.1 100 Continue\r\n\r\n{denied}"))),
        ("early-hints-403", say(format!("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{denied}"))),
        ("early-hints", say("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")),
        ("switching", say("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")),
        ("http-09", say("ok\n")),
        ("http-2", say(answer_of("HTTP/2.0 200 OK", ""))),
        ("http-3", say(answer_of("HTTP/3 200", ""))),
        ("icy", say(answer_of("ICY 200 OK", ""))),
        ("rtsp", say(answer_of("RTSP/1.0 200 OK", ""))),
        ("lower-case", say(answer_of("http/1.1 200 OK", ""))),
        ("letters", say(answer_of("HTTP/1.1 2OO OK", ""))),
        ("two-digits", say(answer_of("HTTP/1.1 20 OK", ""))),
        ("four-digits", say(answer_of("HTTP/1.1 2000 OK", ""))),
        ("zero-first", say(answer_of("HTTP/1.1 0200 OK", ""))),
        ("negative", say(answer_of("HTTP/1.1 -200 OK", ""))),
        ("no-status", say(answer_of("HTTP/1.1 OK", ""))),
        ("tab", say(answer_of("HTTP/1.1\t200 OK", ""))),
        ("space-first", say(answer_of(" HTTP/1.1 200 OK", ""))),
        ("nul-header", say(head("200 OK", "x: a\0b\r\n"))),
        ("bad-header", say(head("200 OK", "no colon\r\n"))),
        ("ssh", say("SSH-2.0-OpenSSH_9.6\r\n")),
        ("smtp", say("220 mail.example ESMTP\r\n")),
        ("tls-alert", Spoof::Say(vec![0x15, 3, 3, 0, 2, 2, 40])),
        ("http2-frames", Spoof::Say(vec![0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88])),
        ("zeros", Spoof::Say(vec![0; 4096])),
        ("denied-then-allowed", Spoof::Keep(format!("{denied}{allowed}").into_bytes())),
        ("denied-with-body", say(format!("{denied}HTTP/1.1 200 OK\r\n\r\n"))),
        ("words", say(head("403 200 OK", "x-status: 200\r\nstatus: 200 OK\r\n"))),
        ("unauthorized", say(head("401 Unauthorized", "mcpctl-access: allowed\r\n"))),
        ("accepted", say(head("202 Accepted", "content-length: 0\r\n"))),
        ("not-authoritative", say(head("203 OK", "content-length: 0\r\n"))),
        ("not-modified", say(head("304 Not Modified", "etag: \"1\"\r\n"))),
    ];
    let mut spoofs: BTreeMap<_, _> = rows.into_iter().map(|(name, spoof)| (name.to_owned(), spoof)).collect();
    let llms: BTreeSet<_> = spoofs.keys().cloned().collect();
    spoofs.insert("control".to_owned(), say(&allowed));
    let world = World::new(spoofs, "http").await;
    // Twice: what an answer leaves behind in a connection must not answer the next probe.
    for stream in [false, true] {
        for_each(&llms, async |llm| {
            assert!(!world.asks(llm, stream).await, "{llm}: the local model answered");
        })
        .await;
    }
    assert!(world.seen_locally().is_empty());
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
    world.assert_only_probes(&llms);
    assert!(world.asks("control", false).await, "a plain 200 allows");
}

#[tokio::test]
async fn a_centre_without_tls_does_not_pass_for_one_with_it() {
    let spoofs = BTreeMap::from([("claude".to_owned(), say(head("200 OK", "content-length: 0\r\n")))]);
    let world = World::new(spoofs, "https").await;
    assert!(!world.asks("claude", false).await);
    assert!(world.seen_locally().is_empty());
    assert!(world.centre.lines.lock().unwrap().is_empty(), "the probe was sent in the clear");
}

#[test]
fn addresses_that_would_swallow_the_probes_path_are_refused() {
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
        // Where the start is not refused, the time limit ends it.
        let mut start = Command::new("timeout");
        start.arg("5").arg(program("mcplocal")).arg("--config").arg(&file);
        let ended =
            start.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(matches!(ended.status.code(), Some(1 | 2)), "{server}: {:?}: {said}", ended.status.code());
        assert!(said.starts_with("error: "), "{server}: {said}");
    }
}
