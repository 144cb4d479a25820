//! The Codex command line, which speaks the Responses API only, over providers of other APIs.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
};

use mcpctl_testkit::{
    client_table::{Cells, Outcome},
    model_server::Reply,
    node,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    script::here,
    stage::{Daemon, Stage, Upstream},
};

/// A model that Codex knows, so that it offers its free text tool for patches and its search for tools.
const MODEL: &str = "gpt-5.5";

const PATCH: &str = "*** Begin Patch\n*** Add File: hello.txt\n+hello world\n*** End Patch\n";

struct Codex {
    home: TempDir,
    stage: Stage,
}

impl Codex {
    async fn new(daemon: Daemon, upstream: Upstream) -> Self {
        let stage = Stage::new(MODEL, daemon, upstream).await;
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        let config = format!(
            "model = \"{MODEL}\"\nmodel_provider = \"mcpctl\"\n[model_providers.mcpctl]\nname = \"mcpctl\"\n\
             base_url = \"{}/v1\"\nwire_api = \"responses\"\nrequest_max_retries = 0\nstream_max_retries = 0\n\
             [model_providers.mcpctl.auth]\ncommand = \"printenv\"\nargs = [\"MCPCTL_TOKEN\"]\n",
            stage.url()
        );
        fs::write(home.path().join("config.toml"), config).unwrap();
        Self { home, stage }
    }

    fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    async fn run(&self, replies: Vec<Reply>) -> Output {
        self.stage.script(replies);
        let modules = tokio::task::spawn_blocking(|| node::packages(&here("codex")));
        // Its own sandbox needs rights that CI does not give; the prompts here are ours.
        Command::new(modules.await.unwrap().join(".bin/codex"))
            .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "Do it"])
            .current_dir(self.work())
            .env("CODEX_HOME", self.home.path())
            .env("MCPCTL_TOKEN", self.stage.key())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }

    async fn runs_commands_and_applies_patches(&self) -> Outcome {
        let calls = Reply::tool_calls(&[
            ("exec_command", &json!({"cmd": "echo from-the-shell"}).to_string()),
            ("apply_patch", &json!({"input": PATCH}).to_string()),
        ]);
        let output = self.run(vec![calls, Reply::text("All of it is done.")]).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() || out.trim() != "All of it is done." {
            return Outcome::Fail(format!("{out}\n{err}"));
        }
        if err.contains(" ERROR ") {
            return Outcome::Fail(format!("it logs an error: {err}"));
        }
        if fs::read_to_string(self.work().join("hello.txt")).ok().as_deref() != Some("hello world\n") {
            return Outcome::Fail(format!("the patch is not applied: {err}"));
        }
        let requests: Vec<Value> = self.stage.requests().iter().map(|request| request.json()).collect();
        let [first, second] = requests.as_slice() else {
            return Outcome::Fail(format!("{} requests", requests.len()));
        };
        let offered = tools(first);
        let expected = ["exec_command", "apply_patch", "tool_search"];
        if let Some(tool) = expected.iter().find(|tool| !offered.contains(tool)) {
            return Outcome::Fail(format!("`{tool}` is not among {offered:?}"));
        }
        let turns = second["messages"].to_string();
        match ["from-the-shell", "hello.txt"].iter().find(|result| !turns.contains(*result)) {
            Some(result) => Outcome::Fail(format!("`{result}` is not among {turns}")),
            None => Outcome::Pass,
        }
    }

    /// `word` is in what Codex shows, and `instead` is not: its own words for a cause that it does not know.
    async fn shows(&self, reply: Reply, word: &str, instead: &str) -> Outcome {
        let output = self.run(vec![reply]).await;
        let shown = text(&output.stderr);
        let is_shown = !output.status.success() && shown.contains(word) && !shown.contains(instead);
        if is_shown { Outcome::Pass } else { Outcome::Fail(shown) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names of the offered tools, in either API's form.
fn tools(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().unwrap().iter();
    tools.filter_map(|tool| tool["name"].as_str().or(tool["function"]["name"].as_str())).collect()
}

async fn check(daemon: Daemon, upstream: Upstream) {
    let codex = Codex::new(daemon, upstream).await;
    let package: Value =
        serde_json::from_str(&fs::read_to_string(here("codex/package.json")).unwrap()).unwrap();
    let version = package["dependencies"]["@openai/codex"].as_str().unwrap();
    let mut cells = Cells::new(&format!("Codex {version}"), daemon.name(), upstream.name());
    cells.add("responses commands and patches", codex.runs_commands_and_applies_patches().await);
    let cut = Reply::text("This is the beginning of an answer.").cut_after(3);
    cells.add(
        "responses broken stream",
        codex.shows(cut, "stream", "stream closed before response.completed").await,
    );
    // The agent answers with the primary's own error where its local provider fails too.
    let (word, instead) = match daemon {
        Daemon::Mcpd => ("context", "unexpected status"),
        Daemon::Agent => ("the provider cannot be reached", "context window"),
    };
    cells.add("responses too long a prompt", codex.shows(Reply::context_length(), word, instead).await);
    cells.finish();
}

#[tokio::test]
#[ignore = "packages of clients: cargo xtask test clients"]
async fn mcpd_over_openai() {
    check(Daemon::Mcpd, Upstream::OpenAi).await;
}

#[tokio::test]
#[ignore = "packages of clients: cargo xtask test clients"]
async fn mcpd_over_anthropic() {
    check(Daemon::Mcpd, Upstream::Anthropic).await;
}

#[tokio::test]
#[ignore = "packages of clients: cargo xtask test clients"]
async fn agent_falls_back_to_openai() {
    check(Daemon::Agent, Upstream::OpenAi).await;
}

#[tokio::test]
#[ignore = "packages of clients: cargo xtask test clients"]
async fn agent_falls_back_to_anthropic() {
    check(Daemon::Agent, Upstream::Anthropic).await;
}
