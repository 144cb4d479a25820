//! Llms with several targets: which one a request goes to, what becomes of one that fails, and what each of them gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Location, Store, UsageFilter};
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{Gate, ModelServer, Pause, Reply},
    response::{content, header},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// An mcpd with the Llm `many`, whose targets are the model servers.
struct World {
    mcpd: Mcpd,
    servers: Vec<ModelServer>,
    alice: String,
}

impl World {
    /// Starts it with targets of these weights; the Llm has `more` fields.
    async fn start(weights: &[u8], more: Value) -> Self {
        let mcpd = Mcpd::start().await;
        let mut servers = Vec::new();
        for at in 0..weights.len() {
            servers.push(ModelServer::with_default(Reply::text(&format!("from-{at}"))).await);
        }
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let world = Self { mcpd, servers, alice };
        let targets = world.targets(weights);
        world.apply(targets, more).await;
        world
    }

    fn targets(&self, weights: &[u8]) -> Value {
        let target =
            |(server, weight): (&ModelServer, &u8)| json!({"url": server.base_url(), "weight": weight});
        self.servers.iter().zip(weights).map(target).collect()
    }

    async fn apply(&self, targets: Value, more: Value) {
        let mut llm =
            json!({"kind": "Llm", "name": "many", "type": "openai", "model": "m", "targets": targets});
        llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.mcpd.apply(json!([llm])).await;
    }

    async fn patch(&self, patch: Value) {
        let request = self.mcpd.request(Method::PATCH, "/api/v1/llms/many", &self.mcpd.admin());
        let answer = request.json(&patch).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    async fn chat(&self, stream: bool) -> Response {
        let body =
            json!({"model": "many", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
        self.mcpd.post("/v1/chat/completions", &self.alice, &body).await
    }

    /// How many requests each model server received.
    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.inferences().len()).collect()
    }
}

#[tokio::test]
async fn requests_at_once_spread_by_weight() {
    let world = World::start(&[1, 1, 2], json!({})).await;
    let gate = Gate::new();
    for server in &world.servers {
        server.set_default(Reply::text("held").before_head(Pause::Gate(gate.clone())));
    }
    let all = (0..12).map(|at| world.chat(at % 2 == 0));
    let arrived = async {
        for (server, count) in world.servers.iter().zip([3, 3, 6]) {
            server.wait_for_requests(count).await;
        }
        gate.release();
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(all), arrived);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    assert_eq!(world.asked(), [3, 3, 6]);
}

/// A stream is outstanding until its end, however it ends.
#[tokio::test]
async fn running_streams_count_as_outstanding() {
    let world = World::start(&[1, 1], json!({})).await;
    let gate = Gate::new();
    world.servers[0].set_default(Reply::text("one two three").gate_after(1, &gate));
    world.servers[1].set_default(Reply::text("one two three").stall_after(1));
    let (first, second) = (world.chat(true).await, world.chat(true).await);
    assert_eq!(world.asked(), [1, 1]);
    gate.release();
    assert!(first.text().await.unwrap().contains("[DONE]"));
    for requests in 2..5 {
        world.chat(false).await.text().await.unwrap();
        assert_eq!(world.asked(), [requests, 1], "the other one is busy");
    }
    drop(second);
    world.servers[1].wait_for_disconnects(1).await;
    world.servers[1].set_default(Reply::text("free"));
    for _ in 0..4 {
        world.chat(true).await.text().await.unwrap();
    }
    let asked = world.asked();
    assert!(asked[0] < 4 + 4 && asked[1] > 1, "{asked:?}");
}

/// Callers notice nothing of a target that fails; it is left alone after three failures, and comes back.
#[tokio::test]
async fn failing_target_is_ejected_and_comes_back() {
    let closed = json!({"failures": 3, "open": "1h"});
    let timeouts = json!({"response": "1s", "firstToken": "1s"});
    for (fault, stream) in [
        (Reply::reset(), false),
        (Reply::error(500, "broken", "internal"), true),
        (Reply::error(503, "overloaded", "overloaded"), false),
        (Reply::rate_limited("600"), true),
        (Reply::error(401, "no such key", "invalid_api_key"), false),
        (Reply::error(404, "the model `m` does not exist", "model_not_found"), true),
        (Reply::text("late").start_up(1, 100).stall_after(0), true),
    ] {
        let world = World::start(&[1, 1, 1], json!({"breaker": closed, "timeouts": timeouts})).await;
        world.servers[1].set_default(fault.clone());
        for _ in 0..15 {
            let answer = world.chat(stream).await;
            assert_eq!(answer.status(), StatusCode::OK, "{fault:?}");
            assert!(!answer.text().await.unwrap().contains("from-1"));
        }
        // Its state survives an edit, by which it is due at once, and another place in the list.
        world.servers[1].set_default(Reply::text("from-1"));
        let mut targets = world.targets(&[1, 1, 1]);
        targets.as_array_mut().unwrap().rotate_left(1);
        world.patch(json!({"targets": targets})).await;
        for _ in 0..6 {
            world.chat(stream).await.text().await.unwrap();
        }
        let failed = world.asked()[1];
        assert_eq!(failed, 3, "{fault:?}");
        let admin = world.mcpd.admin();
        let status: Value = world.mcpd.get("/api/v1/llms/many/status", &admin).await.json().await.unwrap();
        let states: Vec<_> = status["breakers"].as_array().unwrap().iter().map(|of| &of["state"]).collect();
        assert_eq!(states, ["open", "closed", "closed"], "in the order of the document: {status}");
        let urls: Vec<_> =
            status["breakers"].as_array().unwrap().iter().map(|of| of["url"].as_str()).collect();
        let expected = [1, 2, 0].map(|at: usize| world.servers[at].base_url());
        assert_eq!(
            urls,
            expected.each_ref().map(|url| Some(url.as_str())),
            "each with its address: {status}"
        );
        let metrics = world.mcpd.get("/metrics", &admin).await.text().await.unwrap();
        assert!(metrics.contains("mcpctl_open_breakers{llm=\"many\"} 1"), "{metrics}");
        world.patch(json!({"breaker": {"failures": 3, "open": "1ms"}})).await;
        eventually("the target serves again", async || {
            world.chat(stream).await.text().await.unwrap().contains("from-1").then_some(())
        })
        .await;
        let lines = |text: &str| world.mcpd.log().matches(text).count();
        eventually("the end is logged", async || (lines("a breaker closes") > 0).then_some(())).await;
        assert_eq!((lines("a breaker opens"), lines("a breaker closes")), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn dead_target_costs_no_request() {
    let mut world = World::start(&[1, 1], json!({"breaker": {"failures": 3, "open": "1h"}})).await;
    for _ in 0..4 {
        assert_eq!(world.chat(false).await.status(), StatusCode::OK);
    }
    world.servers[0].refuse().await;
    for stream in [false, true].into_iter().cycle().take(10) {
        let answer = world.chat(stream).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.text().await.unwrap().contains("from-"));
    }
}

/// Where all fail the caller gets a provider's own error, after the attempts that `retries` allows.
#[tokio::test]
async fn last_target_is_tried_and_its_error_returned() {
    let world = World::start(&[1, 1], json!({"breaker": {"failures": 2, "open": "1h"}})).await;
    for server in &world.servers {
        server.set_default(Reply::error(503, "all are overloaded", "overloaded"));
    }
    let failed = world.chat(false).await;
    assert_eq!(
        (failed.status(), header(&failed, "mcpctl-attempts")),
        (StatusCode::SERVICE_UNAVAILABLE, Some("3"))
    );
    assert!(failed.text().await.unwrap().contains("all are overloaded"));
    let mut asked = world.asked();
    asked.sort_unstable();
    assert_eq!(asked, [1, 2], "each is tried before one is repeated");

    world.patch(json!({"retries": {"max": 0}})).await;
    eventually("both are ejected", async || {
        let before: usize = world.asked().iter().sum();
        world.chat(true).await.text().await.unwrap();
        assert_eq!(world.asked().iter().sum::<usize>(), before + 1, "no retries");
        (before > 6).then_some(())
    })
    .await;
    world.patch(json!({"retries": {"max": 2}})).await;
    let failed = world.chat(false).await;
    assert_eq!(header(&failed, "mcpctl-attempts"), Some("1"), "more would only delay the error");
    for server in &world.servers {
        server.set_default(Reply::text("well again"));
    }
    assert_eq!(content(world.chat(false).await).await, "well again", "the last one is never ejected");
}

/// What the request itself caused is no failure of a target.
#[tokio::test]
async fn rejected_request_goes_to_one_target() {
    let world = World::start(&[1, 1], json!({})).await;
    for reply in [Reply::error(400, "not like this", "bad"), Reply::context_length()] {
        for server in &world.servers {
            server.set_default(reply.clone());
        }
        for _ in 0..5 {
            let answer = world.chat(false).await;
            assert_eq!(
                (answer.status(), header(&answer, "mcpctl-attempts")),
                (StatusCode::BAD_REQUEST, Some("1"))
            );
        }
    }
    assert_eq!(world.asked(), [5, 5]);
}

#[tokio::test]
async fn fallbacks_come_after_all_targets() {
    let more = json!({"fallbacks": [{"llm": "spare"}], "breaker": {"failures": 2, "open": "1h"}});
    let world = World::start(&[1, 1], json!({})).await;
    let spare = ModelServer::with_default(Reply::text("from the spare")).await;
    world.mcpd.llm("spare", &spare.base_url()).await;
    world.apply(world.targets(&[1, 1]), more).await;
    let overloaded = || Reply::error(503, "overloaded", "overloaded");
    world.servers[0].set_default(overloaded());
    for _ in 0..6 {
        assert_eq!(content(world.chat(false).await).await, "from-1");
    }
    assert!(spare.inferences().is_empty());
    world.servers[1].set_default(overloaded());
    for _ in 0..6 {
        let answer = world.chat(false).await;
        assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"));
        assert_eq!(content(answer).await, "from the spare");
    }
    let asked = world.asked();
    world.chat(true).await.text().await.unwrap();
    assert_eq!((world.asked(), spare.inferences().len()), (asked, 7), "all are ejected");
}

/// Each target gets its own key and its own name of the model, in the caller's dialect or translated.
#[tokio::test]
async fn target_gets_its_own_key_and_model() {
    let world = World::start(&[1, 1, 1], json!({})).await;
    let data = json!({"a": "sk-key-a", "b": "sk-key-b"});
    world.mcpd.apply(json!([{"kind": "Secret", "name": "keys", "data": data}])).await;
    let mut targets = world.targets(&[1, 1, 1]);
    for (at, key) in [(0, "a"), (1, "b")] {
        targets[at]["apiKey"] = json!({"secret": "keys", "key": key});
        targets[at]["model"] = json!(format!("model-{key}"));
        world.servers[at].require_key(&format!("sk-key-{key}"));
    }
    world.apply(targets.clone(), json!({})).await;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let message = json!({"model": "many", "max_tokens": 9, "messages": messages});
    for _ in 0..2 {
        for stream in [false, true, false] {
            assert_eq!(world.chat(stream).await.status(), StatusCode::OK);
            let answer = world.mcpd.post("/v1/messages", &world.alice, &message).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
    for (server, (key, model)) in world.servers.iter().zip([
        (Some("Bearer sk-key-a"), "model-a"),
        (Some("Bearer sk-key-b"), "model-b"),
        (None, "m"),
    ]) {
        let requests = server.inferences();
        assert_eq!(requests.len(), 4);
        for request in requests {
            assert_eq!(
                (request.header("authorization"), request.json()["model"].as_str()),
                (key, Some(model))
            );
        }
    }
    let shown: Value = world.mcpd.get("/api/v1/llms/many", &world.mcpd.admin()).await.json().await.unwrap();
    let report = world.mcpd.post("/api/v1/apply", &world.mcpd.admin(), &json!([shown])).await;
    assert_eq!(report.json::<Value>().await.unwrap()["results"][0]["outcome"], "unchanged");

    // A key that is gone takes its target out, and no other.
    world.mcpd.apply(json!([{"kind": "Secret", "name": "keys", "data": {"a": null}}])).await;
    for _ in 0..6 {
        assert_eq!(world.chat(false).await.status(), StatusCode::OK);
    }
    assert_eq!(world.servers[1].inferences().len(), 4);
    eventually("the access log names each target", async || {
        let log = world.mcpd.log();
        let mut named = world.servers.iter().map(|server| format!("upstream=\"{}\"", server.address()));
        named.all(|target| log.contains(&target)).then_some(())
    })
    .await;
    // So does the record of usage.
    let dir = world.mcpd.data_dir();
    let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
    let keyring = Arc::new(Keyring::new(key));
    let store = Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), keyring).await.unwrap();
    let used = store.usage(&UsageFilter { limit: 50, ..UsageFilter::default() }).await.unwrap();
    for server in &world.servers {
        let target = server.address().to_string();
        assert!(used.iter().any(|row| row.target.as_deref() == Some(&target)), "{target}: {used:?}");
    }
    world.mcpd.apply(json!([{"kind": "Secret", "name": "keys", "data": data}])).await;
    targets.as_array_mut().unwrap().truncate(2);
    world.apply(targets, json!({})).await;
    let admin = world.mcpd.admin();
    assert_eq!(world.mcpd.delete("/api/v1/secrets/keys", &admin).await.status(), StatusCode::NO_CONTENT);
    let failed = world.chat(false).await;
    assert_eq!(
        (failed.status(), header(&failed, "mcpctl-failure")),
        (StatusCode::BAD_GATEWAY, Some("upstream_credentials"))
    );
}
