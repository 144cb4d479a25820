//! Providers that refuse `stream_options`, which the daemon adds to count usage.

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn stream(mcpd: &Mcpd, more: Value) -> Response {
    let mut body = json!({"model": "strict", "stream": true, "messages": []});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mcpd.post("/v1/chat/completions", &mcpd.admin(), &body).await
}

/// As servers of several kinds refuse it: OpenAI, pydantic in two forms, a strict Go server, and a crash.
fn refusals() -> [Reply; 5] {
    let json = |status, body: Value| {
        Reply::status(status, body.to_string()).header("content-type", "application/json")
    };
    let detail = json!([{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]);
    [
        Reply::error(400, "Unknown parameter: 'stream_options'.", "unknown_parameter"),
        json(422, json!({"detail": detail})),
        json(422, json!({"object": "error", "message": {"detail": detail}})),
        json(400, json!({"error": {"message": "json: unknown field \"StreamOptions\""}})),
        Reply::error(500, "create() got an unexpected keyword argument 'include_usage'", "internal"),
    ]
}

#[tokio::test]
async fn refusal_of_stream_options_is_retried_and_remembered() {
    for refusal in refusals() {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::start().await;
        let llm = |model: &str| {
            json!([{"kind": "Llm", "name": "strict", "type": "openai", "url": provider.base_url(), "model": model,
                    "retries": {"max": 0}}])
        };
        mcpd.apply(llm("m")).await;
        provider.queue(refusal.clone());
        let answer = stream(&mcpd, json!({})).await;
        assert_eq!(
            (answer.status(), &answer.headers()["mcpctl-attempts"]),
            (StatusCode::OK, &"2".parse().unwrap())
        );
        assert!(answer.text().await.unwrap().trim_end().ends_with("data: [DONE]"));
        stream(&mcpd, json!({})).await;
        let asked = || -> Vec<bool> {
            provider.inferences().iter().map(|sent| sent.json().get("stream_options").is_some()).collect()
        };
        assert_eq!(asked(), [true, false, false], "it is asked once");

        // Those who ask themselves get its answer, whatever it is.
        provider.queue(refusal.clone());
        let own = stream(&mcpd, json!({"stream_options": {"include_usage": true}})).await;
        assert!(own.status().is_client_error() || own.status().is_server_error(), "{}", own.status());
        assert_eq!(provider.inferences().len(), 4);

        // Another provider may stand behind a changed Llm.
        mcpd.apply(llm("another")).await;
        stream(&mcpd, json!({})).await;
        assert_eq!(asked().last(), Some(&true));
    }
}

#[tokio::test]
async fn other_refusal_is_passed_on_and_not_remembered() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::start().await;
    mcpd.llm("strict", &provider.base_url()).await;
    for _ in 0..2 {
        provider.queue(Reply::error(400, "`messages[0].content` may not hold stream_options", "bad"));
    }
    let answer = stream(&mcpd, json!({})).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    stream(&mcpd, json!({})).await;
    assert!(provider.inferences()[2].json().get("stream_options").is_some());
}

#[tokio::test]
async fn switch_of_the_llm_keeps_it_out() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::start().await;
    mcpd.apply(
        json!([{"kind": "Llm", "name": "strict", "type": "openai", "url": provider.base_url(), "model": "m",
                       "streamUsage": false}]),
    )
    .await;
    let shown: Value = mcpd.get("/api/v1/llms/strict", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(shown["streamUsage"], false);
    stream(&mcpd, json!({})).await;
    stream(&mcpd, json!({"stream_options": {"include_usage": true}})).await;
    let sent = provider.inferences();
    assert_eq!(sent[0].json().get("stream_options"), None);
    assert_eq!(sent[1].json()["stream_options"]["include_usage"], true, "the caller's own wish");
    let wrong =
        mcpd.request(Method::PATCH, "/api/v1/llms/strict", &mcpd.admin()).json(&json!({"streamUsage": "no"}));
    assert_eq!(wrong.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}
