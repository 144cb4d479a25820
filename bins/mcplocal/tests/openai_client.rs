//! The official OpenAI Python client, pointed at `mcplocal` with nothing but a base URL and a key, in both modes,
//! through success, failover and revocation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, program},
    model_server::{ModelServer, Reply},
    python,
};
use serde_json::{Value, json};
use tokio::process::Command;

#[tokio::test]
async fn the_official_client_chats_through_success_failover_and_revocation() {
    let mcpd = Mcpd::start().await;
    let mut provider = ModelServer::with_default(Reply::text("from the centre").model("central-model")).await;
    let desk = ModelServer::with_default(Reply::text("from the desk").model("desk-model")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    // Inference goes by a path of its own, so that it can fail while the centre still answers questions.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = |inference: &str| {
        format!(
            "server: {}\ninference: {inference}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n",
            mcpd.url(),
            desk.base_url()
        )
    };
    let agent = Mcplocal::start(&config(mcpd.url())).await;
    let cut = Mcplocal::start(&config(&format!("http://{nowhere}"))).await;

    let ask = async |agent: &Mcplocal, mode: &str| ask(agent, &alice, &[mode, "claude"]).await;

    for mode in ["whole", "stream"] {
        let told = ask(&agent, mode).await;
        let expected = json!({"text": "from the centre", "model": "central-model", "finished": true, "models": ["claude"]});
        assert_eq!(told, expected, "{mode}");
    }
    provider.refuse().await;
    for mode in ["whole", "stream"] {
        let told = ask(&agent, mode).await;
        assert_eq!(
            (&told["text"], &told["model"]),
            (&json!("from the desk"), &json!("desk-model")),
            "{mode}"
        );
    }
    provider.listen();
    mcpd.delete("/api/v1/rolebindings/alice-llm-user", &mcpd.admin()).await;
    let calls = desk.requests().len();
    for mode in ["whole", "stream"] {
        // The centre answers, and says no.
        let told = ask(&agent, mode).await;
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!(403), &json!("forbidden")), "{mode}");
        // The path is cut and the probe says no: the primary's own error.
        let told = ask(&cut, mode).await;
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!(502), &json!("connect")), "{mode}");
    }
    assert_eq!(desk.requests().len(), calls, "the local model was called for somebody who may not");
}

#[tokio::test]
async fn a_client_that_waits_no_longer_than_seven_seconds_for_a_sign_waits_out_a_cold_start_of_thirteen() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", "http://127.0.0.1:9/v1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    std::fs::write(&model, "load 13000").unwrap();
    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: claude\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    ))
    .await;
    let told = ask(&agent, &alice, &["stream", "claude", "7"]).await;
    assert_eq!((&told["text"], &told["finished"]), (&json!("from the engine"), &json!(true)), "{told}");
}

/// What the client prints.
async fn ask(agent: &Mcplocal, key: &str, arguments: &[&str]) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai");
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
