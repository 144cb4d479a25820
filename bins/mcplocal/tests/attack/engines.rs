//! Engines: what they inherit, what a configuration can make them load, and who reaches them.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, McplocalOptions, eventually, program},
    deployment::engine_item,
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

fn config(kind: &str, model: &Path, more: &str) -> String {
    format!("server: http://127.0.0.1:9\nproviders:\n{}{more}", engine_item(kind, "desk", model, &[]))
}

fn model() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, "").unwrap();
    (dir, path)
}

async fn start(agent: &Mcplocal) -> Value {
    let path = "/api/v1/engines/desk/start";
    let answer = agent.request(Method::POST, path, &agent.local_key()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// The error with which the agent rejects this configuration.
fn rejection(text: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcplocal.yaml");
    std::fs::write(&path, format!("{text}\nlisten: 127.0.0.1:0\n")).unwrap();
    // The timeout ends an agent that starts.
    let mut command = Command::new("timeout");
    command.arg("60").arg(program("mcplocal")).arg("--config").arg(&path).stdin(Stdio::null());
    command.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "the agent started");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn engines_do_not_inherit_the_agents_secrets() {
    let (_dir, model) = model();
    let config = config("llama-server-managed", &model, "    env: {CUDA_CACHE_PATH: /named}\n");
    let secret = "top-secret-value";
    let names = [
        "MCPCTL_TOKEN",
        "MCPLOCAL_LOCAL_KEY",
        "MCPD_DATABASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "AWS_SESSION_TOKEN",
        "GITHUB_TOKEN",
        "SOMETHING",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "LLAMA_ARG_TOOLS",
        "LLAMA_ARG_MODEL_URL",
        "VLLM_PLUGINS",
        "VLLM_LOGGING_CONFIG_PATH",
        "HF_ENDPOINT",
        "SSH_AUTH_SOCK",
        "DATABASE_URL",
    ];
    let mut env: Vec<_> = names.iter().map(|name| (*name, secret.into())).collect();
    env.push(("CUDA_VISIBLE_DEVICES", "7".into()));
    let agent = Mcplocal::start_with(&config, McplocalOptions { env, ..McplocalOptions::default() }).await;
    let engine = start(&agent).await;
    let environment = std::fs::read(format!("/proc/{}/environ", engine["pid"])).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("top-secret-value"), "{environment}");
    assert!(!environment.contains(&agent.local_key()));
    for kept in ["PATH=", "CUDA_VISIBLE_DEVICES=7", "CUDA_CACHE_PATH=/named"] {
        assert!(environment.contains(kept), "{kept}: {environment}");
    }
}

#[tokio::test]
async fn arguments_that_load_code_or_open_an_engine_are_rejected() {
    let (_dir, model) = model();
    for (kind, more) in [
        ("vllm-managed", "    extraArgs: [--trust-remote-code]\n"),
        ("vllm-managed", "    extraArgs: [--trust_remote]\n"),
        ("vllm-managed", "    extraArgs: [\"--middleware=os.system\"]\n"),
        ("vllm-managed", "    extraArgs: [--conf, /tmp/x.yaml]\n"),
        ("vllm-managed", "    extraArgs: [--hf-token, x]\n"),
        ("vllm-managed", "    extraArgs: [--tokenizer, other/model]\n"),
        ("vllm-managed", "    extraArgs: [--structured-outputs-config.reasoning_parser_plugin, /tmp/x.py]\n"),
        ("vllm-managed", "    extraArgs: [--allowed_local_media_path=/]\n"),
        ("llama-server-managed", "    extraArgs: [-hf, other/model]\n"),
        ("llama-server-managed", "    extraArgs: [--model-url, http://x/y.gguf]\n"),
        ("llama-server-managed", "    extraArgs: [--tools, all]\n"),
        ("llama-server-managed", "    extraArgs: [--log_file, /tmp/x]\n"),
        ("llama-server-managed", "    extraArgs: [--host, 0.0.0.0]\n"),
        ("llama-server-managed", "    env: {LLAMA_ARG_HOST: 0.0.0.0}\n"),
        ("llama-server-managed", "    env: {LLAMA_ARG_TOOLS: all}\n"),
        ("llama-server-managed", "    env: {MCPCTL_TOKEN: x}\n"),
    ] {
        let error = rejection(&config(kind, &model, more));
        assert!(error.contains("cannot be among the extra arguments or the environment"), "{more}: {error}");
    }
    for name in ["--trust-remote-code", "-m"] {
        let error = rejection(&config("vllm-managed", Path::new(name), ""));
        assert!(error.contains("begins with a hyphen"), "{name}: {error}");
    }
}

#[tokio::test]
async fn other_users_and_pages_do_not_reach_llama_server() {
    let (_dir, model) = model();
    let mcpd = Mcpd::start().await;
    let config = config("llama-server-managed", &model, "").replace("http://127.0.0.1:9", mcpd.url());
    let agent = Mcplocal::start(&config).await;
    agent.sign_in(&mcpd, "admin", &mcpd.admin());
    let engine = start(&agent).await;
    assert!(engine["port"].is_null(), "{engine}");
    let socket = Path::new(engine["socket"].as_str().unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.parent().unwrap()), 0o700, "other users reach it");
    let records = std::fs::read_dir(agent.state_dir().join("engines")).unwrap().flatten();
    let records: Vec<_> = records.map(|file| file.path()).filter(|path| path.is_file()).collect();
    assert!(!records.is_empty() && records.iter().all(|record| mode(record) == 0o600), "{records:?}");

    let answer = agent.chat("local/desk", &agent.local_key(), true).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("[DONE]"), "the agent does not reach it");
    let socket = socket.to_owned();
    drop(agent);
    eventually("the socket is gone with the agent", async || (!socket.exists()).then_some(())).await;
}
