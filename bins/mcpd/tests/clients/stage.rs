//! Where a client runs: a daemon, its Llm, and what answers in the end.

use std::{net::TcpListener, process::Stdio};

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::{ModelServer, RecordedRequest, Reply},
};
use serde_json::json;
use tokio::process::{Child, Command};

/// What the client is pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// The central daemon.
    Mcpd,
    /// The agent, whose primary is broken.
    Agent,
}

impl Daemon {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mcpd => "mcpd",
            Self::Agent => "mcplocal",
        }
    }
}

/// What answers: at mcpd the Llm's provider, at the agent the local provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// A scripted server of chat completions.
    OpenAi,
    /// A scripted server of messages.
    Anthropic,
    /// A real llama-server with a small model, by its chat completions.
    LlamaServer,
}

impl Upstream {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::LlamaServer => "llama-server",
        }
    }

    fn kind(self) -> &'static str {
        if self == Self::Anthropic { "anthropic" } else { "openai" }
    }
}

/// A deployment, and the server whose answers the client gets.
pub struct Stage {
    pub llm: &'static str,
    daemon: Daemon,
    pub deployment: Deployment,
    scripted: Option<ModelServer>,
    _engine: Option<Child>,
}

impl Stage {
    pub async fn new(llm: &'static str, daemon: Daemon, upstream: Upstream) -> Self {
        let scripted = match upstream {
            Upstream::LlamaServer => None,
            _ => Some(ModelServer::start().await),
        };
        let local = match &scripted {
            Some(server) => {
                format!("type: {}\n    url: {}\n    model: m", upstream.kind(), server.base_url())
            }
            None => format!(
                "type: llama-server-managed\n    command: {}\n    model: {}\n    contextLength: 4096\n    \
                 extraArgs: [{}]",
                path("MCPCTL_LLAMA_SERVER"),
                path("MCPCTL_GGUF"),
                EXTRA.join(", "),
            ),
        };
        let local = format!("  - name: desk\n    failoverFor: {llm}\n    {local}\n");
        let mut deployment = Deployment::builder().providers(&local).start().await;
        let mut engine = None;
        let url = match (daemon, &scripted) {
            (Daemon::Agent, _) => {
                deployment.provider.refuse().await;
                deployment.provider.base_url()
            }
            (Daemon::Mcpd, Some(server)) => server.base_url(),
            (Daemon::Mcpd, None) => {
                let (process, url) = llama_server().await;
                engine = Some(process);
                url
            }
        };
        let document = json!({ "kind": "Llm", "name": llm, "type": upstream.kind(), "url": url, "model": "upstream-model" });
        deployment.mcpd.apply(json!([document])).await;
        Self { llm, daemon, deployment, scripted, _engine: engine }
    }

    /// The daemon's address.
    pub fn url(&self) -> &str {
        match self.daemon {
            Daemon::Mcpd => self.deployment.mcpd.url(),
            Daemon::Agent => self.deployment.agent.url(),
        }
    }

    /// The caller's token.
    pub fn key(&self) -> &str {
        &self.deployment.alice
    }

    /// Replaces what the scripted server answers next.
    pub fn script(&self, replies: Vec<Reply>) {
        if let Some(server) = &self.scripted {
            server.replace_queue(replies);
        }
    }

    /// The requests for inference that the scripted server got.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.scripted.as_ref().map(ModelServer::inferences).unwrap_or_default()
    }
}

/// Answers of a small model are kept short, and the same in every run. More threads than cores would wait for each other.
const EXTRA: [&str; 6] = ["--predict", "\"64\"", "--temp", "\"0\"", "--threads", "\"1\""];

fn path(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: `cargo xtask test clients` fetches the engine"))
}

async fn llama_server() -> (Child, String) {
    // Free until the server binds it, as far as the kernel's choice of another port for every other socket goes.
    let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let process = Command::new(path("MCPCTL_LLAMA_SERVER"))
        .args(["-m", &path("MCPCTL_GGUF"), "--host", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["-c", "4096", "-np", "1", "--no-ui", "--offline"])
        .args(EXTRA.map(|word| word.trim_matches('"')))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let health = format!("http://{address}/health");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually("llama-server is ready", async || {
        client.get(&health).send().await.ok().filter(|answer| answer.status().is_success())
    })
    .await;
    (process, format!("http://{address}/v1"))
}
