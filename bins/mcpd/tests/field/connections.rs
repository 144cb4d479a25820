//! Connections to providers that died in the pool, and what a caller learns of one that cannot be made.

use futures::future::join_all;
use mcpctl_testkit::{
    caller::Caller,
    daemons::{Mcpd, eventually},
    link::Link,
    model_server::{Gate, ModelServer, Pause, Reply},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn ask(mcpd: &Mcpd, token: &str, llm: &str, more: &Value) -> Response {
    let mut body = json!({"model": llm, "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mcpd.post("/v1/chat/completions", token, &body).await
}

/// Fills the pool with so many connections, all idle in the end.
async fn fill(mcpd: &Mcpd, provider: &ModelServer, llm: &str, count: usize) {
    let gate = Gate::new();
    provider.set_default(Reply::default().before_head(Pause::Gate(gate.clone())));
    let before = provider.inferences().len();
    let (admin, none) = (mcpd.admin(), json!({}));
    let asking = join_all((0..count).map(|_| ask(mcpd, &admin, llm, &none)));
    let release = async {
        eventually("all are under way", async || {
            (provider.inferences().len() >= before + count).then_some(())
        })
        .await;
        gate.release();
    };
    let (answers, ()) = tokio::join!(asking, release);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    join_all(answers.into_iter().map(Response::bytes)).await;
    provider.set_default(Reply::default());
}

async fn llm(mcpd: &Mcpd, name: &str, url: &str, more: Value) {
    let mut llm = json!({"kind": "Llm", "name": name, "type": "openai", "url": url, "model": "m"});
    llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mcpd.apply(json!([llm])).await;
}

#[tokio::test]
async fn one_dead_connection_retires_its_pool() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    for count in [1, 2, 8, 64] {
        let provider = ModelServer::start().await;
        let (link, name) = (Link::to(&provider.base_url()).await, format!("dead-{count}"));
        // Nothing of a budget is needed.
        llm(&mcpd, &name, &format!("{}/v1", link.url()), json!({"retries": {"max": 0}})).await;
        fill(&mcpd, &provider, &name, count).await;
        assert!(link.connections() >= count as u64);
        let asked = provider.inferences().len();
        link.reset_all();
        for stream in [false, true] {
            let answer = ask(&mcpd, &admin, &name, &json!({"stream": stream})).await;
            assert_eq!(answer.status(), StatusCode::OK, "{count} dead, stream {stream}");
        }
        assert_eq!((link.broken_uses(), provider.inferences().len()), (1, asked + 2), "{count}");

        // Many at once, each with a dead connection of its own: all are answered.
        fill(&mcpd, &provider, &name, count).await;
        link.reset_all();
        let none = json!({});
        let answers = join_all((0..count).map(|_| ask(&mcpd, &admin, &name, &none))).await;
        assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK), "{count} at once");
    }
}

#[tokio::test]
async fn reset_connections_are_retried_within_the_budget() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::reset()).await;
    llm(&mcpd, "resets", &provider.base_url(), json!({"retries": {"max": 0}})).await;
    let answer = ask(&mcpd, &mcpd.admin(), "resets", &json!({})).await;
    assert_eq!((answer.status(), provider.inferences().len()), (StatusCode::BAD_GATEWAY, 1));
}

/// The one test of a real wait here: a connection that takes no data is given up after `TCP_USER_TIMEOUT`, 15 s.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn unresponsive_connection_is_dropped_before_the_answer_timeout() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::start().await;
    let link = Link::to(&provider.base_url()).await;
    let timeouts = json!({"timeouts": {"response": "5m", "answer": "5m"}});
    llm(&mcpd, "deaf", &format!("{}/v1", link.url()), timeouts).await;
    fill(&mcpd, &provider, "deaf", 2).await;
    link.stall_all();
    // More than the kernels of both ends keep, so that it is seen not to be taken.
    let more = json!({"user": "x".repeat(20 << 20)});
    let answer = ask(&mcpd, &mcpd.admin(), "deaf", &more).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["mcpctl-attempts"], "2");
}

#[tokio::test]
async fn redirect_error_names_the_target_and_a_hint() {
    let mcpd = Mcpd::start().await;
    let (provider, elsewhere) = (ModelServer::start().await, ModelServer::start().await);
    mcpd.llm("moved", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let target = format!("{}/chat/completions", elsewhere.base_url());
    let location = format!("{}?key=secret#part", target.replace("http://", "http://user:word@"));
    for status in [301, 302, 303, 307, 308] {
        for stream in [false, true] {
            provider.queue(Reply::status(status, "").header("location", &location));
            let answer = ask(&mcpd, &alice, "moved", &json!({"stream": stream})).await;
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{status}");
            assert!(answer.headers().get("location").is_none());
            assert_eq!(answer.headers()["mcpctl-failure"], "rejected");
            let body: Value = answer.json().await.unwrap();
            let (message, hint) = (body["error"]["message"].to_string(), body["error"]["hint"].to_string());
            assert!(message.contains(&format!("`{target}`")), "{message}");
            assert!(!message.contains("secret") && !message.contains("word"), "{message}");
            assert!(hint.contains("`url` of the Llm `moved`"), "{hint}");
        }
    }
    for status in [300, 304, 305, 306, 399, 600] {
        provider.queue(Reply::status(status, ""));
        let answer = ask(&mcpd, &alice, "moved", &json!({})).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{status}");
        assert!(answer.text().await.unwrap().contains(&status.to_string()));
    }
    assert!(elsewhere.requests().is_empty(), "requests are never sent there");
    assert_eq!(provider.inferences().len(), 16, "and none twice");
}

#[tokio::test]
async fn failed_connection_names_host_and_reason_to_editors_and_in_the_log() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let mut gone = ModelServer::start().await;
    gone.refuse().await;
    let plain = ModelServer::start().await;
    let closes = ModelServer::with_default(Reply::reset()).await;
    let (port, tls_port) = (gone.address().port(), plain.address().port());
    for (name, url, reason) in [
        ("refused", gone.base_url(), format!("`127.0.0.1:{port}`: connection refused")),
        (
            "dns",
            "http://no-such-host.invalid/v1".to_owned(),
            "`no-such-host.invalid:80`: DNS lookup failed".to_owned(),
        ),
        (
            "tls",
            format!("https://127.0.0.1:{tls_port}/v1"),
            format!("`127.0.0.1:{tls_port}`: it does not speak TLS"),
        ),
        ("reset", closes.base_url(), "connection reset".to_owned()),
    ] {
        llm(&mcpd, name, &url, json!({})).await;
        let answer = ask(&mcpd, &mcpd.admin(), name, &json!({})).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body: Value = answer.json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("the provider cannot be reached: ") && message.contains(&reason),
            "{message}"
        );

        let short: Value = ask(&mcpd, &alice, name, &json!({})).await.json().await.unwrap();
        assert_eq!(short["error"]["message"], "the provider cannot be reached", "{name}");
        let log = mcpd.log();
        let line = log.lines().find(|line| line.contains(&format!("llm={name} ")) && line.contains("failed"));
        assert!(line.is_some_and(|line| line.contains(&reason)), "{name}: {log}");
    }
}

/// In every dialect, whole and streamed, and after the first content too.
#[tokio::test]
async fn passed_limit_is_named_with_its_key() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    for (key, reply, stream) in [
        ("response", Reply::hang(), true),
        ("answer", Reply::hang(), false),
        ("firstToken", Reply::default().stall_after(0), true),
        ("idle", Reply::text("a b c").stall_after(1), true),
    ] {
        let provider = ModelServer::with_default(reply).await;
        let name = key.to_lowercase();
        let more = json!({"timeouts": {key: "300ms"}, "breaker": {"failures": 100}});
        llm(&mcpd, &name, &provider.base_url(), more).await;
        for caller in Caller::ALL {
            let answer = mcpd.post(caller.path(), &admin, &caller.body(&name, stream, "Hi")).await;
            let expected = if key == "idle" { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, expected, "{key} {caller:?}: {text}");
            assert!(text.contains(&format!("`timeouts.{key}` (300ms) of the Llm")), "{caller:?}: {text}");
            assert!(!text.contains("[DONE]"), "{caller:?}: {text}");
        }
    }
}
