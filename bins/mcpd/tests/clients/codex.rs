//! The Codex command line, which speaks the Responses API only, over a provider of chat completions.

use std::{fs, path::Path, process::Output};

use mcpctl_testkit::{central::Central, model_server::Reply, node};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A model that Codex knows, so that it offers its free text tool for patches and its search for tools.
const MODEL: &str = "gpt-5.5";

const PATCH: &str = "*** Begin Patch\n*** Add File: hello.txt\n+hello world\n*** End Patch\n";

struct Codex {
    home: TempDir,
    central: Central,
}

impl Codex {
    async fn new() -> Self {
        let central = Central::start(&[MODEL]).await;
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        let config = format!(
            "model = \"{MODEL}\"\nmodel_provider = \"mcpd\"\n[model_providers.mcpd]\nname = \"mcpd\"\nbase_url = \"{}/v1\"\n\
             env_key = \"MCPCTL_TOKEN\"\nwire_api = \"responses\"\nrequest_max_retries = 0\nstream_max_retries = 0\n",
            central.mcpd.url()
        );
        fs::write(home.path().join("config.toml"), config).unwrap();
        Self { home, central }
    }

    fn work(&self) -> std::path::PathBuf {
        self.home.path().join("work")
    }

    async fn run(&self, prompt: &str) -> Output {
        let modules = tokio::task::spawn_blocking(|| {
            node::packages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        });
        // Its own sandbox needs rights that CI does not give; the prompts here are ours.
        Command::new(modules.await.unwrap().join(".bin/codex"))
            .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt])
            .current_dir(self.work())
            .env("CODEX_HOME", self.home.path())
            .env("MCPCTL_TOKEN", &self.central.alice)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }
}

fn names(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().unwrap().iter();
    tools.map(|tool| tool["function"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
#[ignore = "Codex from npm: cargo xtask test clients"]
async fn codex_runs_commands_and_applies_patches() {
    let codex = Codex::new().await;
    let provider = &codex.central.provider;
    provider.queue(Reply::tool_calls(&[
        ("exec_command", &json!({"cmd": "echo from-the-shell"}).to_string()),
        ("apply_patch", &json!({"input": PATCH}).to_string()),
    ]));
    provider.queue(Reply::text("All of it is done."));
    let output = codex.run("Do it").await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\n{}", codex.central.mcpd.log());
    assert_eq!(out.trim(), "All of it is done.");
    assert_eq!(fs::read_to_string(codex.work().join("hello.txt")).unwrap(), "hello world\n", "{err}");

    let requests: Vec<Value> = provider.inferences().iter().map(|request| request.json()).collect();
    let [first, second] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    let offered = names(first);
    for tool in ["exec_command", "apply_patch", "tool_search"] {
        assert!(offered.contains(&tool), "{offered:?}");
    }
    let messages = second["messages"].as_array().unwrap();
    let results: Vec<&Value> = messages.iter().filter(|message| message["role"] == "tool").collect();
    assert_eq!(results.len(), 2, "{messages:?}");
    assert!(results[0]["content"].as_str().unwrap().contains("from-the-shell"));
    assert!(results[1]["content"].as_str().unwrap().contains("hello.txt"));
}

#[tokio::test]
#[ignore = "Codex from npm: cargo xtask test clients"]
async fn codex_shows_why_a_stream_broke_and_why_a_request_is_refused() {
    let codex = Codex::new().await;
    codex.central.provider.queue(Reply::text("This is the beginning of an answer.").cut_after(3));
    let output = codex.run("Do it").await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("stream"), "{err}");
    assert!(!err.contains("stream closed before response.completed"), "the words of mcpd are lost: {err}");

    codex.central.provider.queue(Reply::context_length());
    let output = codex.run("Do it").await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("context"), "{err}");
}
