//! An agent that reaches mcpd's probe through a proxy that a test directs, and mcpd's inference not at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mcpctl_access::proof::{KeyListClaims, SigningKey, sign};
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, closed_address, eventually},
    deployment::openai_item,
    model_server::{ModelServer, Reply},
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::JoinHandle,
};

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub enum Tamper {
    /// Passes request and answer on.
    None,
    /// Sends the request to another path.
    Path(String),
    /// Replaces a header of the request.
    Header(&'static str, String),
    /// Sends this answer instead.
    Answer(Vec<u8>),
    /// Takes the proof out of the answer.
    StripProof,
    /// Alters the proof.
    BendProof,
    /// Replaces the status line of the answer.
    Status(&'static str),
    /// Answers as an mcpd with keys of its own: with the proof of that one, and with its list of keys.
    Forge,
    /// Closes the connection without an answer.
    Close,
}

/// What the proxy does with feeds, whatever it does with other requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedRoute {
    /// Leaves them without an answer.
    Held,
    /// Passes them on.
    Passed,
    /// Answers them itself, with what the test sends.
    Forged,
}

/// A proxy in front of one mcpd.
pub struct ProbeProxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    mcpd: String,
    tamper: Mutex<Tamper>,
    last_answer: Mutex<Vec<u8>>,
    probes: AtomicUsize,
    feeds: Mutex<FeedRoute>,
    forged_feeds: broadcast::Sender<String>,
    /// The keys of the other mcpd.
    foreign: [SigningKey; 2],
}

impl ProbeProxy {
    async fn to(mcpd: &Mcpd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            mcpd: mcpd.url().trim_start_matches("http://").to_owned(),
            tamper: Mutex::new(Tamper::None),
            last_answer: Mutex::default(),
            probes: AtomicUsize::new(0),
            feeds: Mutex::new(FeedRoute::Held),
            forged_feeds: broadcast::Sender::new(64),
            foreign: [(); 2].map(|()| SigningKey::generate().unwrap()),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&serving)));
            }
        });
        Self { url, shared, accepting }
    }

    /// Does this with every request from now on.
    pub fn set(&self, tamper: Tamper) {
        *self.shared.tamper.lock().unwrap() = tamper;
    }

    /// How many probes have come so far.
    pub fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Does this with feeds that are opened from now on.
    pub fn route_feeds(&self, route: FeedRoute) {
        *self.shared.feeds.lock().unwrap() = route;
    }

    /// Waits until a forged feed is open, and sends an event there.
    pub async fn send_event(&self, kind: &str, data: &Value) {
        let event = format!("event: {kind}\ndata: {data}\n\n");
        eventually("a forged feed is open", async || self.shared.forged_feeds.send(event.clone()).ok()).await;
    }

    /// The answer to the last probe that mcpd gave.
    pub fn last_answer(&self) -> Vec<u8> {
        self.shared.last_answer.lock().unwrap().clone()
    }
}

impl Drop for ProbeProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match client.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let tamper = shared.tamper.lock().unwrap().clone();
    let request = String::from_utf8(request).unwrap();
    let is_probe = request.starts_with("HEAD ");
    shared.probes.fetch_add(usize::from(is_probe), Ordering::SeqCst);
    if request.starts_with("GET /api/v1/feed") {
        let route = *shared.feeds.lock().unwrap();
        return feed(client, &request, route, &shared).await;
    }
    let answer = match tamper {
        Tamper::Close => return,
        Tamper::Answer(answer) => answer,
        Tamper::Forge => forged(&request, &shared.foreign),
        tamper => {
            let request = altered(request, &tamper);
            let Ok(mut upstream) = TcpStream::connect(&shared.mcpd).await else { return };
            upstream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = upstream.read_to_end(&mut answer).await;
            if is_probe {
                shared.last_answer.lock().unwrap().clone_from(&answer);
            }
            answered(answer, &tamper)
        }
    };
    let _ = client.write_all(&answer).await;
    let _ = client.shutdown().await;
}

async fn feed(mut client: TcpStream, request: &str, route: FeedRoute, shared: &Shared) {
    match route {
        FeedRoute::Held => while client.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {},
        FeedRoute::Passed => {
            let Ok(mut upstream) = TcpStream::connect(&shared.mcpd).await else { return };
            upstream.write_all(request.as_bytes()).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
        FeedRoute::Forged => {
            let mut events = shared.forged_feeds.subscribe();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let mut sent = client.write_all(head.as_bytes()).await;
            while let (Ok(()), Ok(event)) = (&sent, events.recv().await) {
                sent = client.write_all(event.as_bytes()).await;
            }
        }
    }
}

fn altered(request: String, tamper: &Tamper) -> String {
    match tamper {
        Tamper::Path(path) => {
            let (line, rest) = request.split_once("\r\n").unwrap();
            let method = line.split(' ').next().unwrap();
            format!("{method} {path} HTTP/1.1\r\n{rest}")
        }
        Tamper::Header(name, value) => replaced(&request, name, Some(value)),
        _ => request,
    }
}

fn answered(answer: Vec<u8>, tamper: &Tamper) -> Vec<u8> {
    const PROOF: &str = "mcpctl-access-proof";
    let text = || String::from_utf8(answer.clone()).unwrap();
    match tamper {
        Tamper::StripProof => replaced(&text(), PROOF, None).into_bytes(),
        Tamper::BendProof => {
            let text = text();
            let proof = text.lines().find_map(|line| line.strip_prefix(&format!("{PROOF}: ")[..])).unwrap();
            let other = if &proof[40..41] == "A" { "B" } else { "A" };
            let bent = format!("{}{other}{}", &proof[..40], &proof[41..]);
            replaced(&text, PROOF, Some(&bent)).into_bytes()
        }
        Tamper::Status(status) => {
            let text = text();
            format!("HTTP/1.1 {status}\r\n{}", text.split_once("\r\n").unwrap().1).into_bytes()
        }
        _ => answer,
    }
}

/// The message with another value of this header, or without it.
fn replaced(message: &str, name: &str, value: Option<&str>) -> String {
    let is_it = |line: &str| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
    let lines = message.split("\r\n").filter_map(|line| match (is_it(line), value) {
        (true, Some(value)) => Some(format!("{name}: {value}")),
        (true, None) => None,
        (false, _) => Some(line.to_owned()),
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// What an mcpd with these keys would answer that allows everything.
fn forged(request: &str, [current, next]: &[SigningKey; 2]) -> Vec<u8> {
    let header = |name: &str| {
        let line = request.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.map(|line| line[name.len() + 2..].to_owned()).unwrap_or_default()
    };
    if request.starts_with("GET ") {
        let now = jiff::Timestamp::now();
        let list = KeyListClaims::new(current.public(), next.public(), now);
        let body = json!({"keys": list.keys, "signed": sign(&list, current).unwrap()}).to_string();
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
    }
    let bearer = header("authorization").replace("Bearer ", "");
    let claims = json!({
        "nonce": header("mcpctl-probe-nonce"), "agent": header("mcpctl-agent"),
        "subject": {"kind": "User", "name": "alice", "id": format!("c{:0>24}", "alice")},
        "bearer": mcpctl_access::proof::BearerHash::of(&bearer).to_string(),
        "asked": request.split(' ').nth(1).unwrap().rsplit('/').next().unwrap(),
        "llm": null, "verb": "view", "decision": "allow", "reason": "allowed", "revision": 9,
        "iat": jiff::Timestamp::now(), "holds": 15, "expiresAt": "2100-01-01T00:00:00Z",
    });
    let mut claims: mcpctl_access::proof::ProofClaims = serde_json::from_value(claims).unwrap();
    claims.llm = Some(claims.asked.parse().unwrap_or_else(|_| format!("c{:0>24}", "llm").parse().unwrap()));
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"7\"\r\nmcpctl-request-id: 0197\r\n\
         mcpctl-access-proof: {}\r\ncontent-length: 300\r\nconnection: close\r\n\r\n",
        sign(&claims, current).unwrap()
    )
    .into_bytes()
}

/// The keys of an mcpd.
#[derive(Debug, Clone)]
pub struct ServerKeys {
    pub public: Vec<String>,
    pub fingerprints: Vec<String>,
}

impl ServerKeys {
    pub async fn of(mcpd: &Mcpd) -> Self {
        let list: Value = mcpd.get("/.well-known/mcpctl-keys", "").await.json().await.unwrap();
        let texts = |key: &str| [0, 1].map(|at| list["keys"][at][key].as_str().unwrap().to_owned()).to_vec();
        Self { public: texts("publicKey"), fingerprints: texts("fingerprint") }
    }
}

/// mcpd with the Llm `claude`, and Alice signed in at an agent that has pinned its keys and cannot reach its inference.
pub struct Guarded {
    pub mcpd: Mcpd,
    pub proxy: ProbeProxy,
    pub agent: Mcplocal,
    pub keys: ServerKeys,
    pub desk: ModelServer,
    alice: String,
}

/// An Llm with these rules of failover.
pub fn llm_document(name: &str, failover: &Value) -> Value {
    json!({"kind": "Llm", "name": name, "type": "openai", "url": "http://127.0.0.1:1", "model": "m",
           "failover": failover})
}

impl Guarded {
    pub async fn start(failover: &Value) -> Self {
        let mcpd = Mcpd::start().await;
        mcpd.apply(json!([llm_document("claude", failover)])).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let keys = ServerKeys::of(&mcpd).await;
        let proxy = ProbeProxy::to(&mcpd).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        let item = openai_item("desk", &desk.base_url(), &["failoverFor: claude"]);
        let config =
            format!("server: {}\ninference: http://{}\nproviders:\n{item}", proxy.url, closed_address());
        let agent = Mcplocal::start(&config).await;
        let guarded = Self { mcpd, proxy, agent, keys, desk, alice };
        guarded.sign_in("alice", &guarded.alice);
        guarded
    }

    /// Signs a user in, with the keys pinned.
    pub fn sign_in(&self, user: &str, token: &str) {
        self.write(user, token, &self.keys.public);
    }

    /// Signs Alice in with these keys pinned.
    pub fn write_contexts(&self, keys: &[String]) {
        self.write("alice", &self.alice, keys);
    }

    fn write(&self, user: &str, token: &str, keys: &[String]) {
        let server = &self.proxy.url;
        let pins = match keys {
            [] => String::new(),
            keys => format!(
                "pins:\n  - server: {server}/\n    keys: [{}]\n    at: 2026-01-01T00:00:00Z\n",
                keys.join(", ")
            ),
        };
        let text = format!(
            "currentContext: c\ncontexts:\n  - name: c\n    server: {server}/\n    user: {user}\n    token: {token}\n{pins}"
        );
        let path = self.agent.homes()[0].1.join("mcpctl/config.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// A local stream of Alice's that has begun, and does not end by itself.
    pub async fn stream(&self) -> Response {
        self.desk.queue(Reply::text("one two three").stall_after(1));
        let mut answer = self.agent.chat("claude", &self.agent.local_key(), true).await;
        let (status, mut text) = (answer.status(), String::new());
        while !text.contains("one") {
            let Some(bytes) = answer.chunk().await.unwrap() else { panic!("{status}: {text}") };
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        answer
    }

    /// Takes Alice's role away.
    pub async fn revoke(&self) {
        let admin = self.mcpd.admin();
        let answer = self.mcpd.delete("/api/v1/rolebindings/alice-llm-user", &admin).await;
        assert!(answer.status().is_success());
    }

    /// Waits until the agent, which probes ahead, has a lease.
    pub async fn leased(&self) {
        eventually("the agent has a lease", async || {
            (self.agent.status().await["leases"] == 1).then_some(())
        })
        .await;
    }

    /// The id of an Llm.
    pub async fn llm_id(&self, name: &str) -> String {
        let llm: Value =
            self.mcpd.get(&format!("/api/v1/llms/{name}"), &self.mcpd.admin()).await.json().await.unwrap();
        llm["id"].as_str().unwrap().to_owned()
    }
}
