//! The breaker of a primary that fails again and again.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::{Builder, Deployment, openai_item},
    model_server::{ModelServer, Reply},
    response::{content, header},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

fn with_breaker(open: &str) -> Builder {
    let config = format!("primary: {{breaker: {{failures: 2, open: {open}}}}}");
    Deployment::builder().separate_inference().config(&config)
}

async fn fail_twice(deployment: &mut Deployment) {
    deployment.provider.refuse().await;
    for _ in 0..2 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
}

#[tokio::test]
async fn open_breaker_skips_the_primary_and_not_the_probe() {
    let mut deployment = with_breaker("1h").start().await;
    fail_twice(&mut deployment).await;
    let requests = || deployment.mcpd.log().matches("route=\"/v1/chat/completions\"").count();
    // mcpd logs each request and a warning of its provider.
    eventually("mcpd has logged both requests", async || (requests() == 4).then_some(())).await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    eventually("mcpd is probed each time", async || (deployment.probes() == 3).then_some(())).await;
    assert_eq!(requests(), 4, "the breaker is open");
    let status = deployment.agent.status().await;
    let breaker = &status["breakers"][0];
    assert_eq!((&breaker["llm"], &breaker["state"]), (&json!("claude"), &json!("open")));
    assert!(breaker["since"].is_string() && breaker["nextTryAt"].is_string(), "{breaker}");
    assert!(breaker["lastFailure"].is_string() && breaker.get("someForms").is_none(), "{breaker}");
    let agent = &deployment.agent;
    let metrics = agent.request(Method::GET, "/metrics", &agent.local_key()).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("mcpctl_open_breakers{llm=\"claude\"} 1\n"), "{metrics}");
    assert_eq!(format!("http://{}", status["listen"].as_str().unwrap()), deployment.agent.url());
}

#[tokio::test]
async fn breaker_closes_when_the_primary_serves_again() {
    let mut deployment = with_breaker("200ms").start().await;
    fail_twice(&mut deployment).await;
    deployment.provider.listen();
    eventually("the primary serves again", async || {
        (content(deployment.chat().await).await == "from the primary").then_some(())
    })
    .await;
}

/// Beside `claude`, whose breaker is the file's, `other` falls back to a provider with keys of its own.
#[tokio::test]
async fn provider_has_its_own_breaker_and_classes() {
    let desk = ModelServer::with_default(Reply::text("from the other desk")).await;
    let keys = [
        "failoverFor: other",
        "primary: {breaker: {failures: 1, open: 1h}}",
        "failover: {on: [context_length]}",
    ];
    let plain = openai_item("desk", &desk.base_url(), &["failoverFor: claude"]);
    let items = format!("{plain}{}", openai_item("other-desk", &desk.base_url(), &keys));
    let deployment = with_breaker("1h").providers(&items).start().await;
    deployment.mcpd.llm("other", &deployment.provider.base_url()).await;
    let chat = async |llm: &str| deployment.agent.chat(llm, &deployment.alice, false).await;

    deployment.provider.queue(Reply::context_length());
    deployment.provider.queue(Reply::context_length());
    assert_eq!(chat("claude").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(content(chat("other").await).await, "from the other desk");

    deployment.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    for llm in ["claude", "other"] {
        assert_eq!(header(&chat(llm).await, "mcpctl-failover"), Some("server_error"));
    }
    let status = deployment.agent.status().await;
    let open: Vec<_> = status["breakers"].as_array().unwrap().iter().map(|breaker| &breaker["llm"]).collect();
    assert_eq!(open, ["other"]);
}
