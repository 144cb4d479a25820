//! Keys of a body: it means the same to the agent, to mcpd and to the model server.

use mcpctl_testkit::deployment::Deployment;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// A deployment whose Llm allows the field `models`, with more keys of the local provider.
async fn start(keys: &[&str]) -> Deployment {
    let keys = [&["failoverFor: claude"], keys].concat();
    let deployment = Deployment::builder().desk(&keys).signed_in().start().await;
    let llm = json!({
        "kind": "Llm", "name": "claude", "type": "openai", "url": deployment.provider.base_url(), "model": "m",
        "allowFields": ["models"], "retries": {"max": 0},
    });
    deployment.mcpd.apply(json!([llm])).await;
    deployment
}

async fn send(deployment: &Deployment, bearer: &str, route: &str, body: &str) -> Response {
    let request = deployment.agent.request(Method::POST, route, bearer);
    let request = request.header("content-type", "application/json").body(body.to_owned());
    request.send().await.unwrap()
}

#[tokio::test]
async fn key_in_another_spelling_is_rejected_before_forwarding() {
    let deployment = start(&[]).await;
    let key = deployment.agent.local_key();
    for route in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/v1/llms/claude/infer"] {
        for (bearer, model) in [(&deployment.alice, "claude"), (&key, "local/desk")] {
            for written in ["Model", "mod\\u0065l", "\u{17f}tream", "model"] {
                let body = format!(r#"{{"model":"{model}","messages":[],"{written}":"other"}}"#);
                let answer = send(&deployment, bearer, route, &body).await;
                assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{route} {body}");
                let answer: Value = answer.json().await.unwrap();
                assert!(answer["error"]["param"].is_string(), "{answer}");
            }
        }
    }
    assert!(deployment.provider.inferences().is_empty() && deployment.desk.inferences().is_empty());
    assert!(!deployment.mcpd.log().contains("completions"), "it was forwarded");
}

#[tokio::test]
async fn fields_that_an_llm_allows_need_the_providers_leave_too() {
    let mut deployment = start(&[]).await;
    let body = r#"{"model":"claude","messages":[],"models":["another"]}"#;
    let answer = send(&deployment, &deployment.alice, "/v1/chat/completions", body).await;
    assert_eq!(answer.status(), StatusCode::OK, "mcpd's Llm allows it");

    deployment.provider.refuse().await;
    let answer = send(&deployment, &deployment.alice, "/v1/chat/completions", body).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers()["mcpctl-no-failover"], "lacks_allow_fields");
    let own = r#"{"model":"local/desk","messages":[],"models":["another"]}"#;
    let answer = send(&deployment, &deployment.agent.local_key(), "/v1/chat/completions", own).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["param"], "models");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("allowFields"), "{answer}");
    assert!(deployment.desk.inferences().is_empty());
}

#[tokio::test]
async fn local_provider_can_allow_fields() {
    let mut deployment = start(&["allowFields: [models]"]).await;
    deployment.provider.refuse().await;
    let body = r#"{"model":"claude","messages":[],"models":["another"]}"#;
    let answer = send(&deployment, &deployment.alice, "/v1/chat/completions", body).await;
    assert_eq!(
        (answer.status(), &answer.headers()["mcpctl-served-by"]),
        (StatusCode::OK, &"desk".parse().unwrap())
    );
    assert_eq!(deployment.desk.inferences()[0].json()["models"], json!(["another"]));
}
