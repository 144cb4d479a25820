//! Every dialect of a caller at every type of provider, streamed and not: the answer in the caller's own dialect, bytes untouched
//! where nothing has to change, and what the provider saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{collections::BTreeMap, sync::Arc};

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Location, Store, UsageFilter, UsageRow};
use mcpctl_testkit::{central::Central, daemons::eventually, model_server::Reply};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const KEY: &str = "sk-of-the-provider-0123456789";

/// Callers by the route that they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Chat,
    Responses,
    Messages,
}

use Caller::{Chat, Messages, Responses};

const CALLERS: [Caller; 3] = [Chat, Responses, Messages];

/// The Llms by their names, and where each caller's request arrives.
const LLMS: [(&str, [&str; 3]); 5] = [
    ("openai", ["/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]),
    ("native", ["/v1/chat/completions", "/v1/responses", "/v1/messages"]),
    ("anthropic", ["/v1/messages", "/v1/messages", "/v1/messages"]),
    ("azure", ["/openai/v1/chat/completions", "/openai/v1/chat/completions", "/openai/v1/chat/completions"]),
    (
        "dated",
        [
            "/openai/deployments/up/chat/completions?api-version=2024-10-21",
            "/openai/deployments/up/chat/completions?api-version=2024-10-21",
            "/openai/deployments/up/chat/completions?api-version=2024-10-21",
        ],
    ),
];

impl Caller {
    fn path(self) -> &'static str {
        match self {
            Chat => "/v1/chat/completions",
            Responses => "/v1/responses",
            Messages => "/v1/messages",
        }
    }

    fn body(self, llm: &str, stream: bool) -> Value {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let mut body = match self {
            Chat => {
                json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}],
                "stream_options": {"include_usage": true}, "max_tokens": 50})
            }
            Responses => json!({"instructions": "Be brief.", "input": "Hi", "max_output_tokens": 50,
                "tools": [{"type": "function", "name": "weather", "parameters": schema, "strict": false}]}),
            Messages => {
                json!({"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50,
                "tools": [{"name": "weather", "input_schema": schema}]})
            }
        };
        if !stream && let Some(body) = body.as_object_mut() {
            body.remove("stream_options");
        }
        body["model"] = llm.into();
        body["stream"] = stream.into();
        body
    }

    /// What a stream ends with when it is complete.
    fn end(self) -> &'static str {
        match self {
            Chat => "data: [DONE]",
            Responses => "event: response.completed",
            Messages => "event: message_stop",
        }
    }

    /// The text and the calls of a whole answer.
    fn whole(self, answer: &Value) -> (String, Vec<(String, Value)>) {
        let parsed = |text: &Value| serde_json::from_str(text.as_str().unwrap()).unwrap();
        let name = |of: &Value| of["name"].as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let of_type = |items: &Value, kind: &str| -> Vec<Value> {
            list(items).into_iter().filter(|item| item["type"] == kind).collect()
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Chat => {
                let message = &answer["choices"][0]["message"];
                let call = |call: &Value| (name(&call["function"]), parsed(&call["function"]["arguments"]));
                (text(&message["content"]), list(&message["tool_calls"]).iter().map(call).collect())
            }
            Responses => {
                let texts = of_type(&answer["output"], "message");
                let calls = of_type(&answer["output"], "function_call");
                (
                    texts.iter().map(|item| text(&item["content"][0]["text"])).collect(),
                    calls.iter().map(|call| (name(call), parsed(&call["arguments"]))).collect(),
                )
            }
            Messages => (
                of_type(&answer["content"], "text").iter().map(|block| text(&block["text"])).collect(),
                of_type(&answer["content"], "tool_use")
                    .iter()
                    .map(|call| (name(call), call["input"].clone()))
                    .collect(),
            ),
        }
    }

    /// The same of a stream's events, from their deltas alone.
    fn streamed(self, events: &[Value]) -> (String, Vec<(String, Value)>) {
        let (mut text, mut calls) = (String::new(), BTreeMap::<u64, (String, String)>::new());
        let mut add = |at: &Value, name: &Value, arguments: &Value| {
            let (known, json) = calls.entry(at.as_u64().unwrap()).or_default();
            known.push_str(name.as_str().unwrap_or_default());
            json.push_str(arguments.as_str().unwrap_or_default());
        };
        for event in events {
            match self {
                Chat => {
                    let delta = &event["choices"][0]["delta"];
                    text.push_str(delta["content"].as_str().unwrap_or_default());
                    for call in delta["tool_calls"].as_array().into_iter().flatten() {
                        add(&call["index"], &call["function"]["name"], &call["function"]["arguments"]);
                    }
                }
                Responses => match event["type"].as_str().unwrap() {
                    "response.output_text.delta" => text.push_str(event["delta"].as_str().unwrap()),
                    "response.output_item.added" if event["item"]["type"] == "function_call" => {
                        add(&event["output_index"], &event["item"]["name"], &Value::Null);
                    }
                    "response.function_call_arguments.delta" => {
                        add(&event["output_index"], &Value::Null, &event["delta"]);
                    }
                    _ => {}
                },
                Messages => {
                    text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
                    if event["content_block"]["type"] == "tool_use" {
                        add(&event["index"], &event["content_block"]["name"], &Value::Null);
                    }
                    if event["delta"]["type"] == "input_json_delta" {
                        add(&event["index"], &Value::Null, &event["delta"]["partial_json"]);
                    }
                }
            }
        }
        let call = |(name, arguments): (String, String)| (name, serde_json::from_str(&arguments).unwrap());
        (text, calls.into_values().map(call).collect())
    }

    /// The message of an error, all of whose shape is the caller's.
    fn error(self, body: &Value) -> String {
        let error = &body["error"];
        match self {
            Chat | Responses => assert!(body.get("type").is_none() && error.get("code").is_some(), "{body}"),
            Messages => {
                assert_eq!(body["type"], "error", "{body}");
                assert!(error["type"].as_str().unwrap().ends_with("_error"), "{body}");
            }
        }
        error["message"].as_str().unwrap().to_owned()
    }
}

/// An mcpd with the Llms of [`LLMS`] over one scripted server, which wants the key.
async fn central() -> Central {
    let central = Central::start(&[]).await;
    let base = format!("http://{}", central.provider.address());
    let llm = |name: &str, kind: &str, more: Value| {
        let mut llm = json!({"kind": "Llm", "name": name, "type": kind, "url": base, "model": "up",
            "apiKey": {"secret": "key", "key": "token"}, "retries": {"max": 0},
            "timeouts": {"connect": "1s", "response": "5s", "answer": "20s", "firstToken": "5s", "idle": "5s"}});
        llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        llm
    };
    let documents = json!([
        {"kind": "Secret", "name": "key", "data": {"token": KEY}},
        llm("openai", "openai", json!({})),
        llm("native", "openai", json!({"capabilities": ["responses", "messages"]})),
        llm("anthropic", "anthropic", json!({})),
        llm("azure", "azure-openai", json!({})),
        llm("dated", "azure-openai", json!({"apiVersion": "2024-10-21"})),
    ]);
    central.mcpd.apply(documents).await;
    central.provider.require_key(KEY);
    central
}

async fn ask(central: &Central, caller: Caller, llm: &str, stream: bool) -> Response {
    central.mcpd.post(caller.path(), &central.alice, &caller.body(llm, stream)).await
}

/// The rows of usage, once there are so many.
async fn usage(central: &Central, count: usize) -> Vec<UsageRow> {
    let dir = central.mcpd.data_dir();
    let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
    let store =
        Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await.unwrap();
    eventually("every answer is on record", async || {
        let rows = store.usage(&UsageFilter { limit: 500, ..UsageFilter::default() }).await.unwrap();
        (rows.len() == count).then_some(rows)
    })
    .await
}

/// The JSON of a stream's events.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn every_caller_is_answered_by_every_provider() {
    let central = central().await;
    let calls = [("weather", r#"{"city":"Oslo"}"#), ("weather", r#"{"city":"Rome"}"#)];
    let expected: Vec<(String, Value)> =
        calls.iter().map(|(name, json)| ((*name).to_owned(), serde_json::from_str(json).unwrap())).collect();
    for (llm, paths) in LLMS {
        for (caller, path) in CALLERS.into_iter().zip(paths) {
            for stream in [false, true] {
                let cell = format!("{caller:?} at `{llm}`, stream {stream}");
                for (reply, text, expected) in [
                    (Reply::text("hello there"), "hello there", &[][..]),
                    (Reply::tool_calls(&calls), "", &expected),
                ] {
                    central.provider.queue(reply);
                    let answer = ask(&central, caller, llm, stream).await;
                    let status = answer.status();
                    let body = answer.text().await.unwrap();
                    assert_eq!(status, StatusCode::OK, "{cell}: {body}");
                    let found = if stream {
                        assert!(body.contains(caller.end()), "{cell}: {body}");
                        caller.streamed(&events(&body))
                    } else {
                        caller.whole(&serde_json::from_str(&body).unwrap())
                    };
                    assert_eq!((&*found.0, &*found.1), (text, expected), "{cell}: {body}");

                    let sent = central.provider.inferences().pop().unwrap();
                    assert_eq!(sent.path, path, "{cell}");
                    assert_eq!(sent.json()["model"], "up", "{cell}");
                    let auth = ["authorization", "x-api-key", "api-key"].map(|name| sent.header(name));
                    let bearer = format!("Bearer {KEY}");
                    let expected = match llm {
                        "anthropic" => [None, Some(KEY), None],
                        "azure" | "dated" => [None, None, Some(KEY)],
                        _ => [Some(&*bearer), None, None],
                    };
                    assert_eq!(auth, expected, "{cell}");
                    let version = path.starts_with("/v1/messages").then_some("2023-06-01");
                    assert_eq!(sent.header("anthropic-version"), version, "{cell}");
                }
            }
        }
    }
    // Every answer was counted by the provider's own numbers.
    for row in usage(&central, LLMS.len() * CALLERS.len() * 4).await {
        assert!(row.input_tokens > 0 && row.outcome == "ok" && row.model == "up", "{row:?}");
    }
}

#[tokio::test]
async fn bytes_are_untouched_where_the_provider_speaks_the_dialect() {
    let central = central().await;
    for (llm, caller) in
        [("openai", Chat), ("native", Responses), ("native", Messages), ("anthropic", Messages)]
    {
        for stream in [false, true] {
            let through = ask(&central, caller, llm, stream).await.bytes().await.unwrap();
            let sent = central.provider.inferences().pop().unwrap();
            let mut body = serde_json::to_string(&caller.body(llm, stream)).unwrap();
            body = body.replace(&format!("\"model\":\"{llm}\""), "\"model\":\"up\"");
            assert_eq!(sent.body, body, "{caller:?} at `{llm}`");
            let url = format!("http://{}{}", central.provider.address(), sent.path);
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let direct = client.post(url).bearer_auth(KEY).body(body).send().await.unwrap();
            assert_eq!(through, direct.bytes().await.unwrap(), "{caller:?} at `{llm}`, stream {stream}");
        }
    }
}

#[tokio::test]
async fn errors_keep_status_and_class_in_the_callers_shape() {
    let central = central().await;
    let message = "prompt is too long: 9 tokens > 8 maximum";
    let openai =
        json!({"error": {"message": message, "type": "invalid_request_error", "code": "x", "param": null}});
    let anthropic = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "r"});
    for (llm, paths) in LLMS {
        for (caller, path) in CALLERS.into_iter().zip(paths) {
            for stream in [false, true] {
                let cell = format!("{caller:?} at `{llm}`, stream {stream}");
                let body = if path == "/v1/messages" { &anthropic } else { &openai };
                for (status, class) in [(400, "context_length"), (429, "rate_limited")] {
                    let reply =
                        Reply::status(status, body.to_string()).header("content-type", "application/json");
                    central.provider.queue(reply.header("retry-after", "60"));
                    let answer = ask(&central, caller, llm, stream).await;
                    let headers = answer.headers().clone();
                    assert_eq!(
                        (answer.status().as_u16(), &headers["mcpctl-failure"]),
                        (status, &class.parse().unwrap()),
                        "{cell}"
                    );
                    assert_eq!(headers["retry-after"], "60", "{cell}");
                    let body: Value = answer.json().await.unwrap();
                    assert_eq!(caller.error(&body), message, "{cell}");
                }
            }
            // In every dialect a broken stream ends with an error, and nothing that looks like an end.
            central.provider.queue(Reply::text("one two three four").error_after(2, "the GPU fell over"));
            let broken = ask(&central, caller, llm, true).await.text().await.unwrap();
            assert!(
                broken.contains("one ") && broken.contains("the GPU fell over"),
                "{caller:?} at `{llm}`: {broken}"
            );
            assert!(
                !broken.contains(caller.end()) && !broken.contains("end_turn"),
                "{caller:?} at `{llm}`: {broken}"
            );
        }
    }
}

/// A stream of responses ends with the whole answer, which is kept until then, and within a bound.
#[tokio::test]
async fn too_large_an_answer_ends_and_is_recorded_as_broken() {
    let central = central().await;
    central.provider.queue(Reply::text(&vec!["x".repeat(2 << 20); 4].join(" ")));
    let body = ask(&central, Responses, "openai", true).await.text().await.unwrap();
    assert!(body.trim_end().lines().last().unwrap().contains("answer_too_large"), "{:?}", body.get(..200));
    assert!(!body.contains(Responses.end()));
    assert_eq!(usage(&central, 1).await[0].outcome, "broken_stream");
}

#[tokio::test]
async fn what_a_provider_cannot_express_is_refused_by_name() {
    let central = central().await;
    let post = async |path: &str, body: Value| {
        let answer = central.mcpd.post(path, &central.alice, &body).await;
        let status = answer.status();
        (status.as_u16(), answer.text().await.unwrap())
    };
    let messages = json!([{"role": "user", "content": "Hi"}]);
    for (path, body, named) in [
        ("/v1/completions", json!({"model": "anthropic", "prompt": "Hi"}), "/completions"),
        ("/v1/embeddings", json!({"model": "anthropic", "input": "Hi"}), "/embeddings"),
        (
            "/v1/responses",
            json!({"model": "openai", "input": "Hi", "previous_response_id": "r"}),
            "previous_response_id",
        ),
        ("/v1/responses", json!({"model": "anthropic", "input": "Hi", "store": true}), "store"),
        ("/v1/chat/completions", json!({"model": "anthropic", "messages": messages, "seed": 7}), "seed"),
        (
            "/v1/messages",
            json!({"model": "openai", "messages": messages, "max_tokens": 9, "container": "c"}),
            "container",
        ),
    ] {
        let (status, text) = post(path, body.clone()).await;
        assert!(status == 400 && text.contains(named), "{path} {body}: {status} {text}");
    }
    assert!(central.provider.inferences().is_empty(), "nothing was sent");
    let kept = json!({"model": "native", "input": "Hi", "previous_response_id": "r", "store": true});
    let (status, text) = post("/v1/responses", kept).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_or_estimated() {
    let central = central().await;
    for (llm, estimated) in [("openai", true), ("azure", true), ("native", false), ("anthropic", false)] {
        let body = json!({"model": llm, "messages": [{"role": "user", "content": "How many are these?"}]});
        let before = central.provider.inferences().len();
        let answer = central.mcpd.post("/v1/messages/count_tokens", &central.alice, &body).await;
        assert_eq!(answer.status(), StatusCode::OK, "{llm}");
        assert_eq!(answer.headers().contains_key("mcpctl-estimated"), estimated, "{llm}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["input_tokens"].as_u64().unwrap() > 0, "{llm}: {body}");
        assert_eq!(central.provider.inferences().len() - before, usize::from(!estimated), "{llm}");
    }
}
