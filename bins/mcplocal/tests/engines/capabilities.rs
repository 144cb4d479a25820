//! Requests that need what a model lacks, and the model's name where the configuration has none.

use mcpctl_testkit::{deployment::Deployment, response::header};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn request_that_the_model_cannot_serve_is_not_sent_to_it() {
    let props = r#"props {"default_generation_settings":{"n_ctx":2048},"modalities":{"vision":false},"chat_template_caps":{"supports_tools":false}}"#;
    let deployment = Deployment::builder()
        .engine("probed", props, &["failoverFor: claude"])
        .engine("declared", "", &["capabilities: [tools]"])
        .signed_in()
        .start()
        .await;
    deployment.overload_provider();
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}], "tools": tools});
    let answer = deployment.send(&body).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(header(&answer, "mcpctl-no-failover"), Some("lacks_tools"));
    let journal = deployment.agent.journal();
    assert_eq!(journal[0]["outcome"], "failed");
    assert_eq!(journal.len(), 1, "nothing ran locally: {journal:?}");
    // A request without tools is served.
    assert_eq!(deployment.chat().await.status(), StatusCode::OK);

    // Declared capabilities are known before an engine starts.
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    let body = json!({"model": "local/declared", "messages": [{"role": "user", "content": image}]});
    let agent = &deployment.agent;
    let request = agent.request(Method::POST, "/v1/chat/completions", &agent.local_key());
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "lacks_vision");
    assert_eq!(deployment.starts("declared"), 0);
}

/// A provider without `model` uses the only model of its server, and fails where there are several.
#[tokio::test]
async fn provider_without_a_model_uses_the_only_one() {
    let mut deployment = Deployment::builder().signed_in().start().await;
    deployment.agent.stop();
    deployment.agent.change_config(|config| config.replace("    model: m\n", ""));
    deployment.desk.set_models(&["the-only-one"]);
    deployment.agent.restart().await;
    assert_eq!(deployment.chat_locally("desk").await.status(), StatusCode::OK);
    assert_eq!(deployment.desk.inferences()[0].json()["model"], "the-only-one");
    assert_eq!(deployment.agent.status().await["providers"][0]["model"], "the-only-one");

    deployment.desk.set_models(&["one", "two"]);
    deployment.agent.stop();
    deployment.agent.restart().await;
    let answer = deployment.chat_locally("desk").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let body: Value = answer.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("not exactly one model"), "{message}");
}
