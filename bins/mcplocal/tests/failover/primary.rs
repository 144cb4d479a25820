//! Which of the primary's outcomes fail over, and what the caller gets then.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::Reply,
    response::{content, header},
};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn success_of_the_primary_needs_no_probe() {
    let deployment = Deployment::start().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("claude"));
    assert_eq!(content(answer).await, "from the primary");
    assert_eq!(deployment.probes(), 0);
    assert!(deployment.desk.inferences().is_empty());
    assert!(deployment.agent.journal().is_empty());
}

/// The answer names the local provider, and the probe was a HEAD with the caller's own bearer.
#[tokio::test]
async fn failure_of_the_primary_fails_over_when_the_probe_allows() {
    let mut deployment = Deployment::builder().separate_inference().start().await;
    deployment.provider.refuse().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "mcpctl-failover"), Some("connect"));
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    assert_eq!(content(answer).await, "from the desk");
    let probe = eventually("the probe is logged", async || {
        deployment.mcpd.log().lines().find(|line| line.contains("method=HEAD")).map(str::to_owned)
    })
    .await;
    assert!(probe.contains("status=200") && probe.contains("/api/v1/{kind}/{idOrName}"), "{probe}");
    assert!(probe.contains("User alice"), "{probe}");
    let journal = deployment.agent.journal();
    assert_eq!(journal[0]["outcome"], "served");
    assert_eq!(journal[0]["access"], json!(["allowed"]));
    assert_eq!((&journal[1]["event"], &journal[1]["cost"]), (&json!("ended"), &json!(0)));
}

/// A Limit at mcpd would mean nothing if the agent answered in its place.
#[tokio::test]
async fn exceeded_limit_does_not_fail_over() {
    let deployment = Deployment::start().await;
    let limit =
        json!({"kind": "Limit", "name": "few", "per": "subject", "requests": {"max": 1, "period": "month"}});
    deployment.mcpd.apply(json!([limit])).await;
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
    let first = deployment.chat().await;
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(first.status(), StatusCode::OK);
    let refused = deployment.chat().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    for (name, expected) in [
        ("mcpctl-failure", "quota"),
        ("mcpctl-error-source", "mcpd"),
        ("x-ratelimit-limit-requests", "1"),
        ("x-should-retry", "false"),
    ] {
        assert_eq!(header(&refused, name), Some(expected), "{name}");
    }
    assert!(refused.headers().contains_key("retry-after"));
    assert!(deployment.desk.inferences().is_empty());
    assert_eq!(deployment.provider.inferences().len(), 1, "it is not repeated either");
}

#[tokio::test]
async fn llm_without_a_local_provider_returns_the_primarys_error() {
    let mut deployment =
        Deployment::builder().separate_inference().desk(&["failoverFor: other"]).start().await;
    deployment.provider.refuse().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    assert!(deployment.desk.inferences().is_empty());
    assert_eq!(deployment.probes(), 0);
}

/// A 422 is the provider's answer to what the caller wrote: it does not fail over and keeps its body and content type.
#[tokio::test]
async fn inv_03_primarys_error_is_returned_unchanged() {
    let deployment = Deployment::start().await;
    let error = r#"{"error":{"message":"too many images","type":"invalid_request_error","code":"x","param":"messages"}}"#;
    let reply = Reply::status(422, error).header("content-type", "application/json; v=1");
    deployment.provider.queue(reply);
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(header(&answer, "content-type"), Some("application/json; v=1"));
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(answer.text().await.unwrap(), error);
    assert!(deployment.desk.inferences().is_empty());
    assert_eq!(deployment.probes(), 0);
}

/// The error already comes from mcpd, so the agent does not repeat the request.
#[tokio::test]
async fn error_of_mcpds_provider_is_not_retried_by_the_agent() {
    let mut deployment = Deployment::builder().separate_inference().providers("").start().await;
    deployment.provider.refuse().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    let lines = || deployment.mcpd.log().matches("route=\"/v1/chat/completions\"").count();
    eventually("the request and a warning are logged", async || (lines() >= 2).then_some(())).await;
    assert_eq!(lines(), 2, "one request with one warning: {}", deployment.mcpd.log());
}
