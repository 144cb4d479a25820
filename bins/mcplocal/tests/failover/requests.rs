//! Requests that the agent rejects itself.

use mcpctl_testkit::deployment::Deployment;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn missing_credential_foreign_host_and_origin_are_rejected() {
    let deployment = Deployment::start().await;
    let url = format!("{}/v1/chat/completions", deployment.agent.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"model": "claude", "messages": []});
    let anonymous = http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let request = http.post(&url).bearer_auth(&deployment.alice).header(name, value).json(&body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{name}");
    }
    let status = http.get(format!("{}/status", deployment.agent.url())).bearer_auth(&deployment.alice);
    assert_eq!(
        status.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED,
        "the status is for the local key"
    );
    assert!(deployment.provider.requests().is_empty() && deployment.desk.inferences().is_empty());
}
