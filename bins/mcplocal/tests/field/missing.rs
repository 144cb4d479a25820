//! A program or a model that is not there keeps its provider from being used, and nothing else.

use std::{fs, path::Path};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, eventually, program},
    model_server::{ModelServer, Reply},
};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    mcpd: Mcpd,
    provider: ModelServer,
    agent: Mcplocal,
    disk: TempDir,
    alice: String,
}

/// A provider of what lies on the disk.
fn managed(disk: &Path, model: &str) -> String {
    format!(
        "providers:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: claude\n",
        disk.join("server").display(),
        disk.join(model).display(),
    )
}

impl World {
    /// Nothing is on the disk yet.
    async fn new(providers: impl Fn(&Path) -> String) -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let disk = tempfile::tempdir().unwrap();
        let config = format!("server: {}\n{}", mcpd.url(), providers(disk.path()));
        let agent = Mcplocal::start(&config).await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { mcpd, provider, agent, disk, alice }
    }

    fn put_program(&self) {
        std::os::unix::fs::symlink(program("examples/fake_engine"), self.disk.path().join("server")).unwrap();
    }

    fn put(&self, file: &str) {
        fs::write(self.disk.path().join(file), "").unwrap();
    }

    async fn ask(&self) -> Response {
        self.agent.chat("claude", &self.alice, false).await
    }

    async fn unavailable(&self) -> Value {
        self.agent.status().await["providers"][0]["unavailable"].clone()
    }

    /// The primary's own error, and why no local provider answered.
    async fn is_refused_for(&self, reason: &str) {
        let answer = self.ask().await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{reason}");
        assert_eq!(answer.headers()["mcpctl-no-failover"], "local_unavailable", "{reason}");
        let status = self.unavailable().await;
        assert!(status["reason"].as_str().unwrap().contains(reason), "{status}");
        assert!(status["hint"].is_string(), "{status}");
        let journal = self.agent.journal();
        let last = journal.last().unwrap();
        assert_eq!(last["outcome"], "failed");
        assert!(last["reason"].as_str().unwrap().contains(reason), "{last}");
        let own = self.agent.chat("local/desk", &self.agent.local_key(), false).await;
        let own: Value = own.json().await.unwrap();
        assert_eq!(own["error"]["code"], "local_provider_unavailable", "{own}");
        assert!(own["error"]["message"].as_str().unwrap().contains(reason), "{own}");
    }

    async fn is_served_locally(&self) {
        let answer = self.ask().await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
        assert_eq!(self.unavailable().await, Value::Null);
    }
}

#[tokio::test]
async fn missing_program_then_model_heal_when_they_come_back() {
    let world = World::new(|disk| managed(disk, "model.gguf")).await;
    assert_eq!(world.ask().await.text().await.unwrap().matches("from the centre").count(), 1);
    eventually("it is in the log with its place", async || {
        let log = world.agent.log();
        (log.contains("a local provider is unavailable") && log.contains("mcplocal.yaml:3:")).then_some(())
    })
    .await;

    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    world.is_refused_for("server` is not there").await;
    world.put_program();
    world.is_refused_for("model.gguf` does not exist").await;
    world.put("model.gguf");
    world.is_served_locally().await;
}

#[tokio::test]
async fn file_of_an_extra_argument_heals_when_it_comes_back() {
    let world = World::new(|disk| {
        let mmproj = disk.join("mmproj.gguf");
        format!("{}    extraArgs: [--mmproj, {}]\n", managed(disk, "model.gguf"), mmproj.display())
    })
    .await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    world.put_program();
    world.put("model.gguf");
    world.is_refused_for("mmproj.gguf` of `--mmproj` does not exist").await;
    world.put("mmproj.gguf");
    world.is_served_locally().await;
}

#[tokio::test]
async fn reload_that_names_a_missing_model_takes_effect() {
    let world = World::new(|disk| managed(disk, "model.gguf")).await;
    world.put_program();
    world.put("model.gguf");
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    world.is_served_locally().await;

    let config = format!("server: {}\n{}", world.mcpd.url(), managed(world.disk.path(), "other.gguf"));
    fs::write(world.agent.config_file(), config).unwrap();
    eventually("the change is in force", async || {
        world.agent.log().contains("the configuration changed and is in force").then_some(())
    })
    .await;
    world.is_refused_for("other.gguf` does not exist").await;
    world.put("other.gguf");
    world.is_served_locally().await;
}

#[tokio::test]
async fn check_warns_of_what_may_come_back_and_refuses_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcplocal.yaml");
    let check = |more: &str| {
        let config = format!("server: https://mcpd.example.com\n{}{more}", managed(dir.path(), "model.gguf"));
        fs::write(&path, config).unwrap();
        let mut agent = std::process::Command::new(program("mcplocal"));
        let output = agent.arg("--check").arg("--config").arg(&path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check("");
    assert_eq!(code, Some(0), "{said}");
    let place = format!("warning: {}:3:1: provider `desk`: `", path.display());
    assert!(said.starts_with(&place) && said.contains("\nhint: check the path in `command`"), "{said}");

    // What is wrong in the file is not hidden by what is missing beside it.
    let (code, said) = check("    extraArgs: [--host, 0.0.0.0]\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`--host` is decided by the agent"), "{said}");
}

#[tokio::test]
async fn journal_that_cannot_be_opened_denies_local_answers_and_nothing_else() {
    let mcpd = Mcpd::start().await;
    let mut provider = ModelServer::with_default(Reply::text("from the centre")).await;
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let config = format!(
        "server: {}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n",
        mcpd.url(),
        desk.base_url(),
    );
    let agent = Mcplocal::start(&config).await;
    let journal = agent.state_dir().join("journal.jsonl");
    let home = agent.kill();
    // A directory in its place, which no program's rights get around.
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let agent = Mcplocal::start_in(home, &config).await;
    let answer = agent.chat("claude", &alice, false).await;
    assert_eq!(answer.status(), StatusCode::OK, "the centre answers");

    provider.refuse().await;
    let answer = agent.chat("claude", &alice, false).await;
    assert_eq!(answer.headers()["mcpctl-no-failover"], "no_journal");
    assert!(desk.inferences().is_empty());
    assert!(agent.status().await["journal"].is_string());

    fs::remove_dir(&journal).unwrap();
    let answer = agent.chat("claude", &alice, false).await;
    assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
    assert_eq!(agent.status().await["journal"], Value::Null);
    assert!(!agent.journal().is_empty());
}
