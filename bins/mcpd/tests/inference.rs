//! Inference through a real daemon to a scripted provider: classes of failure, retries, streams, records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{AuditFilter, Location, Store, UsageFilter};
use mcpctl_testkit::{
    central::Central,
    daemons::eventually,
    model_server::{Gate, Reply},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// Sends a short chat to `claude` as `alice`, with more fields.
async fn chat(central: &Central, more: Value) -> Response {
    let mut body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    central.mcpd.post("/v1/chat/completions", &central.alice, &body).await
}

/// What the daemon recorded, read from its own database.
async fn store(central: &Central) -> Store {
    let dir = central.mcpd.data_dir();
    let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
    Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn answer_is_forwarded_and_recorded() {
    let central = Central::start(&["claude"]).await;
    let answer = chat(&central, json!({})).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        (header(&answer, "mcpctl-attempts"), header(&answer, "mcpctl-served-by")),
        (Some("1"), Some("claude"))
    );
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "hello there");
    let sent = &central.provider.inferences()[0];
    assert_eq!(sent.json()["model"], "upstream-model");

    let store = store(&central).await;
    let usage = store.usage(&UsageFilter { limit: 10, ..UsageFilter::default() }).await.unwrap();
    assert_eq!(
        (usage.len(), usage[0].principal.as_str(), usage[0].outcome.as_str()),
        (1, "User alice", "ok")
    );
    assert!(usage[0].input_tokens > 0 && usage[0].output_tokens > 0);
    let audit = store.audit(&AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap();
    let row = audit.iter().find(|row| row.action == "run").unwrap();
    assert_eq!((row.principal.as_str(), row.resource_name.as_str()), ("User alice", "claude"));
}

#[tokio::test]
async fn stream_hides_usage_that_was_not_requested() {
    let central = Central::start(&["claude"]).await;
    let hidden = chat(&central, json!({"stream": true})).await.text().await.unwrap();
    assert!(hidden.trim_end().ends_with("data: [DONE]") && !hidden.contains("\"usage\""), "{hidden}");
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let shown = chat(&central, asked).await.text().await.unwrap();
    assert!(shown.contains("\"usage\""), "{shown}");
    let store = store(&central).await;
    let rows = eventually("both streams are on record", async || {
        let rows = store.usage(&UsageFilter { limit: 10, ..UsageFilter::default() }).await.unwrap();
        (rows.len() == 2).then_some(rows)
    })
    .await;
    assert!(rows.iter().all(|row| row.stream && row.output_tokens > 0), "{rows:?}");
}

#[tokio::test]
async fn infer_finds_the_llm_by_id_and_by_name() {
    let central = Central::start(&["claude"]).await;
    let llm: Value = central.mcpd.get("/api/v1/llms/claude", &central.alice).await.json().await.unwrap();
    for target in ["claude", llm["id"].as_str().unwrap()] {
        let path = format!("/api/v1/llms/{target}/infer");
        let answer = central.mcpd.post(&path, &central.alice, &json!({"messages": []})).await;
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
    }
    assert!(central.provider.inferences().iter().all(|request| request.json()["model"] == "upstream-model"));
}

#[tokio::test]
async fn only_server_errors_are_retried() {
    let central = Central::start(&["claude"]).await;
    central.provider.queue(Reply::error(503, "busy", "busy"));
    let answer = chat(&central, json!({})).await;
    assert_eq!((answer.status(), header(&answer, "mcpctl-attempts")), (StatusCode::OK, Some("2")));

    for (reply, status, class) in [
        (Reply::error(400, "bad", "bad"), 400, "rejected"),
        (Reply::context_length(), 400, "context_length"),
        (Reply::error(401, "who are you, sk-our-key", "invalid_api_key"), 502, "upstream_credentials"),
        (Reply::hang(), 504, "no_response"),
    ] {
        let before = central.provider.inferences().len();
        central.provider.queue(reply);
        let answer = chat(&central, json!({"stream": true})).await;
        assert_eq!(answer.status().as_u16(), status, "{class}");
        assert_eq!(header(&answer, "mcpctl-failure"), Some(class));
        assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
        assert_eq!(central.provider.inferences().len(), before + 1, "{class}: no second attempt");
        assert!(!answer.text().await.unwrap().contains("sk-our-key"), "{class}");
    }
    let denied = central
        .mcpd
        .post("/v1/chat/completions", &central.mcpd.user("bob", None).await, &json!({"model": "claude"}))
        .await;
    assert_eq!(
        (header(&denied, "mcpctl-failure"), header(&denied, "mcpctl-error-source")),
        (Some("denied"), Some("mcpd"))
    );
}

#[tokio::test]
async fn the_providers_key_is_sent_and_never_shown() {
    let central = Central::start(&["claude"]).await;
    central.provider.require_key("pr0vider-key");
    central.mcpd.apply(json!([
        {"kind": "Secret", "name": "provider", "data": {"token": "pr0vider-key"}},
        {"kind": "Llm", "name": "claude", "type": "openai", "url": central.provider.base_url(), "model": "m",
         "apiKey": {"secret": "provider", "key": "token"}},
    ])).await;
    assert_eq!(chat(&central, json!({})).await.status(), StatusCode::OK);
    let sent = central.provider.inferences().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer pr0vider-key"));
    assert!(!central.mcpd.log().contains("pr0vider-key"));
    let database = std::fs::read(central.mcpd.data_dir().join("mcpd.sqlite-wal")).unwrap();
    assert!(!database.windows(12).any(|bytes| bytes == b"pr0vider-key"), "encrypted at rest");
}

#[tokio::test]
async fn disconnected_caller_cancels_the_provider() {
    let central = Central::start(&["claude"]).await;
    let gate = Gate::new();
    central.provider.queue(Reply::text("one two three").gate_after(1, &gate));
    let mut answer = chat(&central, json!({"stream": true})).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    central.provider.wait_for_disconnects(1).await;
    gate.release();
    let store = store(&central).await;
    eventually("the record", async || {
        let rows = store.usage(&UsageFilter { limit: 1, ..UsageFilter::default() }).await.unwrap();
        rows.first().filter(|row| row.outcome == "cancelled").map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn disconnected_caller_is_recorded_before_an_answer() {
    let central = Central::start(&["claude"]).await;
    central.provider.queue(Reply::hang());
    let asked = tokio::time::timeout(std::time::Duration::from_millis(300), chat(&central, json!({}))).await;
    assert!(asked.is_err(), "the provider should hang");
    central.provider.wait_for_disconnects(1).await;
    let store = store(&central).await;
    eventually("the record", async || {
        let rows = store.usage(&UsageFilter { limit: 1, ..UsageFilter::default() }).await.unwrap();
        rows.first().filter(|row| row.outcome == "cancelled" && row.attempts == 0).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn inv_13_a_cut_stream_never_looks_complete() {
    let central = Central::start(&["claude"]).await;
    central.provider.queue(Reply::text("one two three four").cut_after(2));
    let body = chat(&central, json!({"stream": true})).await.text().await.unwrap();
    assert!(body.contains("\"error\"") && body.contains("broken_stream"), "{body}");
    assert!(!body.contains("[DONE]") && !body.contains("\"finish_reason\":\"stop\""), "{body}");
}

#[tokio::test]
async fn sigterm_lets_a_running_stream_end() {
    let mut central = Central::start(&["claude"]).await;
    let gate = Gate::new();
    central.provider.queue(Reply::text("one two three").gate_after(1, &gate));
    let mut answer = chat(&central, json!({"stream": true})).await;
    let mut text = String::from_utf8(answer.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    central.mcpd.terminate();
    eventually("it takes no new connections", async || {
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(central.mcpd.url())
            .send()
            .await
            .is_err()
            .then_some(())
    })
    .await;
    gate.release();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert!(central.mcpd.wait().success());
}

/// Every metric that mcpd registers has a value once its event has happened.
#[tokio::test]
async fn metrics_have_values_after_their_events() {
    let central = Central::start(&["claude"]).await;
    let metrics = async || central.mcpd.get("/metrics", &central.mcpd.admin()).await.text().await.unwrap();
    central.provider.queue(Reply::error(503, "busy", "busy"));
    chat(&central, json!({})).await;
    let labels =
        r#"{gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="claude"}"#;
    let first_tokens = |count| format!("gen_ai_server_time_to_first_token_seconds_count{labels} {count}");
    assert!(!metrics().await.contains(&first_tokens(1)), "a whole answer has no first token");
    let guest = central.mcpd.user("guest", None).await;
    central.mcpd.post("/v1/chat/completions", &guest, &json!({"model": "claude", "messages": []})).await;

    let gate = Gate::new();
    central.provider.queue(Reply::text("one two").gate_after(1, &gate));
    let mut stream = chat(&central, json!({"stream": true})).await;
    stream.chunk().await.unwrap();
    eventually("the first content is observed", async || {
        metrics().await.contains(&first_tokens(1)).then_some(())
    })
    .await;
    // This request for the metrics, and the stream.
    assert!(metrics().await.lines().any(|line| line == "mcpctl_inflight_requests 2"));
    gate.release();
    while stream.chunk().await.unwrap().is_some() {}
    eventually("the stream is no longer in flight", async || {
        metrics().await.lines().any(|line| line == "mcpctl_inflight_requests 1").then_some(())
    })
    .await;

    let text = metrics().await;
    assert!(text.contains(&first_tokens(1)), "once per stream: {text}");
    // A metric without a value is left out of the page.
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(
        names,
        [
            "mcpctl_requests",
            "mcpctl_inflight_requests",
            "mcpctl_attempts",
            "mcpctl_retries",
            "mcpctl_open_breakers",
            "gen_ai_client_operation_duration_seconds",
            "gen_ai_server_time_to_first_token_seconds",
            "gen_ai_server_time_per_output_token_seconds",
            "gen_ai_client_token_usage",
            "mcpctl_revision",
            "mcpctl_denied",
            "mcpctl_feeds",
            "mcpctl_access_ended",
        ]
    );
}

#[tokio::test]
async fn metrics_are_for_those_who_may_view_all_llms() {
    let central = Central::start(&["claude"]).await;
    chat(&central, json!({})).await;
    let text = central.mcpd.get("/metrics", &central.mcpd.admin()).await.text().await.unwrap();
    assert!(text.contains("gen_ai_client_token_usage") && text.contains("claude"), "{text}");
    let outsider = central.mcpd.user("nobody", None).await;
    assert_eq!(central.mcpd.get("/metrics", &outsider).await.status(), StatusCode::FORBIDDEN);
}
