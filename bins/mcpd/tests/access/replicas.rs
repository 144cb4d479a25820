//! Each way of losing access, at the replica that was told of it and at another one. What others run goes on.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{AuditFilter, Decision, Location, Store, UsageFilter};
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{Gate, ModelServer, Reply},
    replicas::Replicas,
    response::header,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const REVOKED: &str = "access_revoked";

/// Two replicas on one PostgreSQL. The model of the Llm `claude` begins each answer and never ends it; that of `other` waits
/// for the gate.
pub struct World {
    pub replicas: Replicas,
    claude: ModelServer,
    _other: ModelServer,
    gate: Gate,
}

/// What alice runs at a replica.
struct Running {
    streamed: Response,
    whole: tokio::task::JoinHandle<Response>,
}

impl World {
    pub async fn new() -> Self {
        let replicas = Replicas::start().await;
        let gate = Gate::new();
        let claude = ModelServer::with_default(Reply::text("one two three").stall_after(1)).await;
        let other = ModelServer::with_default(Reply::text("one two three").gate_after(1, &gate)).await;
        replicas.one.llm_with_default_timeouts("claude", &claude.base_url()).await;
        replicas.one.llm_with_default_timeouts("other", &other.base_url()).await;
        Self { replicas, claude, _other: other, gate }
    }

    async fn store(&self) -> Store {
        let file = self.replicas.key.path().join("master-key");
        let key = master_key_file::load_or_create(&file, IfMissing::Fail).unwrap();
        Store::open(&Location::Postgres(self.replicas.postgres.url()), Arc::new(Keyring::new(key)))
            .await
            .unwrap()
    }

    /// Alice, who may run `claude` as a member of a group, and a token of hers that `maker` made.
    pub async fn alice(&self, expires_in: &str) -> String {
        let claude = self.claude.base_url();
        self.replicas
            .one
            .apply(json!([
                {"kind": "Llm", "name": "claude", "type": "openai", "url": claude, "model": "m"},
                {"kind": "User", "name": "alice", "disabled": false},
                {"kind": "User", "name": "maker", "disabled": false},
                {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]},
                {"kind": "Role", "name": "runner", "rules":
                    [{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["claude"]}]},
                {"kind": "RoleBinding", "name": "team", "role": "runner", "subjects":
                    [{"kind": "Group", "name": "team"}]},
                {"kind": "RoleBinding", "name": "maker", "role": "admin", "subjects":
                    [{"kind": "User", "name": "maker"}]},
            ]))
            .await;
        let maker = self.token(&self.replicas.one.admin(), "maker", "1h").await;
        self.token(&maker, "alice", expires_in).await
    }

    async fn token(&self, by: &str, user: &str, expires_in: &str) -> String {
        let subject = json!({"kind": "User", "name": user});
        let wanted = json!({"name": user, "subject": subject, "expiresIn": expires_in});
        let issued = self.replicas.one.post("/api/v1/tokens", by, &wanted).await;
        assert_eq!(issued.status(), StatusCode::CREATED, "{user}");
        issued.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    }

    pub async fn lose(&self, how: &str) {
        let admin = self.replicas.one.admin();
        let delete = async |path: &str| self.replicas.one.delete(path, &admin).await;
        let patch = async |path: &str, body: Value| {
            self.replicas.one.request(Method::PATCH, path, &admin).json(&body).send().await.unwrap()
        };
        let answer = match how {
            "binding deleted" => delete("/api/v1/rolebindings/team").await,
            "binding changed" => patch("/api/v1/rolebindings/team", json!({"role": "viewer"})).await,
            "token deleted" => delete("/api/v1/tokens/alice").await,
            "user deleted" => delete("/api/v1/users/alice").await,
            "user disabled" => patch("/api/v1/users/alice", json!({"disabled": true})).await,
            "maker disabled" => patch("/api/v1/users/maker", json!({"disabled": true})).await,
            "maker loses the right" => delete("/api/v1/rolebindings/maker").await,
            "role deleted" => delete("/api/v1/roles/runner").await,
            "role reduced" => {
                let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["claude"]}]);
                patch("/api/v1/roles/runner", json!({"rules": rules})).await
            }
            "group left" => patch("/api/v1/groups/team", json!({"members": []})).await,
            "group deleted" => delete("/api/v1/groups/team").await,
            "llm deleted" => delete("/api/v1/llms/claude").await,
            "llm made again" => {
                let gone = delete("/api/v1/llms/claude").await;
                self.replicas.one.llm_with_default_timeouts("claude", &self.claude.base_url()).await;
                gone
            }
            "token expired" => return,
            other => panic!("{other}"),
        };
        assert!(answer.status().is_success(), "{how}: {}", answer.text().await.unwrap());
    }
}

fn chat(llm: &str, stream: bool) -> Value {
    json!({"model": llm, "stream": stream, "messages": [{"role": "user", "content": "Count."}]})
}

/// A stream whose caller has the first content.
async fn stream(mcpd: &Mcpd, bearer: &str, llm: &str) -> Response {
    let mut answer = mcpd.post("/v1/chat/completions", bearer, &chat(llm, true)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut text = String::new();
    while !text.contains("one") {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().expect("the first content")));
    }
    answer
}

async fn run(mcpd: &Mcpd, alice: &str) -> Running {
    let streamed = stream(mcpd, alice, "claude").await;
    let whole = mcpd.request(Method::POST, "/v1/chat/completions", alice).json(&chat("claude", false));
    let whole = tokio::spawn(async move { whole.send().await.unwrap() });
    Running { streamed, whole }
}

#[tokio::test]
async fn inv_06_running_requests_end_with_their_access_at_every_replica() {
    let world = World::new().await;
    let bob = world.replicas.one.user("bob", Some("llm-user")).await;
    let others =
        join_all([&world.replicas.one, &world.replicas.two].map(|replica| stream(replica, &bob, "other")))
            .await;
    let ways = [
        "binding deleted",
        "binding changed",
        "token deleted",
        "user deleted",
        "user disabled",
        "maker disabled",
        "maker loses the right",
        "role deleted",
        "role reduced",
        "group left",
        "group deleted",
        "llm deleted",
        "llm made again",
        "token expired",
    ];
    for (at, how) in ways.into_iter().enumerate() {
        let alice = world.alice(if how == "token expired" { "15s" } else { "1h" }).await;
        let running =
            join_all([&world.replicas.one, &world.replicas.two].map(|replica| run(replica, &alice))).await;
        world.claude.wait_for_requests(4 * (at + 1)).await;
        world.lose(how).await;
        for Running { streamed, whole } in running {
            let rest = streamed.text().await.unwrap();
            assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{how}: {rest}");
            assert!(!rest.contains("finish_reason\":\"stop"), "{how}: {rest}");
            let whole = whole.await.unwrap();
            assert_eq!(whole.status(), StatusCode::FORBIDDEN, "{how}");
            assert_eq!(header(&whole, "mcpctl-failure"), Some("denied"), "{how}");
            assert_eq!(whole.json::<Value>().await.unwrap()["error"]["code"], REVOKED, "{how}");
        }
        world.claude.wait_for_disconnects(4 * (at + 1)).await;
        for token in ["alice", "maker"] {
            world.replicas.one.delete(&format!("/api/v1/tokens/{token}"), &world.replicas.one.admin()).await;
        }
    }
    world.gate.release();
    for other in others {
        let rest = other.text().await.unwrap();
        assert!(rest.contains("three") && rest.contains("[DONE]"), "{rest}");
    }
    let store = world.store().await;
    eventually("every end is on record", async || {
        let usage = store.usage(&UsageFilter { limit: 1000, ..UsageFilter::default() }).await.unwrap();
        let ended = usage.iter().filter(|row| row.outcome == REVOKED);
        let status = |status| ended.clone().filter(|row| row.status == status).count();
        let audit = store.audit(&AuditFilter { limit: 10_000, ..AuditFilter::default() }).await.unwrap();
        let denied = audit.iter().filter(|row| row.principal == "User alice" && row.action == "run");
        let denied = denied.filter(|row| row.decision == Decision::Denied).count();
        let expected = 2 * ways.len();
        (status(200) == expected && status(403) == expected && denied == 2 * expected).then_some(())
    })
    .await;
}

/// While a replica cannot know whether access still holds, requests go on for 15 s and no longer.
#[tokio::test]
async fn inv_06_requests_end_at_a_replica_without_its_store() {
    let mut world = World::new().await;
    let alice = world.alice("1h").await;
    let Running { streamed, whole } = run(&world.replicas.two, &alice).await;
    world.claude.wait_for_requests(2).await;
    world.replicas.postgres.stop();
    let rest = streamed.text().await.unwrap();
    assert!(rest.contains("access_unconfirmed") && !rest.contains("[DONE]"), "{rest}");
    assert_eq!(whole.await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    world.claude.wait_for_disconnects(2).await;
    world.replicas.postgres.start_again();
    eventually("it answers again", async || {
        let answer = world.replicas.two.head("/api/v1/llms/claude", &alice).await;
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
    let running = run(&world.replicas.two, &alice).await;
    // Beyond the next poll: the connection that listens was made anew.
    tokio::time::timeout(Duration::from_secs(60), async {
        world.lose("token deleted").await;
        assert!(running.streamed.text().await.unwrap().contains(REVOKED));
    })
    .await
    .unwrap();
}
