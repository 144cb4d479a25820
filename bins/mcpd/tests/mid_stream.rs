//! Streams that break after their first content, and what `midStream` makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{AuditFilter, Location, Store, UsageFilter, UsageRow};
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{Gate, ModelServer, Reply},
    response::header,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const ANSWER: &str = "one two three four five six";
const ERROR: &str = "broke off before its end";

/// The caller's dialects: the route, the body's own fields, and what ends a complete stream.
const DIALECTS: [(&str, &str); 3] = [
    ("/v1/chat/completions", "data: [DONE]"),
    ("/v1/messages", "\"type\":\"message_stop\""),
    ("/v1/responses", "\"type\":\"response.completed\""),
];

/// An mcpd whose Llm `first` falls back to `second`, each with a model server of its own.
struct World {
    mcpd: Mcpd,
    first: ModelServer,
    second: ModelServer,
    alice: String,
}

impl World {
    async fn start() -> Self {
        let mcpd = Mcpd::start().await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        Self { first: ModelServer::start().await, second: ModelServer::start().await, mcpd, alice }
    }

    fn document(&self, name: &str, kind: &str) -> Value {
        let server = if name == "first" { &self.first } else { &self.second };
        json!({"kind": "Llm", "name": name, "type": kind, "url": server.base_url(), "model": "m", "retries": {"max": 0}})
    }

    /// Writes both Llms; `more` are fields of `second`.
    async fn apply(&self, mid_stream: &str, kinds: [&str; 2], more: Value) {
        let (mut first, mut second) = (self.document("first", kinds[0]), self.document("second", kinds[1]));
        first["fallbacks"] = json!([{"llm": "second"}]);
        first["midStream"] = json!(mid_stream);
        first["breaker"] = json!({"failures": 1000});
        second["breaker"] = json!({"failures": 1000});
        second.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.mcpd.apply(json!([second, first])).await;
    }

    async fn ask(&self, path: &str, bearer: &str) -> Response {
        let turns = json!([{"role": "user", "content": "Hi"}]);
        let mut body = json!({"model": "first", "stream": true});
        match path {
            "/v1/responses" => body["input"] = turns,
            "/v1/messages" => {
                body["messages"] = turns;
                body["max_tokens"] = json!(100);
            }
            _ => body["messages"] = turns,
        }
        let response = self.mcpd.post(path, bearer, &body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    /// How many requests each model server received.
    fn asked(&self) -> [usize; 2] {
        [self.first.inferences().len(), self.second.inferences().len()]
    }

    async fn store(&self) -> Store {
        let dir = self.mcpd.data_dir();
        let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
        Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await.unwrap()
    }

    /// The rows of usage, oldest first, once there are that many.
    async fn usage(&self, count: usize) -> Vec<UsageRow> {
        let store = self.store().await;
        eventually("the rows of usage", async || {
            let filter = UsageFilter { limit: 100, ..UsageFilter::default() };
            let mut rows = store.usage(&filter).await.unwrap();
            rows.sort_by_key(|row| row.id);
            (rows.len() == count).then_some(rows)
        })
        .await
    }
}

/// The data of a stream's events that are JSON.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

/// The text that a client of any dialect reads.
fn text(stream: &str) -> String {
    let piece = |event: &Value| {
        let of_response = event["type"] == "response.output_text.delta";
        let texts = [&event["choices"][0]["delta"]["content"], &event["delta"]["text"]];
        let text =
            if of_response { event["delta"].as_str() } else { texts.iter().find_map(|text| text.as_str()) };
        text.unwrap_or_default().to_owned()
    };
    events(stream).iter().map(piece).collect()
}

/// Reads until the stream contains `until`.
async fn read_until(response: &mut Response, until: &str) -> String {
    let mut stream = String::new();
    while !stream.contains(until) {
        stream += std::str::from_utf8(&response.chunk().await.unwrap().expect("more of the stream")).unwrap();
    }
    stream
}

/// `first` breaks after three words; the caller gets one answer, in every pair of dialects.
#[tokio::test]
async fn broken_stream_goes_on_in_every_dialect() {
    let world = World::start().await;
    for kinds in
        [["openai", "openai"], ["openai", "anthropic"], ["anthropic", "openai"], ["anthropic", "anthropic"]]
    {
        for (mid_stream, repeats) in [("restart", false), ("continue", false), ("continue", true)] {
            world.apply(mid_stream, kinds, json!({"capabilities": ["prefill"]})).await;
            for (path, end) in DIALECTS {
                let name = format!("{path} over {kinds:?}, {mid_stream} {repeats}");
                world.first.queue(Reply::text(ANSWER).cut_after(3));
                world.second.queue(match (mid_stream, kinds[1]) {
                    ("restart", _) => Reply::pieces(&["on", "e two thr", "ee fo", "ur five six"]),
                    // As llama.cpp's server answers.
                    _ if repeats => Reply::text(ANSWER),
                    // Anthropic's API refuses a beginning that ends with white space.
                    (_, "anthropic") => Reply::pieces(&[" fo", "ur five six"]),
                    _ => Reply::pieces(&["four five ", "six"]),
                });
                let before = world.asked();
                let stream = world.ask(path, &world.alice).await.text().await.unwrap();
                assert_eq!(text(&stream), ANSWER, "{name}: {stream}");
                assert_eq!(stream.matches(end).count(), 1, "{name}: {stream}");
                assert!(!stream.contains(ERROR), "{name}: {stream}");
                assert_eq!(world.asked(), [before[0] + 1, before[1] + 1], "{name}");
                if path == "/v1/chat/completions" {
                    let events = events(&stream);
                    assert!(events.iter().all(|event| event["id"] == events[0]["id"]), "{name}: {stream}");
                }
                let sent = world.second.inferences().pop().unwrap().json();
                let last = sent["messages"].as_array().unwrap().last().unwrap().clone();
                let begun = match (mid_stream, kinds[1]) {
                    ("restart", _) => None,
                    (_, "anthropic") => Some("one two three"),
                    _ => Some("one two three "),
                };
                assert_eq!(last["role"] == "assistant", begun.is_some(), "{name}: {sent}");
                let content = last["content"].as_str().or(last["content"][0]["text"].as_str());
                assert!(begun.is_none() || begun == content, "{name}: {sent}");
            }
        }
    }
}

/// Whatever else happens, the caller gets the error of the stream that broke, and nothing that looks like an end.
#[tokio::test]
async fn inv_13_what_cannot_go_on_ends_with_the_original_error() {
    let world = World::start().await;
    let overloaded = || Reply::error(503, "the second is overloaded", "overloaded");
    let garbage = || Reply::status(200, "<html>").header("content-type", "text/html");
    for (mid_stream, second, asked) in [
        ("error", vec![], 0),
        ("restart", vec![Reply::text("one two 3 four")], 1),
        ("restart", vec![Reply::text("one two")], 1),
        ("restart", vec![Reply::text(ANSWER).cut_after(2)], 1),
        ("restart", vec![overloaded()], 1),
        ("restart", vec![garbage()], 1),
        ("restart", vec![Reply::error(400, "not like this", "bad")], 1),
        // The continuation is refused, and the restart differs.
        ("continue", vec![Reply::error(400, "no prefill", "bad"), Reply::text("eins")], 2),
    ] {
        world.apply(mid_stream, ["openai", "openai"], json!({"capabilities": ["prefill"]})).await;
        for (path, end) in DIALECTS {
            world.first.queue(Reply::text(ANSWER).cut_after(3));
            second.iter().for_each(|reply| world.second.queue(reply.clone()));
            let before = world.asked();
            let stream = world.ask(path, &world.alice).await.text().await.unwrap();
            assert_eq!(text(&stream).trim_end(), "one two three", "{path} {mid_stream} {second:?}: {stream}");
            assert!(
                stream.contains(ERROR) && !stream.contains(end),
                "{path} {mid_stream} {second:?}: {stream}"
            );
            assert_eq!(world.asked(), [before[0] + 1, before[1] + asked], "{path} {mid_stream} {second:?}");
        }
    }
}

/// A refused continuation leads to a restart, also at another fallback; each attempt has its row.
#[tokio::test]
async fn refused_continuation_leads_to_a_restart() {
    let world = World::start().await;
    world.apply("continue", ["openai", "openai"], json!({"capabilities": ["prefill"]})).await;
    world.first.queue(Reply::text(ANSWER).cut_after(3));
    world.second.queue(Reply::error(400, "the last message must be the user's", "bad"));
    world.second.queue(Reply::text(ANSWER));
    let stream = world.ask("/v1/chat/completions", &world.alice).await.text().await.unwrap();
    assert_eq!(text(&stream), ANSWER);
    let rows = world.usage(3).await;
    let outcomes: Vec<_> = rows.iter().map(|row| (row.llm_name.as_str(), row.outcome.as_str())).collect();
    assert_eq!(outcomes, [("first", "broken_stream"), ("second", "rejected"), ("second", "ok")]);
    // What was delivered before the break counts, and what the second one counted.
    assert!(rows[0].estimated && rows[0].output_tokens == 3, "{rows:?}");
    assert!(!rows[2].estimated && rows[2].output_tokens > 0 && rows[1].output_tokens == 0, "{rows:?}");
    assert!(rows.iter().all(|row| row.request_id == rows[0].request_id), "{rows:?}");

    let audit =
        world.store().await.audit(&AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap();
    let mut runs: Vec<_> =
        audit.iter().filter(|row| row.action == "run").map(|row| row.resource_name.as_str()).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["first", "second", "second"], "each attempt has its decision on record");
    eventually("the access log names who answered", async || {
        let log = world.mcpd.log();
        let line = log.lines().find(|line| line.contains("answered") && line.contains("chat/completions"))?;
        let expected = ["served_by=\"second\"", "failover=\"broken_stream\"", "attempts=3"];
        assert!(expected.iter().all(|field| line.contains(field)), "{line}");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn tool_call_is_delivered_once() {
    let world = World::start().await;
    world.apply("continue", ["openai", "anthropic"], json!({"capabilities": ["prefill"]})).await;
    for (path, _) in DIALECTS {
        for (tool, complete) in [("weather", true), ("forecast", false)] {
            let calls = [("weather", "{\"city\":\"Rom\"}"), ("time", "{}")];
            world.first.queue(Reply::tool_calls(&calls).cut_after(2));
            world.second.queue(Reply::tool_calls(&[(tool, "{\"city\":\"Rom\"}"), ("time", "{}")]));
            let before = world.asked();
            let stream = world.ask(path, &world.alice).await.text().await.unwrap();
            assert_eq!(world.asked(), [before[0] + 1, before[1] + 1], "{path}");
            assert_eq!(stream.contains(ERROR), !complete, "{path}: {stream}");
            let mut read = String::new();
            let mut names = Vec::new();
            for event in events(&stream) {
                let of_chat = &event["choices"][0]["delta"]["tool_calls"][0]["function"];
                let (of_messages, of_responses) = (&event["content_block"], &event["item"]);
                let begun =
                    [of_chat, of_messages, of_responses].into_iter().find_map(|call| call["name"].as_str());
                names.extend(
                    begun.filter(|_| event["type"] != "response.output_item.done").map(str::to_owned),
                );
                if event["type"] == "response.function_call_arguments.delta" {
                    read += event["delta"].as_str().unwrap();
                }
                let pieces = [&of_chat["arguments"], &event["delta"]["partial_json"]];
                pieces.iter().filter_map(|piece| piece.as_str()).for_each(|piece| read += piece);
            }
            if complete {
                assert_eq!(
                    (names, read.as_str()),
                    (vec!["weather".into(), "time".into()], "{\"city\":\"Rom\"}{}"),
                    "{path}: {stream}"
                );
            } else {
                let known: Vec<_> = ["weather", "time"].map(str::to_owned).into();
                assert!(known.starts_with(&names), "{path}: {names:?}: {stream}");
                assert!("{\"city\":\"Rom\"}".starts_with(&read), "{path}: {stream}");
            }
        }
    }
}

/// What was revoked while the stream ran, or changed, holds for what goes on with it.
#[tokio::test]
async fn inv_05_revoked_between_begin_and_break_is_not_restarted() {
    let world = World::start().await;
    let admin = world.mcpd.admin();
    let rules = |names: Value| json!([{"kinds": ["llms"], "verbs": ["run"], "names": names}]);
    let both = || rules(json!(["first", "second"]));
    let role = |names: Value| json!([{"kind": "Role", "name": "bob-role", "rules": rules(names)}]);
    for (step, goes_on) in [
        ("nothing", true),
        ("the right to run the first", false),
        ("the right to run the second", false),
        ("the account", false),
        ("midStream", false),
        ("the fallback", false),
    ] {
        world.apply("restart", ["openai", "openai"], json!({})).await;
        let bob = world.mcpd.user_with_rules("bob", both()).await;
        let gate = Gate::new();
        world.first.queue(Reply::text(ANSWER).gate_after(3, &gate).cut_after(3));
        world.second.set_default(Reply::text(ANSWER));
        let before = world.asked();
        let mut response = world.ask("/v1/chat/completions", &bob).await;
        let begun = read_until(&mut response, "three").await;
        match step {
            "the right to run the first" => world.mcpd.apply(role(json!(["second"]))).await,
            "the right to run the second" => world.mcpd.apply(role(json!(["first"]))).await,
            "the account" => {
                assert!(world.mcpd.delete("/api/v1/users/bob", &admin).await.status().is_success());
            }
            "midStream" => world.apply("error", ["openai", "openai"], json!({})).await,
            "the fallback" => {
                assert!(world.mcpd.delete("/api/v1/llms/second", &admin).await.status().is_success());
                // Another Llm under the same name is no fallback of the first.
                world.mcpd.apply(json!([world.document("second", "openai")])).await;
            }
            _ => {}
        }
        gate.release();
        let stream = begun + &response.text().await.unwrap();
        assert_eq!(stream.contains("[DONE]"), goes_on, "{step}: {stream}");
        assert_eq!(stream.contains("\"error\""), !goes_on, "{step}: {stream}");
        assert_eq!(world.asked(), [before[0] + 1, before[1] + usize::from(goes_on)], "{step}");
        world.mcpd.delete("/api/v1/users/bob", &admin).await;
    }
}

#[tokio::test]
async fn caller_who_leaves_cancels_the_attempt_that_goes_on() {
    let world = World::start().await;
    world.apply("restart", ["openai", "openai"], json!({})).await;
    world.first.queue(Reply::text(ANSWER).cut_after(3));
    world.second.queue(Reply::text(ANSWER).stall_after(4));
    let mut response = world.ask("/v1/chat/completions", &world.alice).await;
    assert_eq!(header(&response, "mcpctl-served-by"), Some("first"));
    read_until(&mut response, "four").await;
    drop(response);
    world.second.wait_for_disconnects(1).await;
    let rows = world.usage(2).await;
    let outcomes: Vec<_> = rows.iter().map(|row| (row.llm_name.as_str(), row.outcome.as_str())).collect();
    assert_eq!(outcomes, [("first", "broken_stream"), ("second", "cancelled")]);

    // Also while the attempt is on its way.
    world.first.queue(Reply::text(ANSWER).cut_after(3));
    world.second.queue(Reply::hang());
    let mut response = world.ask("/v1/chat/completions", &world.alice).await;
    read_until(&mut response, "three").await;
    eventually("the second is asked", async || (world.asked()[1] == 2).then_some(())).await;
    drop(response);
    world.second.wait_for_disconnects(2).await;
    let rows = world.usage(4).await;
    assert_eq!(rows[3].outcome, "cancelled", "{rows:?}");
}

/// A Limit holds for what goes on as for every request.
#[tokio::test]
async fn limit_refuses_what_would_go_on() {
    let world = World::start().await;
    world.apply("restart", ["openai", "openai"], json!({})).await;
    world
        .mcpd
        .apply(json!([{"kind": "Limit", "name": "one", "llms": ["second"], "per": "subject",
            "requests": {"max": 1, "window": "1h"}}]))
        .await;
    for goes_on in [true, false] {
        world.first.queue(Reply::text(ANSWER).cut_after(3));
        world.second.set_default(Reply::text(ANSWER));
        let stream = world.ask("/v1/chat/completions", &world.alice).await.text().await.unwrap();
        assert_eq!((stream.contains("[DONE]"), stream.contains(ERROR)), (goes_on, !goes_on), "{stream}");
    }
    assert_eq!(world.asked(), [2, 1]);
}

#[tokio::test]
async fn mid_stream_is_checked_where_it_is_written() {
    let world = World::start().await;
    world.apply("error", ["openai", "openai"], json!({})).await;
    let admin = world.mcpd.admin();
    let mut alone = world.document("first", "openai");
    alone["midStream"] = json!("restart");
    let answer = world.mcpd.post("/api/v1/apply", &admin, &json!([alone])).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["param"], "[0].midStream", "{error}");

    let warning = async |fallbacks: Value, mid_stream: &str| {
        let mut first = world.document("first", "openai");
        first["fallbacks"] = fallbacks;
        first["midStream"] = json!(mid_stream);
        let answer = world.mcpd.post("/api/v1/apply", &admin, &json!([first])).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.unwrap();
        body["warnings"][0].as_str().map(str::to_owned)
    };
    let second = || json!([{"llm": "second"}]);
    assert_eq!(warning(second(), "restart").await, None);
    let none = warning(second(), "continue").await.unwrap();
    assert!(none.contains("no fallback has `capabilities: [prefill]`"), "{none}");
    let other = warning(json!([{"llm": "second", "on": ["connect"]}]), "restart").await.unwrap();
    assert!(other.contains("`server_error`"), "{other}");

    // Without its last fallback an Llm would be invalid.
    warning(second(), "restart").await;
    let answer = world.mcpd.delete("/api/v1/llms/second", &admin).await;
    let warning = header(&answer, "mcpctl-warning").unwrap();
    assert_eq!(warning, "Llm `first` no longer falls back to `second`, and has `midStream: error`");
    let first: Value = world.mcpd.get("/api/v1/llms/first", &admin).await.json().await.unwrap();
    assert_eq!((&first["midStream"], &first["fallbacks"]), (&Value::Null, &Value::Null));
}
