//! Query parameters that a route does not have.

use mcpctl_testkit::deployment::Deployment;
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn unknown_parameters_are_rejected_on_every_route() {
    let deployment = Deployment::builder().signed_in().start().await;
    let (agent, key) = (&deployment.agent, deployment.agent.local_key());
    let posts =
        ["chat/completions", "completions", "embeddings", "responses", "messages", "messages/count_tokens"];
    let routes = posts.map(|operation| (Method::POST, format!("/v1/{operation}"))).into_iter().chain(
        [
            (Method::POST, "/api/v1/llms/claude/infer"),
            (Method::GET, "/v1/models"),
            (Method::GET, "/v1/models/claude"),
            (Method::GET, "/status"),
            (Method::GET, "/metrics"),
            (Method::GET, "/healthz"),
            (Method::GET, "/api/v1/engines"),
            (Method::POST, "/api/v1/engines/desk/start"),
            (Method::POST, "/api/v1/engines/desk/stop"),
            (Method::GET, "/api/v1/engines/desk/logs"),
        ]
        .map(|(method, path)| (method, path.to_owned())),
    );
    for (method, path) in routes {
        for query in ["x=1", "%78", "beta=true&x=1", "x=in-the-query"] {
            let request = agent.request(method.clone(), &format!("{path}?{query}"), &key);
            let answer = request.json(&json!({"model": "claude", "messages": []})).send().await.unwrap();
            let (status, body) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path}?{query}: {body}");
            assert!(
                body.contains("is not a query parameter of this address"),
                "{method} {path}?{query}: {body}"
            );
        }
    }
    assert_eq!(deployment.inferences(), 0);
    assert!(!agent.log().contains("in-the-query"), "the access log has no queries");
    for path in ["/v1/models?client_version=0.140.0", "/healthz"] {
        let answer = agent.request(Method::GET, path, &key).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let list = answer.text().await.unwrap();
        assert_eq!(list.contains(r#""models":[]"#), path.contains("client_version"), "{path}: {list}");
    }
}
