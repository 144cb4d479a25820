//! An installation with some of everything that a store holds, and the commands that keep it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES, program},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A running mcpd with a provider that wants the key of a secret, and alice, who has used it.
pub struct Installation {
    pub mcpd: Mcpd,
    pub alice: String,
    provider: ModelServer,
}

/// The options of a daemon on this database.
pub fn options(database_url: Option<&str>) -> McpdOptions {
    McpdOptions {
        config: Some(format!("{UNBOUNDED_WRITES}upstreamAddresses: {{loopback: true}}\n")),
        database_url: database_url.map(str::to_owned),
        ..McpdOptions::default()
    }
}

impl Installation {
    pub async fn start(database_url: Option<&str>) -> Self {
        let provider = ModelServer::with_default(Reply::text("Hi")).await;
        provider.require_key("sk-of-the-secret");
        let mcpd = Mcpd::start_with(options(database_url)).await;
        mcpd.apply(json!([
            {"kind": "Secret", "name": "openai", "data": {"token": "sk-of-the-secret"}},
            {"kind": "Llm", "name": "gpt", "type": "openai", "url": provider.base_url(), "model": "m",
             "apiKey": {"secret": "openai", "key": "token"}, "labels": {"team": "a"},
             "annotations": {"example.com/runbook": "first line\nsecond: ü"}},
            {"kind": "Group", "name": "team", "annotations": {"owner": "alice"}},
            {"kind": "Limit", "name": "all", "per": "subject", "requests": {"max": 1000, "window": "1h"}},
        ]))
        .await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let installation = Self { mcpd, alice, provider };
        assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
        installation
    }

    /// A request of alice, which takes her token, her rights, the secret and the counter of the limit.
    pub async fn chat(&self, mcpd: &Mcpd) -> StatusCode {
        let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]});
        let asked = self.provider.inferences().len();
        let status = mcpd.post("/v1/chat/completions", &self.alice, &body).await.status();
        if status == StatusCode::OK {
            assert_eq!(self.provider.inferences().len(), asked + 1);
        }
        status
    }

    /// Stops the daemon as its service manager does.
    pub fn stop(&mut self) {
        self.mcpd.terminate();
        assert!(self.mcpd.wait().success());
    }

    pub fn key_file(&self) -> PathBuf {
        self.mcpd.data_dir().join("master-key")
    }
}

/// What all lists of an mcpd show, without the tokens of its tests.
pub async fn resources(mcpd: &Mcpd, token: &str) -> Value {
    let mut all = json!({});
    for kind in ["llms", "secrets", "users", "groups", "roles", "rolebindings", "tokens", "limits"] {
        let list = mcpd.request(Method::GET, &format!("/api/v1/{kind}"), token).send().await.unwrap();
        assert_eq!(list.status(), StatusCode::OK, "{kind}");
        all[kind] = list.json::<Value>().await.unwrap()["items"].take();
        assert!(
            kind != "llms" || all[kind][0]["annotations"]["example.com/runbook"] == "first line\nsecond: ü"
        );
        for item in all[kind].as_array_mut().unwrap() {
            // It changes with every use.
            item.as_object_mut().unwrap().remove("lastUsedAt");
        }
    }
    all
}

/// Runs a command of mcpd on an installation.
pub fn command(words: &[&str], data_dir: &Path, database_url: Option<&str>) -> Command {
    let mut command = Command::new(program("mcpd"));
    command.args(words).arg("--data-dir").arg(data_dir);
    if let Some(url) = database_url {
        command.args(["--database-url", url]);
    }
    command
}

/// Runs a command, which has to succeed, and returns its output.
pub fn done(words: &[&str], data_dir: &Path, database_url: Option<&str>) -> String {
    let (success, output) = run(command(words, data_dir, database_url));
    assert!(success, "{words:?}: {output}");
    output
}

/// Runs a command, which has to fail, and returns its output.
pub fn refused(words: &[&str], data_dir: &Path, database_url: Option<&str>) -> String {
    let (success, output) = run(command(words, data_dir, database_url));
    assert!(!success, "{words:?}: {output}");
    output
}

fn run(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// The names of the files in a directory, except those that are made by a running mcpd or SQLite.
pub fn files(dir: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm") && !name.ends_with("-owner"))
        .collect();
    names.sort();
    names
}
