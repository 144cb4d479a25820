//! The official Anthropic clients, for Python and for Node, pointed at both daemons with nothing but a base URL and a key, over
//! upstreams of both dialects: directly, through the agent, and when the agent falls back to a local model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use mcpctl_testkit::{
    deployment::Deployment,
    model_server::{ModelServer, Reply},
    node, python,
};
use serde_json::{Value, json};
use tokio::process::Command;

/// An answer that is text, reasoning and structured output in one.
fn reply(name: &str) -> Reply {
    Reply::text(&json!({ "name": name }).to_string()).reasoning("Let me see.").model(name)
}

/// What a client's tasks give where `name` answers. `counted` is checked apart.
fn expected(name: &str, listed: &[&str]) -> Value {
    let answer = json!({ "model": name, "stop_reason": "end_turn", "text": json!({ "name": name }).to_string(),
        "thinking": "Let me see.", "calls": [], "counted": true });
    let call = json!({ "model": name, "stop_reason": "tool_use", "thinking": "Let me see.",
        "calls": [["look", {}]], "counted": true });
    let models: Vec<Value> = listed.iter().map(|model| json!([model, "model", model])).collect();
    json!({ "plain": answer, "streamed": answer, "tools": [call, answer], "tools_streamed": [call, answer],
        "structured": name, "image": answer, "models": models })
}

/// Runs all tasks with both clients.
async fn check(url: &str, key: &str, model: &str, expected: &Value) {
    for language in ["python", "node"] {
        let mut output = run(language, url, key, model).await;
        let output = output.as_object_mut().unwrap();
        let counted = output.shift_remove("counted").unwrap();
        // The scripted server writes text before a call where it streams, and none where it does not.
        for calls in ["tools", "tools_streamed"] {
            output[calls][0].as_object_mut().unwrap().shift_remove("text");
        }
        assert!(counted.as_u64().unwrap() > 0, "{language}");
        let refused = output.shift_remove("unknown_model").unwrap();
        assert_eq!(&Value::Object(output.clone()), expected, "{language} {url}");
        assert!(refused[1] == "permission_error" || refused[1] == "not_found_error", "{language}: {refused}");
    }
}

#[tokio::test]
async fn official_clients_are_served_by_upstreams_of_both_dialects() {
    let deployment = Deployment::start().await;
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
    deployment.provider.set_default(reply("chat-model"));
    let anthropic = ModelServer::with_default(reply("claude-model")).await;
    deployment
        .mcpd
        .apply(json!([{ "kind": "Llm", "name": "native", "type": "anthropic", "url": anthropic.base_url(), "model": "claude-x" }]))
        .await;
    let listed = ["claude", "native"];
    for url in [deployment.mcpd.url(), deployment.agent.url()] {
        check(url, &deployment.alice, "claude", &expected("chat-model", &listed)).await;
        check(url, &deployment.alice, "native", &expected("claude-model", &listed)).await;
    }
    let images = |server: &ModelServer, part: &str| {
        server
            .inferences()
            .iter()
            .filter(|request| request.json()["messages"][0]["content"][0]["type"] == part)
            .count()
    };
    assert_eq!((images(&deployment.provider, "image_url"), images(&anthropic, "image")), (4, 4));
    let counted =
        anthropic.inferences().iter().filter(|request| request.path.contains("count_tokens")).count();
    assert_eq!(counted, 4, "the upstream counts tokens itself");
}

#[tokio::test]
async fn official_clients_fall_back_in_their_own_dialect() {
    let mut deployment = Deployment::start().await;
    deployment.desk.set_default(reply("desk-model"));
    deployment.provider.refuse().await;
    let url = deployment.agent.url().to_owned();
    check(&url, &deployment.alice, "claude", &expected("desk-model", &["claude"])).await;
}

/// Runs a client and returns what it prints.
async fn run(language: &str, url: &str, key: &str, model: &str) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/anthropic");
    let mut command = if language == "python" {
        let mut command = Command::new("python3");
        command
            .arg(here.join("client.py"))
            .env("PYTHONPATH", python::packages(&here.join("requirements.txt")));
        command
    } else {
        let mut command = Command::new("node");
        command.arg(here.join("client.cjs")).env("NODE_PATH", node::packages(&here));
        command
    };
    for name in ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"] {
        command.env_remove(name);
    }
    let output = command
        .arg(model)
        .env("ANTHROPIC_BASE_URL", url)
        .env("ANTHROPIC_API_KEY", key)
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
