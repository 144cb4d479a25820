//! An engine's log through the agent, and the metric of its starts.

use mcpctl_testkit::deployment::Deployment;
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn followed_log_spans_starts_and_ends_with_the_agent() {
    let mut deployment = Deployment::builder().engine("desk", "", &[]).signed_in().start().await;
    let agent = &deployment.agent;
    let path = "/api/v1/engines/desk/logs?follow=true";
    let mut log = agent.request(Method::GET, path, &agent.local_key()).send().await.unwrap();
    for start in 1..=3 {
        deployment.start_engine("desk").await;
        let mut text = String::new();
        while !text.contains("fake engine on port") {
            text += &String::from_utf8_lossy(&log.chunk().await.unwrap().expect("the log continues"));
        }
        assert_eq!(deployment.starts("desk"), start);
        deployment.control("desk", "stop").await;
    }
    deployment.agent.terminate();
    while log.chunk().await.unwrap().is_some() {}
    assert!(deployment.agent.wait().success());
    assert!(deployment.agent.log().contains("ended"), "{}", deployment.agent.log());
}

#[tokio::test]
async fn log_of_two_files_is_read_whole_and_a_start_counts_once() {
    let deployment = Deployment::builder().engine("desk", "", &[]).signed_in().start().await;
    deployment.start_engine("desk").await;
    assert_eq!(deployment.chat_locally("desk").await.status(), StatusCode::OK);
    // The file that the agent keeps when a log has grown too large for one.
    let agent = &deployment.agent;
    std::fs::write(agent.state_dir().join("logs/desk@older.log"), "the older part\n").unwrap();
    let get = async |path: &str| {
        let answer = agent.request(Method::GET, path, &agent.local_key()).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let log = get("/api/v1/engines/desk/logs").await;
    assert!(log.starts_with("the older part\nfake engine on port"), "{log}");
    let metrics = get("/metrics").await;
    assert!(metrics.contains(r#"mcpctl_engine_starts_total{engine="desk",outcome="ready"} 1"#), "{metrics}");
}
