//! Trace contexts through the agent: to mcpd and its provider, and to a local provider.

use mcpctl_testkit::{daemons::eventually, deployment::Deployment, model_server::RecordedRequest};
use reqwest::{Method, StatusCode};
use serde_json::json;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn chat(deployment: &Deployment, traceparent: &str) {
    let body = json!({"model": "claude", "messages": []});
    let request = deployment.agent.request(Method::POST, "/v1/chat/completions", &deployment.alice);
    let response = request.header("traceparent", traceparent).json(&body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

fn trace_id(requests: &[RecordedRequest]) -> String {
    let traceparent = requests.last().unwrap().header("traceparent").unwrap().to_owned();
    traceparent.split('-').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn one_trace_spans_agent_mcpd_and_upstream() {
    let deployment = Deployment::start().await;
    chat(&deployment, &format!("00-{TRACE_ID}-00f067aa0ba902b7-01")).await;
    assert_eq!(trace_id(&deployment.provider.inferences()), TRACE_ID);
    let logged = format!("trace_id={TRACE_ID}");
    eventually("mcpd has logged it", async || deployment.mcpd.log().contains(&logged).then_some(())).await;

    // A malformed header is replaced at the first hop, so that all the others share one trace.
    chat(&deployment, "broken").await;
    let begun = trace_id(&deployment.provider.inferences());
    assert_ne!(begun, TRACE_ID);
    let begun = format!("trace_id={begun}");
    eventually("both daemons have logged it", async || {
        let logs = [deployment.agent.log(), deployment.mcpd.log()];
        logs.iter().all(|log| log.contains(&begun)).then_some(())
    })
    .await;

    deployment.overload_provider();
    chat(&deployment, &format!("00-{TRACE_ID}-00f067aa0ba902b7-01")).await;
    assert_eq!(trace_id(&deployment.desk.inferences()), TRACE_ID, "the local provider belongs to the trace");
    let failover = deployment.agent.log();
    let line =
        failover.lines().find(|line| line.contains("outcome=\"served\"")).expect("a line of the failover");
    assert!(line.contains(&logged), "{line}");
}
