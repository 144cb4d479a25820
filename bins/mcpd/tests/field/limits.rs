//! Limits on whole daemons: what they refuse, what they count, and how callers see it.

use std::sync::Arc;

use futures::StreamExt as _;
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{Location, Store, UsageFilter, UsageRow};
use mcpctl_testkit::{
    central::Central,
    daemons::{Mcpd, McpdOptions, eventually},
    model_server::{ModelServer, Reply},
    postgres::Postgres,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

fn chat(llm: &str, more: Value) -> Value {
    let mut body =
        json!({"model": llm, "max_tokens": 20, "messages": [{"role": "user", "content": "hello there"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn ask(mcpd: &Mcpd, token: &str, body: &Value) -> Response {
    mcpd.post("/v1/chat/completions", token, body).await
}

fn limit(name: &str, more: Value) -> Value {
    let mut document = json!({"kind": "Limit", "name": name, "per": "subject"});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([document])
}

async fn status(mcpd: &Mcpd, limit: &str) -> Value {
    let answer = mcpd.get(&format!("/api/v1/limits/{limit}/status"), &mcpd.admin()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// What the first counter of a Limit has used, once that is `expected`.
async fn used(mcpd: &Mcpd, limit: &str, expected: Value) {
    eventually(&format!("{limit} has used {expected}"), async || {
        (status(mcpd, limit).await["counters"][0]["used"] == expected).then_some(())
    })
    .await;
}

async fn usage(mcpd: &Mcpd) -> Vec<UsageRow> {
    let dir = mcpd.data_dir();
    let key = master_key_file::load_or_create(&dir.join("master-key"), IfMissing::Fail).unwrap();
    let store = Store::open(&Location::Sqlite(dir.join("mcpd.sqlite")), Arc::new(Keyring::new(key))).await;
    store.unwrap().usage(&UsageFilter { limit: 100, ..UsageFilter::default() }).await.unwrap()
}

#[tokio::test]
async fn requests_beyond_a_limit_reach_no_provider() {
    let world = Central::start(&["gpt", "other"]).await;
    let (mcpd, alice) = (&world.mcpd, &world.alice);
    let bob = mcpd.user("bob", Some("llm-user")).await;
    mcpd.apply(limit("few", json!({"llms": ["g*"], "requests": {"max": 2, "window": "1h"}}))).await;
    let body = chat("gpt", json!({}));
    for left in ["1", "0"] {
        let answer = ask(mcpd, alice, &body).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-ratelimit-limit-requests"], "2");
        assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], left);
        assert!(!answer.headers().contains_key("x-ratelimit-limit-tokens"));
    }
    let refused = ask(mcpd, alice, &body).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let headers = refused.headers().clone();
    for (name, expected) in [
        ("mcpctl-failure", "quota"),
        ("mcpctl-error-source", "mcpd"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-should-retry", "false"),
    ] {
        assert_eq!(headers[name], expected, "{name}");
    }
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3000..=3720).contains(&wait), "{wait}");
    let error = refused.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("rate_limit_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the Limit `few` allows 2 requests per 1h"), "{message}");

    assert_eq!(ask(mcpd, &bob, &body).await.status(), StatusCode::OK, "each subject has its own");
    assert_eq!(ask(mcpd, alice, &chat("other", json!({}))).await.status(), StatusCode::OK);
    assert_eq!(world.provider.inferences().len(), 4, "the refused one was not sent");

    // Everyone shares another one, and both must allow a request.
    mcpd.apply(
        json!([{"kind": "Limit", "name": "few", "per": "all", "requests": {"max": 1, "period": "month"}}]),
    )
    .await;
    assert_eq!(ask(mcpd, &bob, &body).await.status(), StatusCode::OK);
    let error: Value = ask(mcpd, alice, &body).await.json().await.unwrap();
    assert_eq!(error["error"]["code"], "insufficient_quota");
}

#[tokio::test]
async fn tokens_are_settled_with_what_the_model_counted() {
    let world = Central::start(&["gpt"]).await;
    let (mcpd, alice) = (&world.mcpd, &world.alice);
    mcpd.apply(limit("tokens", json!({"tokens": {"max": 1000, "period": "month"}}))).await;
    // The model server counts words, `hello there` as two in both directions.
    let answer = ask(mcpd, alice, &chat("gpt", json!({"max_tokens": 900}))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Value = answer.json().await.unwrap();
    let once = body["usage"]["total_tokens"].as_u64().unwrap();
    used(mcpd, "tokens", json!(once)).await;
    let streamed = ask(mcpd, alice, &chat("gpt", json!({"max_tokens": 900, "stream": true}))).await;
    assert!(streamed.text().await.unwrap().contains("[DONE]"));
    used(mcpd, "tokens", json!(2 * once)).await;

    // An error of the provider takes nothing, and a request that can never fit is told so.
    world.provider.queue(Reply::error(400, "no", "bad"));
    assert_eq!(ask(mcpd, alice, &chat("gpt", json!({}))).await.status(), StatusCode::BAD_REQUEST);
    used(mcpd, "tokens", json!(2 * once)).await;
    let refused = ask(mcpd, alice, &chat("gpt", json!({"max_tokens": 5000}))).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!refused.headers().contains_key("retry-after"));
    let error: Value = refused.json().await.unwrap();
    assert!(error["error"]["hint"].as_str().unwrap().contains("max_tokens"), "{error}");
}

#[tokio::test]
async fn cancelled_stream_is_settled_by_what_was_delivered() {
    let world = Central::start(&["gpt"]).await;
    let mcpd = &world.mcpd;
    mcpd.llm_with_default_timeouts("gpt", &world.provider.base_url()).await;
    mcpd.apply(limit("tokens", json!({"tokens": {"max": 5000, "period": "month"}}))).await;
    world.provider.queue(Reply::text("one two three four").stall_after(3));
    let body = chat("gpt", json!({"stream": true, "max_tokens": 900}));
    let mut events = ask(mcpd, &world.alice, &body).await.bytes_stream();
    let mut seen = String::new();
    while !seen.contains("three") {
        seen.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    drop(events);
    let row = eventually("the row of usage", async || usage(mcpd).await.pop()).await;
    assert_eq!((row.outcome.as_str(), row.output_tokens, row.estimated), ("cancelled", 3, true));
    let input = u64::try_from(body.to_string().len()).unwrap() / 4;
    assert!((input - 5..=input + 5).contains(&row.input_tokens), "{}", row.input_tokens);
    used(mcpd, "tokens", json!(row.input_tokens + 3)).await;
}

#[tokio::test]
async fn replicas_share_a_limit_and_never_exceed_it() {
    let postgres = Postgres::start();
    let single = Mcpd::start().await;
    let options = McpdOptions {
        config: Some("upstreamAddresses: {loopback: true}".to_owned()),
        database_url: Some(postgres.url()),
        master_key_file: Some(single.data_dir().join("master-key")),
        ..McpdOptions::default()
    };
    let one = Mcpd::start_with(options.clone()).await;
    let two = Mcpd::start_with(options).await;
    let provider = ModelServer::start().await;
    one.llm_with_default_timeouts("gpt", &provider.base_url()).await;
    one.apply(limit("shared", json!({"per": "all", "requests": {"max": 7, "period": "month"}}))).await;
    let (admin, body) = (one.admin(), chat("gpt", json!({})));
    let requests = (0..24).map(|at| ask(if at % 2 == 0 { &one } else { &two }, &admin, &body));
    let answers = futures::future::join_all(requests).await;
    let count = |status| answers.iter().filter(|answer| answer.status() == status).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS)), (7, 17));
    assert_eq!(provider.inferences().len(), 7);
    let shown = two.get("/api/v1/limits/shared/status", &admin).await.json::<Value>().await.unwrap();
    assert_eq!(shown["counters"][0]["remaining"], 0);
}

#[tokio::test]
async fn budget_counts_every_kind_of_token() {
    let world = Central::start(&["unpriced"]).await;
    let (mcpd, alice) = (&world.mcpd, &world.alice);
    mcpd.apply(json!([{
        "kind": "Llm", "name": "gpt", "type": "openai", "url": world.provider.base_url(), "model": "m",
        "price": {"input": 3, "cachedInput": 0.3, "output": 15, "reasoning": 20},
    }]))
    .await;
    let budget = json!({"cost": {"max": 0.1, "currency": "USD", "period": "month"}});
    let made = mcpd.post("/api/v1/limits", &mcpd.admin(), &limit("budget", budget)[0]).await;
    let warning = made.headers()["mcpctl-warning"].to_str().unwrap().to_owned();
    assert_eq!(
        warning,
        "Limit `budget` bounds cost, so it denies Llm `unpriced`, whose price is not known: write its `price`"
    );
    let mut second = limit("second", json!({"cost": {"max": 1, "currency": "USD", "period": "month"}}));
    let url = world.provider.base_url();
    let llm = json!({"kind": "Llm", "name": "other", "type": "openai", "url": url, "model": "m"});
    second.as_array_mut().unwrap().push(llm);
    let applied = mcpd.post("/api/v1/apply?dryRun=true", &mcpd.admin(), &second).await;
    let report: Value = applied.json().await.unwrap();
    let warnings = report["warnings"].as_array().unwrap();
    let both =
        "Limit `second` bounds cost, so it denies Llm `other`, whose price is not known: write its `price`";
    assert_eq!(warnings.iter().filter(|warning| **warning == both).count(), 1, "{warnings:?}");
    let usage_of = json!({"prompt_tokens": 10_000, "completion_tokens": 2_000,
        "prompt_tokens_details": {"cached_tokens": 6_000}, "completion_tokens_details": {"reasoning_tokens": 500}});
    let answer = json!({"object": "chat.completion", "model": "m", "usage": usage_of, "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]});
    world.provider.queue(Reply::status(200, answer.to_string()).header("content-type", "application/json"));
    assert_eq!(ask(mcpd, alice, &chat("gpt", json!({}))).await.status(), StatusCode::OK);
    // 4000 × 3 + 6000 × 0.3 + 1500 × 15 + 500 × 20, per million.
    used(mcpd, "budget", json!(0.0463)).await;
    let rows = usage(mcpd).await;
    let row = &rows[0];
    assert_eq!(
        (row.cost_nanos, row.cached_input_tokens, row.reasoning_tokens),
        (Some(46_300_000), 6_000, 500)
    );

    let refused = ask(mcpd, alice, &chat("gpt", json!({"max_tokens": 4000}))).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let error: Value = refused.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("0.1 USD per month, of which 0.0463 USD are used"), "{message}");

    let unknown = ask(mcpd, alice, &chat("unpriced", json!({}))).await;
    assert_eq!(unknown.status(), StatusCode::FORBIDDEN);
    assert_eq!(unknown.headers()["mcpctl-failure"], "denied");
    let error: Value = unknown.json().await.unwrap();
    assert_eq!(error["error"]["code"], "price_unknown");
    mcpd.apply(json!([{
        "kind": "Llm", "name": "unpriced", "type": "openai", "url": world.provider.base_url(), "model": "m",
        "price": {"input": 0, "output": 0},
    }]))
    .await;
    assert_eq!(ask(mcpd, alice, &chat("unpriced", json!({}))).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn limits_outlive_a_crash_of_mcpd() {
    let mut world = Central::start(&["gpt"]).await;
    world.mcpd.apply(limit("few", json!({"requests": {"max": 1, "period": "month"}}))).await;
    let body = chat("gpt", json!({}));
    assert_eq!(ask(&world.mcpd, &world.alice, &body).await.status(), StatusCode::OK);
    world.mcpd.kill();
    world.mcpd.restart().await;
    assert_eq!(ask(&world.mcpd, &world.alice, &body).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn limits_have_rights_of_their_own_and_follow_their_subjects() {
    let world = Central::start(&["gpt"]).await;
    let mcpd = &world.mcpd;
    let editor = mcpd.user("ed", Some("editor")).await;
    let few = limit(
        "few",
        json!({"subjects": [{"kind": "User", "name": "ed"}], "requests": {"max": 9, "window": "1m"}}),
    );
    mcpd.apply(few).await;
    let patch = json!({"requests": {"max": 1000}});
    let patched =
        mcpd.request(Method::PATCH, "/api/v1/limits/few", &editor).json(&patch).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::FORBIDDEN, "an editor may be whom the Limit bounds");
    for path in ["/api/v1/limits/few/status", "/api/v1/limits/none/status"] {
        assert_eq!(mcpd.get(path, &editor).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(mcpd.get("/api/v1/users/ed/status", &mcpd.admin()).await.status(), StatusCode::NOT_FOUND);

    assert_eq!(ask(mcpd, &editor, &chat("gpt", json!({}))).await.status(), StatusCode::OK);
    let counter = status(mcpd, "few").await["counters"][0].clone();
    assert_eq!(counter["subject"], json!({"kind": "User", "name": "ed"}));
    assert_eq!((&counter["used"], &counter["per"]), (&json!(1), &json!("1m")));
    let renamed =
        mcpd.request(Method::PATCH, "/api/v1/users/ed", &mcpd.admin()).json(&json!({"name": "edward"}));
    let renamed = renamed.send().await.unwrap();
    let warning = renamed.headers()["mcpctl-warning"].to_str().unwrap();
    assert!(warning.contains("Limit `few` names User edward instead of User ed"), "{warning}");
    let deleted = mcpd.delete("/api/v1/users/edward", &mcpd.admin()).await;
    let warning = deleted.headers()["mcpctl-warning"].to_str().unwrap();
    assert!(warning.contains("Limit `few` is deleted too: it named nothing but User edward"), "{warning}");
}
