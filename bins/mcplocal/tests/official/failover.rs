//! The official OpenAI Python client, pointed at `mcplocal` with nothing but a base URL and a key, in both modes,
//! through success, failover and revocation.

use std::path::Path;

use mcpctl_testkit::{
    daemons::{Mcplocal, closed_address},
    deployment::{Deployment, openai_item},
    model_server::Reply,
    python,
};
use serde_json::{Value, json};
use tokio::process::Command;

#[tokio::test]
async fn official_client_sees_success_failover_and_revocation() {
    // Requests for inference go to a separate address, which can fail while the probe works.
    let mut deployment = Deployment::start().await;
    deployment.provider.set_default(Reply::text("from the primary").model("primary-model"));
    deployment.desk.set_default(Reply::text("from the desk").model("desk-model"));
    let config = format!(
        "server: {}\ninference: http://{}\nproviders:\n{}",
        deployment.mcpd.url(),
        closed_address(),
        openai_item("desk", &deployment.desk.base_url(), &["failoverFor: claude"])
    );
    let cut_off = Mcplocal::start(&config).await;

    for mode in ["whole", "stream"] {
        let output = chat(&deployment.agent, &deployment.alice, &[mode, "claude"]).await;
        let expected = json!({"text": "from the primary", "model": "primary-model", "finished": true, "models": ["claude"]});
        assert_eq!(output, expected, "{mode}");
    }
    deployment.provider.refuse().await;
    for mode in ["whole", "stream"] {
        let output = chat(&deployment.agent, &deployment.alice, &[mode, "claude"]).await;
        assert_eq!(
            (&output["text"], &output["model"]),
            (&json!("from the desk"), &json!("desk-model")),
            "{mode}"
        );
    }
    deployment.provider.listen();
    deployment.revoke().await;
    let calls = deployment.desk.requests().len();
    for mode in ["whole", "stream"] {
        // mcpd denies the request.
        let output = chat(&deployment.agent, &deployment.alice, &[mode, "claude"]).await;
        let expected = (&json!(403), &json!("forbidden"));
        assert_eq!((&output["status"], &output["error"]["code"]), expected, "{mode}");
        // mcpd cannot be reached for inference, and the probe denies: the primary's own error.
        let output = chat(&cut_off, &deployment.alice, &[mode, "claude"]).await;
        assert_eq!((&output["status"], &output["error"]["code"]), (&json!(502), &json!("connect")), "{mode}");
    }
    assert_eq!(deployment.desk.requests().len(), calls, "the local model was called for a revoked caller");
}

/// The client waits at most nine seconds between two chunks, and the engine takes thirteen seconds to start.
#[tokio::test]
async fn client_with_a_short_timeout_survives_a_cold_start() {
    let deployment =
        Deployment::builder().engine("desk", "load 13000", &["failoverFor: claude"]).start().await;
    deployment.overload_provider();
    let output = chat(&deployment.agent, &deployment.alice, &["stream", "claude", "9"]).await;
    assert_eq!((&output["text"], &output["finished"]), (&json!("from the engine"), &json!(true)), "{output}");
}

/// Runs the client and returns what it prints.
async fn chat(agent: &Mcplocal, key: &str, arguments: &[&str]) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official/openai");
    let packages = python::packages(&here.join("requirements.txt"));
    let output = Command::new("python3")
        .arg(here.join("chat.py"))
        .args(arguments)
        .env("PYTHONPATH", &packages)
        .env("OPENAI_BASE_URL", format!("{}/v1", agent.url()))
        .env("OPENAI_API_KEY", key)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
