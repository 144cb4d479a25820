//! Engines: what they inherit, what a configuration may have them load, and who reaches them.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, eventually, program};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

fn config(kind: &str, model: &Path, more: &str) -> String {
    format!(
        "server: http://127.0.0.1:9\nproviders:\n  - name: desk\n    type: {kind}\n    command: {}\n    model: {}\n{more}",
        program("examples/fake_engine").display(),
        model.display(),
    )
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

/// Why the agent does not start with this configuration.
fn refusal(text: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcplocal.yaml");
    std::fs::write(&path, format!("{text}\nlisten: 127.0.0.1:0\n")).unwrap();
    let mut command = Command::new(program("mcplocal"));
    command.arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    let mut child = command.spawn().unwrap();
    let begun = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed().as_secs() > 5 {
            child.kill().unwrap();
            child.wait().unwrap();
            return "it started".to_owned();
        }
        std::thread::yield_now();
    }
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}

#[tokio::test]
async fn engines_do_not_inherit_the_agents_secrets() {
    let (_dir, model) = model();
    let config = config("llama-server-managed", &model, "    env: {CUDA_CACHE_PATH: /named}\n");
    let home = tempfile::Builder::new().prefix("mcplocal-").tempdir().unwrap();
    let secret = std::ffi::OsStr::new("top-secret-value");
    let names = [
        "MCPCTL_TOKEN",
        "MCPLOCAL_LOCAL_KEY",
        "MCPD_DATABASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "AWS_SESSION_TOKEN",
        "GITHUB_TOKEN",
        "SOMETHING",
        "LD_AUDIT",
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
    let mut more: Vec<_> =
        names.iter().filter(|name| **name != "LD_AUDIT").map(|name| (*name, secret)).collect();
    more.push(("CUDA_VISIBLE_DEVICES", std::ffi::OsStr::new("7")));
    let agent = Mcplocal::start_with(home, &config, &more).await;
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
async fn arguments_that_load_code_or_open_an_engine_are_refused() {
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
        let said = refusal(&config(kind, &model, more));
        assert!(said.contains("cannot be among the extra arguments or the environment"), "{more}: {said}");
    }
    for name in ["--trust-remote-code", "-m"] {
        let said = refusal(&config("vllm-managed", Path::new(name), ""));
        assert!(said.contains("begins with a hyphen"), "{name}: {said}");
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
    assert_eq!(mode(socket.parent().unwrap()), 0o700, "nobody else gets to it");
    let records = std::fs::read_dir(agent.state_dir().join("engines")).unwrap().flatten();
    let records: Vec<_> = records.map(|file| file.path()).filter(|path| path.is_file()).collect();
    assert!(!records.is_empty() && records.iter().all(|record| mode(record) == 0o600), "{records:?}");

    let answer = agent.chat("local/desk", &agent.local_key(), true).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("[DONE]"), "the agent does");
    let socket = socket.to_owned();
    drop(agent);
    eventually("the socket is gone with the agent", async || (!socket.exists()).then_some(())).await;
}
