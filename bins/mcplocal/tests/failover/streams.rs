//! Failover of streams, which is possible until the first event has gone to the caller.

use mcpctl_testkit::{
    deployment::Deployment,
    model_server::{Gate, Reply},
    response::header,
};

#[tokio::test]
async fn stream_fails_over_before_its_first_event_only() {
    let deployment = Deployment::start().await;
    deployment.overload_provider();
    let answer = deployment.chat_streamed().await;
    assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"));
    let body = answer.text().await.unwrap();
    assert!(body.contains("desk") && body.trim_end().ends_with("data: [DONE]"), "{body}");
    assert!(!body.contains("\"usage\""), "the caller did not request usage: {body}");

    deployment.provider.set_default(Reply::text("one two three four").cut_after(2));
    let answer = deployment.chat_streamed().await;
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    let body = answer.text().await.unwrap();
    assert!(body.contains("\"error\"") && !body.contains("[DONE]"), "inv 13: {body}");
    assert!(!body.contains("finish_reason\":\"stop"), "inv 13: {body}");
}

#[tokio::test]
async fn caller_that_leaves_cancels_the_request_at_the_provider() {
    let deployment = Deployment::start().await;
    let gate = Gate::new();
    deployment.provider.queue(Reply::text("one two three").gate_after(1, &gate));
    let mut answer = deployment.chat_streamed().await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    deployment.provider.wait_for_disconnects(1).await;
    gate.release();
}
