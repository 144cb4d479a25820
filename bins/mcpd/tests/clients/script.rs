//! A client's script as a process: the test names a scenario, and the script prints what it gave.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use mcpctl_testkit::{node, python};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::stage::Stage;

/// How long one scenario may take on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A client, and what its users do with it.
pub struct Client {
    name: &'static str,
    /// The package whose version the table shows.
    package: &'static str,
    /// Below `tests/clients`.
    script: &'static str,
    /// It does not read `ANTHROPIC_AUTH_TOKEN`, the one that `mcpctl local env` sets.
    reads_anthropic_key_only: bool,
    pub operations: &'static [&'static str],
}

pub const LANGCHAIN: Client = Client {
    name: "LangChain",
    package: "langchain-core",
    script: "python/with_langchain.py",
    reads_anthropic_key_only: true,
    operations: &[
        "chat plain",
        "chat streamed",
        "chat tools",
        "chat tools, streamed",
        "chat structured",
        "chat structured by a tool",
        "chat image",
        "chat unknown model",
        "responses plain",
        "responses streamed",
        "responses tools",
        "responses tools, streamed",
        "responses structured",
        "responses structured by a tool",
        "responses image",
        "responses unknown model",
        "messages plain",
        "messages streamed",
        "messages tools",
        "messages tools, streamed",
        "messages structured",
        "messages structured by a tool",
        "messages image",
        "messages reasoning",
        "messages reasoning, streamed",
        "messages count",
        "messages unknown model",
        "embeddings",
    ],
};

pub const LITELLM: Client = Client {
    name: "LiteLLM SDK",
    package: "litellm",
    script: "python/with_litellm.py",
    reads_anthropic_key_only: false,
    operations: &[
        "chat plain",
        "chat streamed",
        "chat tools",
        "chat tools, streamed",
        "chat structured",
        "chat image",
        "chat reasoning",
        "chat reasoning, streamed",
        "chat unknown model",
        "responses plain",
        "responses streamed",
        "responses tools",
        "responses tools, streamed",
        "messages plain",
        "messages streamed",
        "messages tools",
        "messages tools, streamed",
        "messages structured",
        "messages image",
        "messages reasoning",
        "messages reasoning, streamed",
        "messages unknown model",
        "embeddings",
        "models",
    ],
};

pub const LLM: Client = Client {
    name: "llm",
    package: "llm",
    script: "python/with_llm.py",
    reads_anthropic_key_only: false,
    operations: &[
        "chat plain",
        "chat streamed",
        "chat tools",
        "chat tools, streamed",
        "chat structured",
        "chat image",
        "responses plain",
        "responses streamed",
        "responses tools",
        "responses tools, streamed",
        "responses structured",
        "responses image",
        "models",
    ],
};

pub const VERCEL: Client = Client {
    name: "Vercel AI SDK",
    package: "ai",
    script: "ai/client.cjs",
    reads_anthropic_key_only: true,
    operations: &[
        "chat plain",
        "chat streamed",
        "chat tools",
        "chat tools, streamed",
        "chat structured",
        "chat structured, streamed",
        "chat image",
        "chat unknown model",
        "compatible plain",
        "compatible streamed",
        "compatible tools",
        "compatible tools, streamed",
        "compatible structured",
        "compatible structured, streamed",
        "compatible image",
        "compatible reasoning",
        "compatible reasoning, streamed",
        "compatible unknown model",
        "responses plain",
        "responses streamed",
        "responses tools",
        "responses tools, streamed",
        "responses structured",
        "responses structured, streamed",
        "responses image",
        "responses unknown model",
        "messages plain",
        "messages streamed",
        "messages tools",
        "messages tools, streamed",
        "messages structured",
        "messages structured, streamed",
        "messages image",
        "messages reasoning",
        "messages reasoning, streamed",
        "messages unknown model",
        "embeddings",
    ],
};

pub const AIDER: Client = Client {
    name: "aider",
    package: "aider-chat",
    script: "aider/with_aider.py",
    reads_anthropic_key_only: true,
    operations: &["chat edit", "chat edit, streamed", "messages edit", "messages edit, streamed"],
};

/// A file or folder below `tests/clients`.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

impl Client {
    /// Its name and its version.
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version())
    }

    fn is_python(&self) -> bool {
        self.script.ends_with(".py")
    }

    fn folder(&self) -> PathBuf {
        here(self.script).parent().unwrap().to_owned()
    }

    fn version(&self) -> String {
        if self.is_python() {
            let locked = std::fs::read_to_string(self.folder().join("requirements.txt")).unwrap();
            let version = |line: &str| Some(line.strip_prefix(self.package)?.strip_prefix("==")?.to_owned());
            return locked.lines().find_map(version).unwrap();
        }
        let package = std::fs::read_to_string(self.folder().join("package.json")).unwrap();
        let package: Value = serde_json::from_str(&package).unwrap();
        package["dependencies"][self.package].as_str().unwrap().to_owned()
    }

    async fn command(&self) -> Command {
        let (folder, is_python) = (self.folder(), self.is_python());
        let packages = tokio::task::spawn_blocking(move || {
            if is_python {
                python::packages(&folder.join("requirements.txt"))
            } else {
                node::packages(&folder)
            }
        });
        let packages = packages.await.unwrap();
        let (program, variable) = if is_python { ("python3", "PYTHONPATH") } else { ("node", "NODE_PATH") };
        let mut command = Command::new(program);
        command.arg(here(self.script)).env(variable, packages);
        command
    }
}

/// A running script.
pub struct Script {
    _process: Child,
    scenarios: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// Starts one with the variables that `mcpctl local env` prints, and no others of its providers'.
    pub async fn start(client: &Client, stage: &Stage) -> Self {
        let mut command = client.command().await;
        for name in ["ANTHROPIC_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "LANGSMITH_TRACING"] {
            command.env_remove(name);
        }
        if client.reads_anthropic_key_only {
            command.env("ANTHROPIC_API_KEY", stage.key());
        }
        let base = format!("{}/v1", stage.url());
        let mut process = command
            .env("LLM", stage.llm)
            .env("OPENAI_BASE_URL", &base)
            .env("OPENAI_API_BASE", &base)
            .env("OPENAI_API_KEY", stage.key())
            .env("ANTHROPIC_BASE_URL", stage.url())
            .env("ANTHROPIC_AUTH_TOKEN", stage.key())
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let scenarios = process.stdin.take().unwrap();
        let results = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, scenarios, results }
    }

    /// Runs a scenario: `got` with what it gave, or `error`.
    pub async fn run(&mut self, scenario: &str) -> Value {
        let line = format!("{scenario}\n");
        if self.scenarios.write_all(line.as_bytes()).await.is_err() {
            return json!({ "error": "the script has ended" });
        }
        match timeout(TIMEOUT, self.results.next_line()).await {
            Ok(Ok(Some(line))) => serde_json::from_str(&line).unwrap(),
            Ok(_) => json!({ "error": "the script ended" }),
            Err(_) => panic!("`{scenario}` takes more than {TIMEOUT:?}"),
        }
    }
}
