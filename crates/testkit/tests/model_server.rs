//! The model server follows its script, as an ordinary HTTP client sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use futures::StreamExt;
use mcpctl_testkit::model_server::{Fault, Gate, ModelServer, Pause, Reply};
use serde_json::{Value, json};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn post(server: &ModelServer, body: Value) -> reqwest::Result<reqwest::Response> {
    client().post(format!("{}/chat/completions", server.base_url())).body(body.to_string()).send().await
}

fn streamed() -> Value {
    json!({ "model": "m", "stream": true, "stream_options": { "include_usage": true }, "messages": ["two words"] })
}

fn whole() -> Value {
    json!({ "model": "m", "messages": ["two words"] })
}

/// Every JSON chunk of a stream, and whether `[DONE]` came last.
fn chunks(text: &str) -> (Vec<Value>, bool) {
    let mut data: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let done = data.last() == Some(&"[DONE]");
    data.retain(|data| *data != "[DONE]");
    (data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect(), done)
}

/// The received part of a body, and whether it is complete.
async fn drain(response: reqwest::Response) -> (String, bool) {
    let mut body = response.bytes_stream();
    let mut text = String::new();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(_) => return (text, false),
        }
    }
    (text, true)
}

#[tokio::test]
async fn default_reply_answers_and_requests_are_recorded() {
    let server = ModelServer::with_default(Reply::text("one two three").reasoning("hm ").model("m-1")).await;
    let answer: Value =
        serde_json::from_str(&post(&server, whole()).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    assert_eq!(answer["model"], "m-1");

    let (text, complete) = drain(post(&server, streamed()).await.unwrap()).await;
    let (chunks, done) = chunks(&text);
    assert!(complete && done);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": null }));
    assert_eq!(chunks[1]["choices"][0]["delta"]["reasoning_content"], "hm ");
    assert_eq!(chunks[4]["choices"][0]["delta"]["content"], "three");
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[6]["usage"]["completion_tokens"], 4);
    assert_eq!(chunks.len(), 7);

    let requests = server.inferences();
    assert_eq!(
        (requests.len(), requests[1].path.as_str(), requests[1].json()),
        (2, "/v1/chat/completions", streamed())
    );
    assert_eq!((server.completed(), server.disconnects()), (2, 0));
}

#[tokio::test]
async fn other_routes_tool_calls_and_keys_work() {
    let server = ModelServer::start().await;
    let client = client();
    let base = server.base_url();
    let get = async |url: String| client.get(url).send().await.unwrap();
    let json = async |response: reqwest::Response| {
        serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap()
    };
    server.set_models(&["a", "b"]);
    assert_eq!(json(get(format!("{base}/models")).await).await["data"][1]["id"], "b");
    server.set_health(503);
    assert_eq!(get(format!("http://{}/health", server.address())).await.status(), 503);

    let send = async |path: &str, body: Value| {
        json(client.post(format!("{base}/{path}")).body(body.to_string()).send().await.unwrap()).await
    };
    let embeddings = send("embeddings", json!({ "model": "e", "input": ["a", "b"] })).await;
    assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
    let completion = send("completions", json!({ "model": "e", "prompt": "a" })).await;
    assert_eq!(completion["choices"][0]["text"], "Hello from the model server.");
    let forced = json!({ "model": "m", "messages": [], "tool_choice": "required",
        "tools": [{ "type": "function", "function": { "name": "look" } }] });
    let call = send("chat/completions", forced).await;
    assert_eq!(call["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "look");
    assert_eq!(call["choices"][0]["finish_reason"], "tool_calls");

    server.require_key("sk-right");
    assert_eq!(post(&server, whole()).await.unwrap().status(), 401);
    let with_key = client.post(format!("{base}/chat/completions")).bearer_auth("sk-right");
    assert_eq!(with_key.body(whole().to_string()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn queued_replies_come_first_and_in_order() {
    let server = ModelServer::start().await;
    server.queue(Reply::rate_limited("2"));
    server.queue(Reply::context_length());
    let limited = post(&server, whole()).await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "2"));
    assert_eq!(post(&server, whole()).await.unwrap().status(), 400);
    assert_eq!(post(&server, whole()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn reset_has_no_response_and_cut_has_what_was_sent() {
    let server = ModelServer::start().await;
    server.queue(Reply::reset());
    let error = post(&server, whole()).await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");

    for cut in 0..3 {
        server.queue(Reply::text("a b c d").cut_after(cut));
        let (text, complete) = drain(post(&server, streamed()).await.unwrap()).await;
        let (chunks, done) = chunks(&text);
        assert_eq!((chunks.len(), done, complete), (1 + cut, false, false));
    }
    server.queue(Reply::default().cut_after(0));
    let (text, complete) = drain(post(&server, whole()).await.unwrap()).await;
    assert!(!text.is_empty() && !complete);
    assert_eq!(server.disconnects(), 0, "a scripted fault counted as a disconnect");
}

#[tokio::test]
async fn stream_can_end_early_or_carry_errors_and_garbage() {
    let server = ModelServer::start().await;
    server.queue(Reply::text("a b").after(1, Fault::End));
    let (text, complete) = drain(post(&server, streamed()).await.unwrap()).await;
    assert!(complete && !text.contains("[DONE]"));

    server.queue(Reply::text("a b").error_after(1, "boom"));
    let (text, _) = drain(post(&server, streamed()).await.unwrap()).await;
    let (chunks, done) = chunks(&text);
    assert_eq!((chunks[2]["error"]["message"].as_str(), done), (Some("boom"), false));

    server.queue(Reply::text("a b").garbage_after(1).start_up(3, 1000));
    let (text, _) = drain(post(&server, streamed()).await.unwrap()).await;
    assert!(text.contains('\u{FFFD}') && text.len() > 3000 && text.contains("[DONE]"));
}

#[tokio::test]
async fn clients_that_leave_are_counted() {
    let server = ModelServer::start().await;
    server.queue(Reply::hang());
    let waiting = tokio::spawn({
        let request =
            client().post(format!("{}/chat/completions", server.base_url())).body(whole().to_string());
        async move { request.send().await.map(drop) }
    });
    server.wait_for_requests(1).await;
    waiting.abort();
    server.wait_for_disconnects(1).await;

    server.queue(Reply::default().stall_after(2));
    let mut body = post(&server, streamed()).await.unwrap().bytes_stream();
    body.next().await.unwrap().unwrap();
    drop(body);
    server.wait_for_disconnects(2).await;
    assert_eq!(server.completed(), 0);
}

#[tokio::test]
async fn gate_holds_the_reply_until_it_is_opened() {
    let server = ModelServer::start().await;
    let gate = Gate::new();
    server.queue(Reply::default().before_head(Pause::Gate(gate.clone())).pace(Duration::from_millis(1)));
    let mut answer = std::pin::pin!(post(&server, streamed()));
    tokio::select! {
        _ = &mut answer => panic!("answered before the gate was opened"),
        () = server.wait_for_requests(1) => {}
    }
    gate.release();
    assert!(drain(answer.await.unwrap()).await.1);
}

#[tokio::test]
async fn server_listens_again_on_the_same_port() {
    let mut server = ModelServer::start().await;
    for _ in 0..3 {
        assert_eq!(post(&server, whole()).await.unwrap().status(), 200);
        server.refuse().await;
        assert!(post(&server, whole()).await.unwrap_err().is_connect());
        server.listen();
    }
    assert_eq!(post(&server, whole()).await.unwrap().status(), 200);
}
