//! Engines as callers meet them, on whole daemons: a queue that ends, comments while one starts, what a model lacks, starts
//! ahead of need, and groups. The engine is the fake one of `crates/engine`; the centre and its provider are as in
//! `failover.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, Mcplocal, eventually, program},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Centre, its provider, an agent with engines, and a user who may run `claude`.
struct World {
    mcpd: Mcpd,
    provider: ModelServer,
    agent: Mcplocal,
    alice: String,
    models: TempDir,
}

impl World {
    /// `engines`: name, script of the fake engine, and further keys of the provider.
    async fn new(engines: &[(&str, &str, &str)]) -> Self {
        let mcpd = Mcpd::start_with(McpdOptions { inference_listener: true, ..McpdOptions::default() }).await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let models = tempfile::tempdir().unwrap();
        let mut config = format!("server: {}\ninference: {}\nproviders:\n", mcpd.url(), mcpd.inference_url());
        let command = program("examples/fake_engine");
        for (name, script, keys) in engines {
            let model = models.path().join(name);
            std::fs::write(&model, script).unwrap();
            config += &format!(
                "  - name: {name}\n    type: llama-server-managed\n    command: {}\n    model: {}\n    {keys}\n",
                command.display(),
                model.display(),
            );
        }
        let agent = Mcplocal::start(&config).await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { mcpd, provider, agent, alice, models }
    }

    fn starts(&self, name: &str) -> usize {
        let file: PathBuf = self.models.path().join(format!("{name}.starts"));
        std::fs::read_to_string(file).unwrap_or_default().lines().count()
    }

    async fn engine(&self, name: &str) -> Value {
        let status = self.agent.status().await;
        let providers = status["providers"].as_array().unwrap();
        providers.iter().find(|provider| provider["name"] == name).unwrap()["engine"].clone()
    }

    async fn until(&self, name: &str, state: &str) {
        eventually(state, async || (self.engine(name).await["state"] == state).then_some(())).await;
    }

    async fn control(&self, name: &str, action: &str) -> Response {
        let path = format!("/api/v1/engines/{name}/{action}");
        self.agent.request(Method::POST, &path, &self.agent.local_key()).send().await.unwrap()
    }

    async fn send(&self, body: &Value) -> Response {
        self.agent.request(Method::POST, "/v1/chat/completions", &self.alice).json(body).send().await.unwrap()
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_full_queue_is_429_with_the_time_to_come_again() {
    let world =
        World::new(&[("desk", "slow 1000", "failoverFor: claude\n    concurrency: 1\n    queue: 1")]).await;
    assert_eq!(world.control("desk", "start").await.status(), StatusCode::OK);
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let key = world.agent.local_key();
    // One runs, one waits, one is too many; whichever way it comes.
    let answers = futures::future::join_all([
        world.agent.chat("claude", &world.alice, false),
        world.agent.chat("local/desk", &key, false),
        world.agent.chat("claude", &world.alice, false),
        world.agent.chat("local/desk", &key, false),
    ])
    .await;
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status() == StatusCode::OK);
    assert_eq!((served.len(), refused.len()), (2, 2));
    for answer in refused {
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(header(&answer, "retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcplocal"));
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "local_busy");
    }
    let status = world.agent.status().await;
    assert!(status["providers"][0]["tokensPerSecond"].as_f64().unwrap() > 0.0, "{status}");
}

#[tokio::test]
async fn while_an_engine_starts_a_streaming_caller_hears_comments_and_then_the_answer() {
    let world = World::new(&[("desk", "load 6500", "failoverFor: claude")]).await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let mut answer = world.agent.chat("claude", &world.alice, true).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"));
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    let first = answer.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b": `desk` is starting (loading weights"), "{first:?}");
    let rest = answer.text().await.unwrap();
    assert!(rest.contains("\"content\":\" engine\"") && rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    // What was served late is on record as what was served at once.
    let journal = world.agent.journal();
    assert_eq!(
        (&journal[0]["outcome"], &journal[0]["access"]),
        (&json!("served"), &json!(["allowed", "allowed"]))
    );
    assert!(!journal[0]["request"].as_str().unwrap().is_empty());
    assert_eq!(journal[1]["outcome"], "ok");
    assert_eq!(journal[1]["request"], journal[0]["request"]);
}

#[tokio::test]
async fn a_caller_revoked_while_it_hears_comments_gets_an_error_and_no_local_byte() {
    let world = World::new(&[("desk", "load 7000", "failoverFor: claude")]).await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let mut answer = world.agent.chat("claude", &world.alice, true).await;
    assert!(answer.chunk().await.unwrap().unwrap().starts_with(b": "));
    let gone = world.mcpd.delete("/api/v1/rolebindings/alice-llm-user", &world.mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let rest = answer.text().await.unwrap();
    let events: Vec<&str> = rest.lines().filter(|line| line.starts_with("data: ")).collect();
    assert_eq!(events.len(), 1, "{rest}");
    assert!(events[0].contains("overloaded") && !rest.contains("[DONE]"), "the primary's own error: {rest}");
    assert_eq!(world.agent.journal()[0]["access"], json!(["allowed", "forbidden"]));
}

#[tokio::test]
async fn what_the_model_lacks_is_not_sent_to_it() {
    let props = r#"props {"default_generation_settings":{"n_ctx":2048},"modalities":{"vision":false},"chat_template_caps":{"supports_tools":false}}"#;
    let world =
        World::new(&[("asked", props, "failoverFor: claude"), ("declared", "", "capabilities: [tools]")])
            .await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "tools": tools});
    let answer = world.send(&body).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(header(&answer, "mcpctl-no-failover"), Some("lacks_tools"));
    let journal = world.agent.journal();
    assert_eq!(journal[0]["outcome"], "failed");
    assert_eq!(journal.len(), 1, "nothing ran locally: {journal:?}");
    // What it can do, it does.
    assert_eq!(world.agent.chat("claude", &world.alice, false).await.status(), StatusCode::OK);

    // Declared, it is known before anything is started.
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    let body = json!({"model": "local/declared", "messages": [{"role": "user", "content": image}]});
    let request = world.agent.request(Method::POST, "/v1/chat/completions", &world.agent.local_key());
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "lacks_vision");
    assert_eq!(world.starts("declared"), 0);
}

#[tokio::test]
async fn trouble_starts_the_engine_for_those_who_may_and_for_nobody_else() {
    let world = World::new(&[("desk", "", "failoverFor: claude\n    prewarm: onTrouble")]).await;
    world.provider.set_default(Reply::text("one two three four").cut_after(2));
    // A stranger's trouble is nobody's.
    let bob = world.mcpd.user("bob", None).await;
    assert_eq!(world.agent.chat("claude", &bob, true).await.status(), StatusCode::FORBIDDEN);

    let carol = world.mcpd.user("carol", Some("llm-user")).await;
    let mut stream = world.agent.chat("claude", &carol, true).await;
    assert!(stream.chunk().await.unwrap().is_some());
    drop(stream);
    assert_eq!(world.starts("desk"), 0, "a caller who goes is no trouble of the primary's");

    let broken = world.agent.chat("claude", &world.alice, true).await.text().await.unwrap();
    assert!(broken.contains("\"error\"") && !broken.contains("[DONE]"), "{broken}");
    world.until("desk", "ready").await;
    // So the second failure finds it warm.
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let answer = world.agent.chat("claude", &world.alice, false).await;
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    assert_eq!(world.starts("desk"), 1);
}

#[tokio::test]
async fn a_primary_that_takes_a_quarter_of_its_time_is_in_trouble_and_may_yet_answer() {
    let world = World::new(&[("desk", "", "failoverFor: claude\n    prewarm: onTrouble")]).await;
    let file = world.agent.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}primary: {{timeouts: {{response: 8s}}}}\n")).unwrap();
    // The centre is more patient than the agent.
    let patient = json!({
        "kind": "Llm", "name": "claude", "type": "openai", "url": world.provider.base_url(), "model": "m",
        "timeouts": {"response": "30s", "firstToken": "30s"},
    });
    world.mcpd.apply(json!([patient])).await;
    eventually("the change is in force", async || {
        world.agent.log().contains("the configuration changed and is in force").then_some(())
    })
    .await;
    let gate = mcpctl_testkit::model_server::Gate::new();
    world.provider.set_default(Reply::text("from the centre").gate_after(0, &gate));
    let answer = world.agent.chat("claude", &world.alice, true);
    let warmed = async {
        world.until("desk", "ready").await;
        gate.release();
    };
    let (answer, ()) = futures::join!(answer, warmed);
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("claude"));
    assert!(answer.text().await.unwrap().trim_end().ends_with("data: [DONE]"));
    assert!(world.agent.log().contains("it is slow to answer"), "{}", world.agent.log());
}

#[tokio::test]
async fn what_stands_by_sleeps_and_is_stopped_when_its_time_is_over() {
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    std::fs::write(&model, "").unwrap();
    let mcpd = Mcpd::start().await;
    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - name: desk\n    type: vllm-managed\n    command: {}\n    model: {}\n    idleTimeout: 1s\n    swap: standby\n    standbyTimeout: 1s\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    ))
    .await;
    let start = agent.request(Method::POST, "/api/v1/engines/desk/start", &agent.local_key());
    assert_eq!(start.send().await.unwrap().status(), StatusCode::OK);
    for state in ["sleeping", "stopped"] {
        eventually(state, async || {
            (agent.status().await["providers"][0]["engine"]["state"] == state).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn trouble_of_a_caller_who_was_revoked_starts_nothing() {
    let world = World::new(&[("desk", "", "failoverFor: claude\n    prewarm: onTrouble")]).await;
    let gate = mcpctl_testkit::model_server::Gate::new();
    world.provider.set_default(Reply::text("one two three four").gate_after(2, &gate).cut_after(3));
    let mut stream = world.agent.chat("claude", &world.alice, true).await;
    assert!(stream.chunk().await.unwrap().is_some());
    world.mcpd.delete("/api/v1/rolebindings/alice-llm-user", &world.mcpd.admin()).await;
    gate.release();
    stream.text().await.unwrap();
    eventually("the centre was asked", async || {
        world.agent.log().contains("the primary shows trouble").then_some(())
    })
    .await;
    assert!(world.agent.log().contains("access=\"forbidden\""), "{}", world.agent.log());
    assert_eq!((world.starts("desk"), &world.engine("desk").await["state"]), (0, &json!("stopped")));
}

#[tokio::test]
async fn always_is_with_the_agent_again_after_a_crash_and_not_after_a_stop_by_hand() {
    let world = World::new(&[("desk", "", "prewarm: always")]).await;
    world.until("desk", "ready").await;
    let pid = world.engine("desk").await["pid"].as_u64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("it is started again", async || {
        let engine = world.engine("desk").await;
        (engine["state"] == "ready" && engine["starts"] == 2).then_some(())
    })
    .await;
    assert_eq!(world.control("desk", "stop").await.status(), StatusCode::OK);
    // Whoever wanted it back would have it back by the next look.
    for _ in 0..20 {
        assert_eq!(world.engine("desk").await["state"], "stopped");
    }
    // A request is as good as a hand; and from then on it is kept again.
    let answer = world.agent.chat("local/desk", &world.agent.local_key(), false).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(world.starts("desk"), 3, "nothing started it in between");
}

#[tokio::test]
async fn engines_of_a_group_take_turns_and_others_do_not() {
    let world = World::new(&[("one", "", ""), ("two", "", ""), ("other", "", "group: cpu")]).await;
    let key = world.agent.local_key();
    for name in ["other", "one", "two"] {
        let answer = world.agent.chat(&format!("local/{name}"), &key, false).await;
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
    }
    let state = async |name| world.engine(name).await["state"].clone();
    assert_eq!(
        (state("one").await, state("two").await, state("other").await),
        (json!("stopped"), json!("ready"), json!("ready"))
    );
}

#[tokio::test]
async fn a_changed_engine_lets_its_requests_end_and_an_unchanged_one_goes_on() {
    let world = World::new(&[("one", "slow 1500", "group: a"), ("two", "", "group: b")]).await;
    let key = world.agent.local_key();
    assert_eq!(world.control("two", "start").await.status(), StatusCode::OK);
    let change = async {
        eventually("the request runs", async || (world.engine("one").await["inFlight"] == 1).then_some(()))
            .await;
        let file = world.agent.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("group: a", "group: a\n    contextLength: 512")).unwrap();
        eventually("the change is in force", async || {
            (world.engine("one").await["inFlight"] == 0).then_some(())
        })
        .await;
    };
    let (answer, ()) = futures::join!(world.agent.chat("local/one", &key, false), change);
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    assert_eq!(world.agent.chat("local/one", &key, false).await.status(), StatusCode::OK);
    assert_eq!((world.starts("one"), world.starts("two")), (2, 1));
    assert_eq!(world.engine("two").await["state"], "ready");
}

#[tokio::test]
async fn who_waits_for_an_engine_that_is_changed_gets_the_new_one() {
    let world = World::new(&[("desk", "load 60000", "failoverFor: claude")]).await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let key = world.agent.local_key();
    let change = async {
        eventually("two wait", async || {
            (world.engine("desk").await["queued"] == 2 && world.starts("desk") == 1).then_some(())
        })
        .await;
        std::fs::write(world.models.path().join("desk"), "").unwrap();
        let file = world.agent.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(
            &file,
            config.replace("failoverFor: claude", "failoverFor: claude\n    idleTimeout: 1h"),
        )
        .unwrap();
    };
    let (central, own, ()) = futures::join!(
        world.agent.chat("claude", &world.alice, false),
        world.agent.chat("local/desk", &key, false),
        change
    );
    assert_eq!(own.status(), StatusCode::OK, "{}", own.text().await.unwrap());
    assert_eq!(header(&central, "mcpctl-served-by"), Some("desk"));
    assert_eq!(world.starts("desk"), 2);
}

#[tokio::test]
async fn who_waits_for_an_engine_that_stands_in_no_more_gets_the_primarys_error() {
    let world = World::new(&[("desk", "load 60000", "failoverFor: claude")]).await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let change = async {
        eventually("one waits", async || {
            (world.engine("desk").await["queued"] == 1 && world.starts("desk") == 1).then_some(())
        })
        .await;
        std::fs::write(world.models.path().join("desk"), "").unwrap();
        let file = world.agent.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("failoverFor: claude", "failoverFor: gpt\n    idleTimeout: 1h"))
            .unwrap();
    };
    let (answer, ()) = futures::join!(world.agent.chat("claude", &world.alice, false), change);
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "mcpctl-no-failover"), Some("local_failed"));
    assert_eq!(world.starts("desk"), 1, "nothing ran for it");
}

#[tokio::test]
async fn a_failure_is_learned_at_once_though_the_stand_in_takes_long() {
    let world = World::new(&[("desk", "load 60000", "failoverFor: claude")]).await;
    let file = world.agent.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}primary: {{breaker: {{failures: 1, open: 1h}}}}\n")).unwrap();
    eventually("the change is in force", async || {
        world.agent.log().contains("the configuration changed and is in force").then_some(())
    })
    .await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let first = world.agent.chat("claude", &world.alice, false);
    let others = async {
        eventually("the first waits", async || (world.engine("desk").await["queued"] == 1).then_some(()))
            .await;
        let asked = world.provider.inferences().len();
        let second = world.agent.chat("claude", &world.alice, false);
        let seen = async {
            eventually("the second waits too", async || {
                (world.engine("desk").await["queued"] == 2).then_some(())
            })
            .await;
            assert_eq!(world.provider.inferences().len(), asked, "the primary rests");
            world.control("desk", "stop").await;
        };
        futures::join!(second, seen).0
    };
    let (first, second) = futures::join!(first, others);
    // Nobody stood in after all, so the second asked the primary in the end.
    assert_eq!(
        (first.status(), second.status()),
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE)
    );
}

#[tokio::test]
async fn what_mcpd_says_of_its_provider_is_not_asked_again() {
    let mut world = World::new(&[]).await;
    world.provider.refuse().await;
    let answer = world.agent.chat("claude", &world.alice, false).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    let log = world.mcpd.log();
    assert_eq!(
        log.matches("route=\"/v1/chat/completions\"").count(),
        2,
        "answered once, with one warning: {log}"
    );
}

#[tokio::test]
async fn a_log_that_is_followed_goes_on_with_the_next_start_and_does_not_hold_the_agent_up() {
    let mut world = World::new(&[("desk", "", "")]).await;
    let path = "/api/v1/engines/desk/logs?follow=true";
    let mut log = world.agent.request(Method::GET, path, &world.agent.local_key()).send().await.unwrap();
    for start in 1..=3 {
        assert_eq!(world.control("desk", "start").await.status(), StatusCode::OK);
        let mut said = String::new();
        while !said.contains("fake engine on port") {
            said += &String::from_utf8_lossy(&log.chunk().await.unwrap().expect("it goes on"));
        }
        assert_eq!(world.starts("desk"), start);
        world.control("desk", "stop").await;
    }
    world.agent.terminate();
    while log.chunk().await.unwrap().is_some() {}
    assert!(world.agent.wait().success());
    assert!(world.agent.log().contains("ended"), "{}", world.agent.log());
}

#[tokio::test]
async fn a_long_log_is_read_whole_and_a_start_is_counted_once() {
    let world = World::new(&[("desk", "", "")]).await;
    let key = world.agent.local_key();
    assert_eq!(world.control("desk", "start").await.status(), StatusCode::OK);
    assert_eq!(world.agent.chat("local/desk", &key, false).await.status(), StatusCode::OK);
    // What has grown too large for one file.
    std::fs::write(world.agent.state_dir().join("logs/desk@older.log"), "the older part\n").unwrap();
    let get = async |path: &str| {
        let answer = world.agent.request(Method::GET, path, &key).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let log = get("/api/v1/engines/desk/logs").await;
    assert!(log.starts_with("the older part\nfake engine on port"), "{log}");
    let metrics = get("/metrics").await;
    assert!(metrics.contains(r#"mcpctl_engine_starts_total{engine="desk",outcome="ready"} 1"#), "{metrics}");
}

#[tokio::test]
async fn asked_twice_the_agent_ends_at_once_and_its_engines_too() {
    let mut world = World::new(&[("desk", "slow 20000", "")]).await;
    assert_eq!(world.control("desk", "start").await.status(), StatusCode::OK);
    let pid = world.engine("desk").await["pid"].as_u64().unwrap();
    let key = world.agent.local_key();
    let ends = async {
        eventually("the request runs", async || (world.engine("desk").await["inFlight"] == 1).then_some(()))
            .await;
        world.agent.terminate();
        eventually("it lets the request end", async || {
            world.agent.log().contains("asked to end").then_some(())
        })
        .await;
        world.agent.terminate();
    };
    let body = json!({"model": "local/desk", "messages": [{"role": "user", "content": "Hi"}]});
    let request = world.agent.request(Method::POST, "/v1/chat/completions", &key).json(&body).send();
    let (answer, ()) = futures::join!(request, ends);
    // Cut with the agent, or refused because its engine was quicker to end.
    let status = answer.ok().map(|answer| answer.status());
    assert!(status.is_none_or(|status| status == StatusCode::BAD_GATEWAY), "{status:?}");
    assert!(world.agent.wait().success());
    eventually("its engine is gone", async || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_without_a_named_model_is_asked_for_its_only_one() {
    let world = World::new(&[]).await;
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    desk.set_models(&["the-only-one"]);
    let config = format!(
        "server: {}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n",
        world.mcpd.url(),
        desk.base_url()
    );
    let agent = Mcplocal::start(&config).await;
    agent.sign_in(&world.mcpd, "alice", &world.alice);
    let answer = agent.chat("local/desk", &agent.local_key(), false).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(desk.inferences()[0].json()["model"], "the-only-one");
    assert_eq!(agent.status().await["providers"][0]["model"], "the-only-one");

    desk.set_models(&["one", "two"]);
    let agent = Mcplocal::start(&config).await;
    agent.sign_in(&world.mcpd, "alice", &world.alice);
    let answer = agent.chat("local/desk", &agent.local_key(), false).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let body: Value = answer.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("not exactly one model"), "{message}");
}
