//! The end of an engine's life: idle, asleep, or with the agent.

use std::path::Path;

use mcpctl_testkit::{daemons::eventually, deployment::Deployment};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn idle_engine_sleeps_then_stops() {
    let keys = ["idleTimeout: 1s", "swap: standby", "standbyTimeout: 4s"];
    let deployment = Deployment::builder().vllm_engine("desk", "", &keys).start().await;
    deployment.start_engine("desk").await;
    for state in ["sleeping", "stopped"] {
        deployment.engine_is("desk", state).await;
    }
}

/// The first SIGTERM lets requests end, the second one does not; the engine stops in either case.
#[tokio::test]
async fn second_sigterm_stops_the_agent_and_its_engines_at_once() {
    let mut deployment = Deployment::builder().engine("desk", "busy", &[]).signed_in().start().await;
    deployment.start_engine("desk").await;
    deployment.hold_engine("desk", "busy");
    let pid = deployment.engine("desk").await["pid"].as_u64().unwrap();
    let agent = &deployment.agent;
    let shutdown = async {
        deployment.engine_shows("desk", "inFlight", 1).await;
        agent.terminate();
        eventually("the agent lets the request end", async || {
            agent.log().contains("asked to end").then_some(())
        })
        .await;
        agent.terminate();
    };
    let body = json!({"model": "local/desk", "messages": [{"role": "user", "content": "Hi"}]});
    let request = agent.request(Method::POST, "/v1/chat/completions", &agent.local_key()).json(&body).send();
    let (answer, ()) = futures::join!(request, shutdown);
    // Cut with the agent, or failed because its engine ended first.
    let status = answer.ok().map(|answer| answer.status());
    assert!(status.is_none_or(|status| status == StatusCode::BAD_GATEWAY), "{status:?}");
    assert!(deployment.agent.wait().success());
    eventually("its engine has ended", async || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()))
        .await;
}
