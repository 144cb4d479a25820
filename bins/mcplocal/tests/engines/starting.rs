//! A streaming caller who waits for a cold start: comments keep the stream open from the fifth second on.

use mcpctl_testkit::{deployment::Deployment, response::header};
use reqwest::{Response, StatusCode};
use serde_json::json;

/// A deployment whose engine fails over for `claude` and does not become ready before it is released; its provider fails.
async fn held() -> Deployment {
    let deployment =
        Deployment::builder().engine("desk", "hold", &["failoverFor: claude"]).signed_in().start().await;
    deployment.hold_engine("desk", "hold");
    deployment.overload_provider();
    deployment
}

/// Sends a streamed chat and returns it after its first comment.
async fn first_comment(deployment: &Deployment) -> Response {
    let mut answer = deployment.chat_streamed().await;
    assert_eq!(answer.status(), StatusCode::OK);
    let first = answer.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b": `desk` is starting (loading weights"), "{first:?}");
    answer
}

#[tokio::test]
async fn streaming_caller_gets_comments_then_the_answer() {
    let deployment = held().await;
    let answer = first_comment(&deployment).await;
    assert_eq!(header(&answer, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"));
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    deployment.release_engine("desk", "hold");
    let rest = answer.text().await.unwrap();
    assert!(rest.contains("\"content\":\" engine\"") && rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    // The journal records it as it records a request that did not wait.
    let journal = deployment.agent.journal();
    assert_eq!(
        (&journal[0]["outcome"], &journal[0]["access"]),
        (&json!("served"), &json!(["allowed", "allowed"]))
    );
    assert!(!journal[0]["request"].as_str().unwrap().is_empty());
    assert_eq!(journal[1]["outcome"], "ok");
    assert_eq!(journal[1]["request"], journal[0]["request"]);
}

/// The feed ends the wait, or the probe that is repeated after a long start does, whichever comes first: no byte of the local
/// provider.
#[tokio::test]
async fn caller_revoked_during_comments_gets_no_local_byte() {
    let deployment = held().await;
    let answer = first_comment(&deployment).await;
    deployment.revoke().await;
    deployment.release_engine("desk", "hold");
    let rest = answer.text().await.unwrap();
    let events: Vec<&str> = rest.lines().filter(|line| line.starts_with("data: ")).collect();
    assert_eq!(events.len(), 1, "{rest}");
    let is_error = events[0].contains("overloaded") || events[0].contains("access_revoked");
    assert!(is_error && !rest.contains("[DONE]"), "the primary's own error, or the revocation: {rest}");
    let journal = deployment.agent.journal();
    assert!(journal.iter().all(|line| line["outcome"] != "served"), "{journal:?}");
}
