//! Requests that wait for an engine in a bounded queue.

use mcpctl_testkit::{daemons::eventually, deployment::Deployment, response::header};
use reqwest::StatusCode;
use serde_json::Value;

/// One request runs and one waits; every further one is rejected, whether it failed over or asked for the local provider.
#[tokio::test]
async fn full_queue_is_429_with_retry_after() {
    let deployment = Deployment::builder()
        .engine("desk", "busy", &["failoverFor: claude", "concurrency: 1", "queue: 1"])
        .signed_in()
        .start()
        .await;
    deployment.start_engine("desk").await;
    deployment.overload_provider();
    deployment.hold_engine("desk", "busy");
    let filled = async {
        let full = async || {
            let engine = deployment.engine("desk").await;
            (engine["inFlight"] == 1 && engine["queued"] == 1).then_some(())
        };
        eventually("one request runs and one waits", full).await;
        let rejected = [deployment.chat().await, deployment.chat_locally("desk").await];
        deployment.release_engine("desk", "busy");
        rejected
    };
    let (first, second, rejected) =
        futures::join!(deployment.chat(), deployment.chat_locally("desk"), filled);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    for answer in rejected {
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(header(&answer, "retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcplocal"));
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "local_busy");
    }
    let status = deployment.agent.status().await;
    assert!(status["providers"][0]["tokensPerSecond"].as_f64().unwrap() > 0.0, "{status}");
}
