//! Llms that fall back to others: which failures lead there, for whom, and what may be written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{AuditFilter, Location, Store, UsageFilter};
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{ModelServer, Reply},
    response::{content, header},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// An mcpd with the Llms `first`, `second` and `third`, each with a model server of its own.
struct World {
    mcpd: Mcpd,
    servers: [ModelServer; 3],
    alice: String,
}

const LLMS: [&str; 3] = ["first", "second", "third"];

impl World {
    /// Starts it. `first` falls back as the JSON of `fallbacks` says, and has `more` fields.
    async fn start(fallbacks: Value, more: Value) -> Self {
        let mcpd = Mcpd::start().await;
        let mut servers = Vec::new();
        for llm in LLMS {
            servers.push(ModelServer::with_default(Reply::text(&format!("from the {llm}"))).await);
        }
        let world = Self {
            alice: mcpd.user("alice", Some("llm-user")).await,
            mcpd,
            servers: servers.try_into().unwrap(),
        };
        let mut first = world.document(0);
        first["fallbacks"] = fallbacks;
        first.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.mcpd.apply(json!([first, world.document(1), world.document(2)])).await;
        world
    }

    /// The document of an Llm without fallbacks.
    fn document(&self, at: usize) -> Value {
        json!({
            "kind": "Llm", "name": LLMS[at], "type": "openai", "url": self.servers[at].base_url(), "model": "m",
            "retries": {"max": 0},
        })
    }

    async fn chat(&self, bearer: &str, stream: bool) -> Response {
        let body =
            json!({"model": "first", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
        self.mcpd.post("/v1/chat/completions", bearer, &body).await
    }

    /// How many requests each model server received.
    fn asked(&self) -> [usize; 3] {
        [0, 1, 2].map(|at: usize| self.servers[at].inferences().len())
    }

    async fn store(&self) -> Store {
        let dir = self.mcpd.data_dir();
        let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
        Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await.unwrap()
    }
}

fn overloaded() -> Reply {
    Reply::error(503, "the first is overloaded", "overloaded")
}

/// What the caller gets of a fault of `first`, and whether `second` is asked; each streamed and not.
#[tokio::test]
async fn listed_failures_lead_to_the_fallback_and_no_others() {
    let fallbacks = json!([{"llm": "second"}, {"llm": "third", "on": ["context_length"]}]);
    let world = World::start(fallbacks, json!({"breaker": {"failures": 1000}})).await;
    let garbage = || Reply::status(200, "<html>").header("content-type", "text/html");
    let model = || Reply::error(404, "the model `m` does not exist", "model_not_found");
    for (reply, class, served_by) in [
        (overloaded(), "server_error", "second"),
        (Reply::reset(), "connect", "second"),
        (Reply::rate_limited("60"), "rate_limited", "second"),
        (Reply::error(401, "no such key", "invalid_api_key"), "upstream_credentials", "second"),
        (model(), "model_unavailable", "second"),
        (garbage(), "server_error", "second"),
        (Reply::context_length(), "context_length", "third"),
        (Reply::error(400, "not like this", "bad"), "rejected", "first"),
        (Reply::error(400, "flagged", "content_filter"), "rejected", "first"),
    ] {
        for stream in [false, true] {
            let before = world.asked();
            world.servers[0].set_default(reply.clone());
            let answer = world.chat(&world.alice, stream).await;
            assert_eq!(header(&answer, "mcpctl-served-by"), Some(served_by), "{class} {stream}");
            if served_by == "first" {
                assert_eq!(header(&answer, "mcpctl-failure"), Some(class), "{stream}");
                assert_eq!(header(&answer, "mcpctl-failover"), None);
                assert_eq!(world.asked()[1..], before[1..], "{class} {stream}");
            } else {
                assert_eq!(
                    (answer.status(), header(&answer, "mcpctl-failover")),
                    (StatusCode::OK, Some(class))
                );
                let text = answer.text().await.unwrap();
                assert!(text.contains(served_by) && !text.contains("first"), "{text}");
            }
        }
    }
}

/// A stream that has no content yet falls back; the caller gets one stream, of the fallback.
#[tokio::test]
async fn silence_before_the_first_content_leads_to_the_fallback() {
    let fallbacks = json!([{"llm": "second", "on": ["no_response", "no_first_token"]}]);
    let world = World::start(fallbacks.clone(), json!({})).await;
    let start_up_only = Reply::text("late").start_up(3, 10).stall_after(0);
    for (reply, class, timeout) in
        [(Reply::hang(), "no_response", "response"), (start_up_only, "no_first_token", "firstToken")]
    {
        let mut first = world.document(0);
        first["fallbacks"] = fallbacks.clone();
        first["timeouts"] = json!({ timeout: "1s" });
        world.mcpd.apply(json!([first])).await;
        world.servers[0].queue(reply);
        let answer = world.chat(&world.alice, true).await;
        assert_eq!((answer.status(), header(&answer, "mcpctl-failover")), (StatusCode::OK, Some(class)));
        assert_eq!(header(&answer, "mcpctl-attempts"), Some("2"));
        let text = answer.text().await.unwrap();
        assert!(text.contains("second") && text.matches("[DONE]").count() == 1, "{text}");
    }
    world.servers[0].wait_for_disconnects(2).await;
}

/// `bob` may run `first` and `third`: `second` is left out for him, and no record says that he ran it.
#[tokio::test]
async fn inv_07_caller_without_the_right_skips_the_fallback() {
    let world = World::start(json!([{"llm": "second"}, {"llm": "third"}]), json!({})).await;
    let rules = |names: Value| json!([{"kinds": ["llms"], "verbs": ["run"], "names": names}]);
    let bob = world.mcpd.user_with_rules("bob", rules(json!(["first", "third"]))).await;
    let carol = world.mcpd.user_with_rules("carol", rules(json!(["first"]))).await;
    world.servers[0].set_default(overloaded());

    assert_eq!(content(world.chat(&bob, false).await).await, "from the third");
    let denied = world.chat(&carol, false).await;
    assert_eq!(denied.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(denied.text().await.unwrap().contains("the first is overloaded"));
    assert_eq!(world.asked(), [2, 0, 1]);
    assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");

    let store = world.store().await;
    let audit = store.audit(&AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap();
    let mut runs: Vec<_> = audit
        .iter()
        .filter(|row| row.action == "run")
        .map(|row| (row.principal.as_str(), row.resource_name.as_str()))
        .collect();
    runs.sort_unstable();
    let expected = [
        ("User alice", "first"),
        ("User alice", "second"),
        ("User bob", "first"),
        ("User bob", "third"),
        ("User carol", "first"),
    ];
    assert_eq!(runs, expected);
    // Tokens are booked to the Llm that answered.
    let usage = store.usage(&UsageFilter { limit: 100, ..UsageFilter::default() }).await.unwrap();
    assert!(usage.iter().all(|row| (row.output_tokens > 0) == (row.llm_name != "first")), "{usage:?}");
}

#[tokio::test]
async fn inv_03_own_error_is_returned_when_every_fallback_fails() {
    let world = World::start(json!([{"llm": "second"}]), json!({})).await;
    let mut second = world.document(1);
    second["fallbacks"] = json!([{"llm": "third"}]);
    world.mcpd.apply(json!([second])).await;
    let error = r#"{"error":{"message":"own words","type":"t","code":"c","param":null}}"#;
    world.servers[0].set_default(Reply::status(500, error).header("content-type", "application/json"));
    world.servers[1].set_default(overloaded());
    assert_eq!(
        content(world.chat(&world.alice, false).await).await,
        "from the third",
        "a fallback's own fallback"
    );

    for (third, asked) in [(overloaded(), [2, 2, 2]), (Reply::error(400, "bad", "bad"), [3, 3, 3])] {
        world.servers[2].set_default(third);
        let answer = world.chat(&world.alice, true).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(header(&answer, "mcpctl-served-by"), Some("first"));
        assert_eq!(header(&answer, "mcpctl-attempts"), Some("3"));
        assert_eq!(answer.text().await.unwrap(), error);
        assert_eq!(world.asked(), asked);
    }
}

#[tokio::test]
async fn open_breaker_skips_to_the_fallback_or_costs_one_attempt() {
    let more = json!({"breaker": {"failures": 2, "open": "1h"}, "retries": {"max": 2}});
    let world = World::start(json!([{"llm": "second"}]), more).await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["first"]}]);
    let bob = world.mcpd.user_with_rules("bob", rules).await;
    world.servers[0].set_default(Reply::error(503, "overloaded", "overloaded").header("retry-after", "0"));
    for _ in 0..2 {
        assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");
    }
    let before = world.asked()[0];
    let answer = world.chat(&world.alice, true).await;
    assert_eq!((answer.status(), header(&answer, "mcpctl-failover")), (StatusCode::OK, Some("server_error")));
    assert_eq!((header(&answer, "mcpctl-attempts"), world.asked()[0]), (Some("1"), before), "it is skipped");
    // There is nothing else for bob: it is tried, once.
    assert_eq!(world.chat(&bob, false).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.asked()[0], before + 1);
    // It is skipped even where the fallback fails, and then tried.
    world.servers[1].set_default(Reply::error(503, "overloaded", "overloaded"));
    world.servers[0].set_default(Reply::text("from the first"));
    assert_eq!(content(world.chat(&world.alice, false).await).await, "from the first");
}

/// An estimate reaches no provider: it neither ends a row of failures nor closes a breaker.
#[tokio::test]
async fn estimated_counts_teach_a_breaker_nothing() {
    let more = json!({"breaker": {"failures": 2, "open": "1h"}});
    let world = World::start(json!([{"llm": "second"}]), more).await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["first"]}]);
    let bob = world.mcpd.user_with_rules("bob", rules).await;
    world.servers[0].set_default(Reply::reset());
    let count = json!({"model": "first", "messages": [{"role": "user", "content": "How many are these?"}]});
    for _ in 0..2 {
        assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");
        let counted = world.mcpd.post("/v1/messages/count_tokens", &bob, &count).await;
        assert_eq!(
            (counted.status(), header(&counted, "mcpctl-estimated"), header(&counted, "mcpctl-attempts")),
            (StatusCode::OK, Some("input_tokens"), Some("0"))
        );
    }
    let before = world.asked()[0];
    assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");
    assert_eq!(world.asked()[0], before, "the first is skipped");
    let rows = eventually("all rows are stored", async || {
        let rows =
            world.store().await.usage(&UsageFilter { limit: 50, ..UsageFilter::default() }).await.unwrap();
        (rows.iter().filter(|row| row.attempts == 0).count() == 2).then_some(rows)
    })
    .await;
    for row in rows.iter().filter(|row| row.attempts == 0) {
        assert_eq!(
            (row.input_tokens, row.output_tokens, row.estimated),
            (0, 0, false),
            "a count is no output"
        );
    }
}

#[tokio::test]
async fn fallbacks_are_checked_when_they_are_written() {
    let world = World::start(json!([{"llm": "second"}]), json!({})).await;
    let with = |at: usize, fallbacks: Value| {
        let mut document = world.document(at);
        document["fallbacks"] = fallbacks;
        document
    };
    let admin = world.mcpd.admin();
    let refused = async |bearer: &str, documents: Value| {
        let answer = world.mcpd.post("/api/v1/apply", bearer, &documents).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        format!(
            "{status} {} {}",
            body["error"]["param"].as_str().unwrap_or("-"),
            body["error"]["message"].as_str().unwrap_or("-")
        )
    };
    let named = |name: &str, fallback: &str| {
        let mut document = with(0, json!([{"llm": fallback}]));
        document["name"] = json!(name);
        document
    };
    for (documents, expected) in [
        (json!([with(0, json!([{"llm": "nothing"}]))]), "there is no Llm `nothing`"),
        (json!([with(0, json!([{"llm": "first"}]))]), "they lead in a circle"),
        (json!([with(1, json!([{"llm": "first"}]))]), "they lead in a circle"),
        (
            json!([with(1, json!([{"llm": "third"}])), with(2, json!([{"llm": "first"}]))]),
            "they lead in a circle",
        ),
        (
            json!([named("a", "b"), named("b", "c"), named("c", "d"), named("d", "first")]),
            "the chain is 5 fallbacks long",
        ),
        (json!([with(0, json!([{"llm": "second"}, {"llm": "second"}]))]), "`second` is named twice"),
        (json!([with(0, json!([{"llm": "second", "on": []}]))]), "no failure leads to it"),
        (json!([with(0, json!([{"llm": "second", "on": ["rejected"]}]))]), "unknown variant `rejected`"),
    ] {
        let answer = refused(&admin, documents).await;
        assert!(answer.starts_with("400 ") && answer.contains(expected), "{expected}: {answer}");
    }
    // Whether `third` or `nothing` exists is not for a writer who may not view them.
    let rules = json!([{"kinds": ["llms"], "verbs": ["view", "edit"], "names": ["first"]}]);
    let editor = world.mcpd.user_with_rules("eve", rules).await;
    for name in ["third", "nothing"] {
        let answer = refused(&editor, json!([with(0, json!([{"llm": "second"}, {"llm": name}]))])).await;
        assert_eq!(answer, format!("403 [0] `User eve` may not view llms `{name}`"));
    }
    // One that was there may stay.
    let mut kept = with(0, json!([{"llm": "second"}]));
    kept["description"] = json!("edited");
    let answer = world.mcpd.post("/api/v1/apply", &editor, &json!([kept])).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

/// As with bindings, a name means the Llm that it meant when it was written.
#[tokio::test]
async fn rename_and_deletion_change_the_fallbacks_that_name_it() {
    let world = World::start(json!([{"llm": "second"}, {"llm": "third"}]), json!({})).await;
    let admin = world.mcpd.admin();
    let mut renamed = world.document(1);
    renamed["name"] = json!("other");
    let answer =
        world.mcpd.request(Method::PUT, "/api/v1/llms/second", &admin).json(&renamed).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        header(&answer, "mcpctl-warning"),
        Some("Llm `first` falls back to `other` instead of `second`")
    );
    let answer = world.mcpd.delete("/api/v1/llms/third", &admin).await;
    assert_eq!(header(&answer, "mcpctl-warning"), Some("Llm `first` no longer falls back to `third`"));
    let first: Value = world.mcpd.get("/api/v1/llms/first", &admin).await.json().await.unwrap();
    let names: Vec<_> = first["fallbacks"].as_array().unwrap().iter().map(|one| &one["llm"]).collect();
    assert_eq!(names, ["other"]);
    world.servers[0].set_default(overloaded());
    assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");
    eventually("the fallback is counted", async || {
        let metrics = world.mcpd.get("/metrics", &admin).await.text().await.unwrap();
        metrics.contains("mcpctl_fallbacks_total{llm=\"first\",outcome=\"served\"} 1").then_some(())
    })
    .await;
}

/// The state is for those who may view the Llm; the number of open breakers is in the metrics.
#[tokio::test]
async fn breaker_is_shown_with_its_class_and_next_try() {
    let more = json!({"breaker": {"failures": 2, "open": "1h"}});
    let world = World::start(json!([{"llm": "second"}]), more).await;
    let admin = world.mcpd.admin();
    let breaker = async || {
        let answer = world.mcpd.get("/api/v1/llms/first/status", &admin).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let status: Value = answer.json().await.unwrap();
        assert_eq!((&status["llm"], status["breakers"].as_array().unwrap().len()), (&json!("first"), 1));
        status["breakers"][0].clone()
    };
    let metrics = async || world.mcpd.get("/metrics", &admin).await.text().await.unwrap();
    let closed = breaker().await;
    assert_eq!((&closed["state"], closed["lastFailure"].is_null()), (&json!("closed"), true), "{closed}");
    assert!(closed["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{closed}");
    assert!(metrics().await.contains("mcpctl_open_breakers{llm=\"first\"} 0\n"));

    world.servers[0].set_default(Reply::rate_limited("60"));
    for _ in 0..2 {
        assert_eq!(content(world.chat(&world.alice, false).await).await, "from the second");
    }
    let open = breaker().await;
    assert_eq!((&open["state"], &open["lastFailure"]), (&json!("open"), &json!("rate_limited")));
    assert!(open["since"].is_string() && open["nextTryAt"].is_string(), "{open}");
    let shown = metrics().await;
    assert!(shown.contains("mcpctl_open_breakers{llm=\"first\"} 1\n"), "{shown}");

    let stranger = world.mcpd.user("stranger", None).await;
    for (bearer, expected) in [(stranger.as_str(), StatusCode::FORBIDDEN), ("", StatusCode::UNAUTHORIZED)] {
        for llm in ["first", "missing"] {
            let answer = world.mcpd.get(&format!("/api/v1/llms/{llm}/status"), bearer).await;
            assert_eq!(answer.status(), expected, "{llm}");
        }
    }
    let answer = world.mcpd.get("/api/v1/users/alice/status", &admin).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "no other kind has a status");
}
