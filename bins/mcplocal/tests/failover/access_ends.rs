//! Local answers end with their caller's access: by the feed, by repeated probes, and where mcpd does not answer any more.

use std::time::Duration;

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, closed_address, eventually},
    deployment::Deployment,
    gateway::{Gateway, Passing},
    model_server::{Gate, ModelServer, Reply},
    response::header,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinHandle,
};

const REVOKED: &str = "access_revoked";
const UNCONFIRMED: &str = "access_unconfirmed";

/// An mcpd behind a gateway, whose inference cannot be reached; so an agent answers in its place. The model behind `claude` begins
/// each answer and does not end it, the one behind `other` waits for the gate.
struct World {
    mcpd: Mcpd,
    gateway: Gateway,
    agent: Mcplocal,
    claude: ModelServer,
    _other: ModelServer,
    gate: Gate,
}

/// A stream and a whole answer of one caller.
struct Running {
    streamed: Response,
    whole: JoinHandle<Response>,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        for llm in ["claude", "other"] {
            mcpd.llm(llm, "http://127.0.0.1:9").await;
        }
        let gate = Gate::new();
        let claude = ModelServer::with_default(Reply::text("one two three").stall_after(1)).await;
        let other = ModelServer::with_default(Reply::text("one two three").gate_after(1, &gate)).await;
        let gateway = Gateway::to(mcpd.url()).await;
        let config = format!(
            "server: {}\ninference: http://{}\nproviders:\n  - {{name: desk, type: openai, url: '{}', model: m, failoverFor: claude}}\n  \
             - {{name: shelf, type: openai, url: '{}', model: m, failoverFor: other}}\n",
            gateway.url(),
            closed_address(),
            claude.base_url(),
            other.base_url()
        );
        let agent = Mcplocal::start(&config).await;
        Self { mcpd, gateway, agent, claude, _other: other, gate }
    }

    /// A user with the right to view `claude` as a member of a group, and a token.
    async fn user(&self, name: &str, expires_in: &str) -> String {
        let subject = json!({"kind": "User", "name": name});
        let group = format!("{name}-group");
        self.mcpd
            .apply(json!([
                {"kind": "Llm", "name": "claude", "type": "openai", "url": "http://127.0.0.1:9", "model": "m",
                 "failover": {"allowed": true}},
                {"kind": "User", "name": name, "disabled": false},
                {"kind": "Group", "name": group, "members": [subject]},
                {"kind": "RoleBinding", "name": name, "role": "llm-user",
                 "subjects": [{"kind": "Group", "name": group}]},
            ]))
            .await;
        let token = json!({"name": format!("{name}-token"), "subject": subject, "expiresIn": expires_in});
        let issued = self.mcpd.post("/api/v1/tokens", &self.mcpd.admin(), &token).await;
        assert_eq!(issued.status(), StatusCode::CREATED, "{name}");
        issued.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    }

    async fn lose(&self, name: &str, how: &str) {
        let admin = self.mcpd.admin();
        let delete = async |path: &str| self.mcpd.delete(path, &admin).await;
        let patch = async |path: &str, body: Value| {
            self.mcpd.request(Method::PATCH, path, &admin).json(&body).send().await.unwrap()
        };
        let answer = match how {
            "binding deleted" => delete(&format!("/api/v1/rolebindings/{name}")).await,
            "token deleted" => delete(&format!("/api/v1/tokens/{name}-token")).await,
            "user disabled" => patch(&format!("/api/v1/users/{name}"), json!({"disabled": true})).await,
            "user deleted" => delete(&format!("/api/v1/users/{name}")).await,
            "group left" => patch(&format!("/api/v1/groups/{name}-group"), json!({"members": []})).await,
            "failover off" => patch("/api/v1/llms/claude", json!({"failover": {"allowed": false}})).await,
            "llm deleted" => delete("/api/v1/llms/claude").await,
            "llm made again" => {
                let gone = delete("/api/v1/llms/claude").await;
                self.mcpd.llm("claude", "http://127.0.0.1:9").await;
                gone
            }
            "token expired" => return,
            other => panic!("{other}"),
        };
        assert!(answer.status().is_success(), "{how}: {}", answer.text().await.unwrap());
    }

    async fn stream(&self, llm: &str, bearer: &str) -> Response {
        let mut answer = self.agent.chat(llm, bearer, true).await;
        let status = answer.status();
        let mut text = String::new();
        while !text.contains("one") {
            let Some(bytes) = answer.chunk().await.unwrap() else { panic!("{status}: {text}") };
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        answer
    }

    /// A stream with its first content, and a whole answer that is being written.
    async fn run(&self, bearer: &str) -> Running {
        let asked = self.claude.inferences().len();
        let streamed = self.stream("claude", bearer).await;
        let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
        let whole = self.agent.request(Method::POST, "/v1/chat/completions", bearer).json(&body);
        let whole = tokio::spawn(async move { whole.send().await.unwrap() });
        let begun = async || (self.claude.inferences().len() >= asked + 2).then_some(());
        eventually("both are at the model", begun).await;
        Running { streamed, whole }
    }

    fn ends(&self, outcome: &str) -> usize {
        let journal = self.agent.journal();
        journal.iter().filter(|entry| entry["event"] == "ended" && entry["outcome"] == outcome).count()
    }
}

async fn is_revoked(running: Running, how: &str) {
    let rest = running.streamed.text().await.unwrap();
    assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{how}: {rest}");
    assert!(!rest.contains("finish_reason\":\"stop"), "{how}: {rest}");
    let whole = running.whole.await.unwrap();
    assert_eq!(whole.status(), StatusCode::FORBIDDEN, "{how}");
    assert_eq!(header(&whole, "mcpctl-failure"), Some("denied"), "{how}");
    assert_eq!(whole.json::<Value>().await.unwrap()["error"]["code"], REVOKED, "{how}");
}

#[tokio::test]
async fn inv_06_local_answers_end_with_each_way_of_losing_access() {
    let world = World::new().await;
    let bob = world.mcpd.user("bob", Some("llm-user")).await;
    let others = join_all([world.stream("other", &bob), world.stream("other", &bob)]).await;
    let ways = [
        "binding deleted",
        "token deleted",
        "user disabled",
        "user deleted",
        "group left",
        "failover off",
        "llm made again",
        "llm deleted",
        "token expired",
    ];
    for (at, how) in ways.into_iter().enumerate() {
        let alice = world.user("alice", if how == "token expired" { "15s" } else { "1h" }).await;
        let running = world.run(&alice).await;
        world.lose("alice", how).await;
        is_revoked(running, how).await;
        world.claude.wait_for_disconnects(2 * (at + 1)).await;
        world.mcpd.delete("/api/v1/tokens/alice-token", &world.mcpd.admin()).await;
    }
    eventually("the journal has each end", async || (world.ends(REVOKED) == 2 * ways.len()).then_some(()))
        .await;
    let metrics = world.agent.request(Method::GET, "/metrics", &world.agent.local_key());
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    // At its expiry a probe may be the first to show that a credential has ended.
    let counted = |reason: &str| {
        let series = format!("mcpctl_access_ended_total{{reason=\"{reason}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).expect(&series);
        count.parse::<usize>().unwrap()
    };
    assert_eq!(counted("revoked") + counted("expired"), 2 * ways.len(), "{metrics}");
    world.gate.release();
    for other in others {
        let rest = other.text().await.unwrap();
        assert!(rest.contains("three") && rest.contains("[DONE]"), "{rest}");
    }
}

#[tokio::test]
async fn inv_06_local_answers_end_by_probes_without_a_feed() {
    let world = World::new().await;
    world.gateway.pass(Passing::AllButFeeds);
    let ways = [("ann", "binding deleted"), ("ben", "token deleted"), ("cem", "user disabled")];
    let mut running = Vec::new();
    for (name, _) in ways {
        let token = world.user(name, "1h").await;
        running.push(world.run(&token).await);
    }
    for (name, how) in ways {
        world.lose(name, how).await;
    }
    for (running, (_, how)) in running.into_iter().zip(ways) {
        is_revoked(running, how).await;
    }
    assert_eq!(world.gateway.feeds(), 0);
    world.claude.wait_for_disconnects(2 * ways.len()).await;
}

/// Neither feed nor probe is answered: the stream ends, and what was not streamed gets the primary's own error.
#[tokio::test]
async fn inv_06_local_answers_end_when_mcpd_does_not_answer() {
    for partitioned in [true, false] {
        let world = World::new().await;
        let alice = world.user("alice", "1h").await;
        let Running { streamed, whole } = world.run(&alice).await;
        eventually("the feed is connected", async || (world.gateway.feeds() > 0).then_some(())).await;
        let pid = Pid::from_raw(world.mcpd.pid().try_into().unwrap());
        if partitioned {
            world.gateway.pass(Passing::Nothing);
        } else {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        let rest = streamed.text().await.unwrap();
        let whole = whole.await.unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(rest.contains(UNCONFIRMED) && !rest.contains("[DONE]"), "{rest}");
        assert_eq!(whole.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(header(&whole, "mcpctl-no-failover"), Some(UNCONFIRMED));
        world.claude.wait_for_disconnects(2).await;
        eventually("the journal has each end", async || (world.ends(UNCONFIRMED) == 2).then_some(())).await;
    }
}

#[tokio::test]
async fn local_answers_go_on_over_a_restart_of_mcpd() {
    let mut world = World::new().await;
    let alice = world.user("alice", "1h").await;
    let (other, claude) = (world.stream("other", &alice).await, world.stream("claude", &alice).await);
    eventually("the feed is connected", async || (world.gateway.feeds() > 0).then_some(())).await;
    world.mcpd.kill();
    let feeds = world.gateway.feeds();
    world.mcpd.restart().await;
    eventually("the feed is connected again", async || (world.gateway.feeds() > feeds).then_some(())).await;
    world.gate.release();
    let rest = other.text().await.unwrap();
    assert!(rest.contains("three") && rest.contains("[DONE]"), "{rest}");
    world.lose("alice", "binding deleted").await;
    let rest = claude.text().await.unwrap();
    assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{rest}");
}

#[tokio::test]
async fn inv_06_a_local_stream_that_is_not_read_ends() {
    let world = World::new().await;
    let alice = world.user("alice", "1h").await;
    let text = format!("{} ", "x".repeat(60_000)).repeat(400);
    world.claude.queue(Reply::text(&text));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = world.agent.url().trim_start_matches("http://").parse().unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]})
        .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {alice}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    world.lose("alice", "token deleted").await;
    world.claude.wait_for_disconnects(1).await;
}

/// What mcpd began goes on locally, and ends there.
#[tokio::test]
async fn inv_06_a_continued_stream_ends() {
    let deployment = Deployment::builder().config("failover: {midStream: restart}\n").start().await;
    let Deployment { mcpd, provider, desk, .. } = &deployment;
    provider.queue(Reply::text("one two three").cut_after(1));
    desk.queue(Reply::text("one two three").stall_after(2));
    let mut answer = deployment.chat_streamed().await;
    let mut text = String::new();
    while !text.contains("two") {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().expect("the local provider")));
    }
    let off = json!({"failover": {"allowed": false}});
    let patched = mcpd.request(Method::PATCH, "/api/v1/llms/claude", &mcpd.admin()).json(&off);
    assert!(patched.send().await.unwrap().status().is_success());
    let rest = answer.text().await.unwrap();
    assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{rest}");
    desk.wait_for_disconnects(1).await;
}

/// A request that waits for an engine ends too, and the prompt never reaches it.
#[tokio::test]
async fn inv_06_a_request_that_waits_for_an_engine_ends() {
    let deployment =
        Deployment::builder().engine("slow", "hold", &["failoverFor: claude"]).unreachable_inference();
    let deployment = deployment.start().await;
    deployment.hold_engine("slow", "hold");
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
    let request = deployment.agent.request(Method::POST, "/v1/chat/completions", &deployment.alice);
    let waiting = request.json(&body);
    let waiting = tokio::spawn(async move { waiting.send().await.unwrap() });
    deployment.engine_is("slow", "starting").await;
    deployment.revoke().await;
    let answer = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("an answer").unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], REVOKED);
    deployment.release_engine("slow", "hold");
    let ran = deployment.agent.journal();
    assert!(ran.iter().all(|entry| entry["outcome"] != "served"), "{ran:?}");
}
