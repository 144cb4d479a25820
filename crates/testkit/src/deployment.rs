//! mcpd, mcplocal and the model servers behind both, connected as most tests need them. A test sets only what differs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemons::{Mcpd, McpdOptions, Mcplocal, McplocalOptions, closed_address, eventually, program},
    exchange::{self, Exchange},
    model_server::{ModelServer, Reply},
};

/// An mcpd with the Llm `claude`, a user `alice` who may run it, and an agent with local providers.
pub struct Deployment {
    /// The mcpd.
    pub mcpd: Mcpd,
    /// The model server behind `claude`; it answers "from the primary".
    pub provider: ModelServer,
    /// The model server behind the agent's provider `desk`, unless a test replaces that; it answers "from the desk".
    pub desk: ModelServer,
    /// The agent.
    pub agent: Mcplocal,
    /// A token of `alice`, who is bound to the role `llm-user` by the binding `alice-llm-user`.
    pub alice: String,
    models: TempDir,
}

/// How the agent reaches mcpd's inference routes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inference {
    /// At mcpd's only address.
    Same,
    /// At another address of mcpd's.
    Separate,
    /// Not at all: nothing listens where the agent sends requests, and the probe works.
    Unreachable,
    /// At this address, which is none of mcpd's.
    At(String),
}

/// What differs from a [`Deployment`] with defaults.
#[derive(Debug)]
pub struct Builder {
    mcpd: McpdOptions,
    options: McplocalOptions,
    inference: Inference,
    config: String,
    desk: Vec<String>,
    providers: Option<String>,
    engines: Vec<Engine>,
    signed_in: bool,
}

/// A managed provider that runs the fake engine of `crates/engine`.
#[derive(Debug)]
struct Engine {
    kind: &'static str,
    name: String,
    script: String,
    keys: Vec<String>,
}

impl Builder {
    /// Starts mcpd with these options.
    #[must_use]
    pub fn mcpd(mut self, options: McpdOptions) -> Self {
        self.mcpd = options;
        self
    }

    /// Starts the agent with these options.
    #[must_use]
    pub fn options(mut self, options: McplocalOptions) -> Self {
        self.options = options;
        self
    }

    /// Gives mcpd's inference routes another address, which the agent knows.
    #[must_use]
    pub fn separate_inference(mut self) -> Self {
        self.inference = Inference::Separate;
        self
    }

    /// Sends the agent's requests for inference to a closed address, while its probes reach mcpd.
    #[must_use]
    pub fn unreachable_inference(mut self) -> Self {
        self.inference = Inference::Unreachable;
        self
    }

    /// Sends the agent's requests for inference to this address, while its probes reach mcpd.
    #[must_use]
    pub fn inference_at(mut self, url: &str) -> Self {
        self.inference = Inference::At(url.to_owned());
        self
    }

    /// Adds lines to the top level of the agent's configuration.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config = format!("{lines}\n");
        self
    }

    /// Replaces the keys of the provider `desk` beside `url` and `model`, which are `failoverFor: claude`.
    #[must_use]
    pub fn desk(mut self, keys: &[&str]) -> Self {
        self.desk = owned(keys);
        self
    }

    /// Replaces the provider `desk` by other items of the list `providers` (YAML); none where `items` is empty.
    #[must_use]
    pub fn providers(mut self, items: &str) -> Self {
        self.providers = Some(items.to_owned());
        self
    }

    /// Replaces the provider `desk` by fake llama-servers, each with the script of its model file and with more keys.
    #[must_use]
    pub fn engine(self, name: &str, script: &str, keys: &[&str]) -> Self {
        self.engine_of("llama-server-managed", name, script, keys)
    }

    /// As [`Builder::engine`], as a fake vLLM.
    #[must_use]
    pub fn vllm_engine(self, name: &str, script: &str, keys: &[&str]) -> Self {
        self.engine_of("vllm-managed", name, script, keys)
    }

    fn engine_of(mut self, kind: &'static str, name: &str, script: &str, keys: &[&str]) -> Self {
        let (name, script, keys) = (name.to_owned(), script.to_owned(), owned(keys));
        self.engines.push(Engine { kind, name, script, keys });
        self
    }

    /// Signs `alice` in on the agent's machine, so that the local key stands for her.
    #[must_use]
    pub fn signed_in(mut self) -> Self {
        self.signed_in = true;
        self
    }

    /// Starts everything.
    pub async fn start(self) -> Deployment {
        let separate = self.inference == Inference::Separate;
        let mcpd = Mcpd::start_with(McpdOptions { inference_listener: separate, ..self.mcpd.clone() }).await;
        let provider = ModelServer::with_default(Reply::text("from the primary")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let models = tempfile::tempdir().expect("a temporary directory");
        let inference = match &self.inference {
            Inference::Same => String::new(),
            Inference::Separate => format!("inference: {}\n", mcpd.inference_url()),
            Inference::Unreachable => format!("inference: http://{}\n", closed_address()),
            Inference::At(url) => format!("inference: {url}\n"),
        };
        let providers = self.items(models.path(), &desk);
        let config = format!("server: {}\n{inference}{}providers:\n{providers}", mcpd.url(), self.config);
        let agent = Mcplocal::start_with(&config, self.options).await;
        if self.signed_in {
            agent.sign_in(&mcpd, "alice", &alice);
        }
        Deployment { mcpd, provider, desk, agent, alice, models }
    }

    /// The items of the list `providers`; writes the model files of the engines.
    fn items(&self, models: &Path, desk: &ModelServer) -> String {
        if let Some(items) = &self.providers {
            return items.clone();
        }
        if self.engines.is_empty() {
            return openai_item("desk", &desk.base_url(), &borrowed(&self.desk));
        }
        let item = |engine: &Engine| {
            let model = models.join(&engine.name);
            fs::write(&model, &engine.script).expect("a model file");
            engine_item(engine.kind, &engine.name, &model, &borrowed(&engine.keys))
        };
        self.engines.iter().map(item).collect()
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// An item of `providers` for a model server that runs already at `url`, with the model `m` and more keys.
pub fn openai_item(name: &str, url: &str, keys: &[&str]) -> String {
    item(&format!("name: {name}\ntype: openai\nurl: {url}\nmodel: m"), keys)
}

/// An item of `providers` that runs the fake engine of `crates/engine` with this model file and more keys.
pub fn engine_item(kind: &str, name: &str, model: &Path, keys: &[&str]) -> String {
    let (command, model) = (program("examples/fake_engine"), model.display());
    item(&format!("name: {name}\ntype: {kind}\ncommand: {}\nmodel: {model}", command.display()), keys)
}

fn item(lines: &str, keys: &[&str]) -> String {
    let lines = lines.lines().chain(keys.iter().copied());
    lines.enumerate().map(|(at, line)| format!("{}{line}\n", if at == 0 { "  - " } else { "    " })).collect()
}

impl Deployment {
    /// Starts one with the defaults: `desk` fails over for `claude`, and no user is signed in.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A deployment that differs in some points.
    pub fn builder() -> Builder {
        Builder {
            mcpd: McpdOptions::default(),
            options: McplocalOptions::default(),
            inference: Inference::Same,
            config: String::new(),
            desk: owned(&["failoverFor: claude"]),
            providers: None,
            engines: Vec::new(),
            signed_in: false,
        }
    }

    /// Sends a short chat to `claude` as `alice`.
    pub async fn chat(&self) -> Response {
        self.agent.chat("claude", &self.alice, false).await
    }

    /// As [`Deployment::chat`], streamed.
    pub async fn chat_streamed(&self) -> Response {
        self.agent.chat("claude", &self.alice, true).await
    }

    /// Sends a short chat to a local provider, with the local key.
    pub async fn chat_locally(&self, provider: &str) -> Response {
        self.agent.chat(&format!("local/{provider}"), &self.agent.local_key(), false).await
    }

    /// Sends a body of a chat as `alice`.
    pub async fn send(&self, body: &Value) -> Response {
        let request = self.agent.request(Method::POST, "/v1/chat/completions", &self.alice).json(body);
        request.send().await.expect("a response")
    }

    /// Lets the provider of `claude` answer 503 from now on.
    pub fn overload_provider(&self) {
        self.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    }

    /// Takes `alice`'s rights away.
    pub async fn revoke(&self) {
        let response = self.mcpd.delete("/api/v1/rolebindings/alice-llm-user", &self.mcpd.admin()).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    /// The number of probes that mcpd has answered.
    pub fn probes(&self) -> usize {
        self.mcpd.log().lines().filter(|line| line.contains("method=HEAD")).count()
    }

    /// The number of requests for inference that either model server received.
    pub fn inferences(&self) -> usize {
        self.provider.inferences().len() + self.desk.inferences().len()
    }

    /// The status of a managed provider's engine.
    pub async fn engine(&self, name: &str) -> Value {
        let status = self.agent.status().await;
        let providers = status["providers"].as_array().expect("the providers");
        let provider = providers.iter().find(|provider| provider["name"] == name).expect("the provider");
        provider["engine"].clone()
    }

    /// Waits until an engine is in a state.
    pub async fn engine_is(&self, name: &str, state: &str) {
        self.engine_shows(name, "state", state).await;
    }

    /// Waits until a field of an engine's status has a value.
    pub async fn engine_shows(&self, name: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        let what = format!("`{field}` of `{name}` is {value}");
        eventually(&what, async || (self.engine(name).await[field] == value).then_some(())).await;
    }

    /// Starts or stops an engine, as `mcpctl local` does.
    pub async fn control(&self, name: &str, action: &str) -> Response {
        let path = format!("/api/v1/engines/{name}/{action}");
        let request = self.agent.request(Method::POST, &path, &self.agent.local_key());
        request.send().await.expect("a response")
    }

    /// Starts an engine and waits until it is ready.
    pub async fn start_engine(&self, name: &str) {
        let response = self.control(name, "start").await;
        let (status, body) = (response.status(), response.text().await.unwrap_or_default());
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// How often a fake engine was started.
    pub fn starts(&self, name: &str) -> usize {
        let starts = fs::read_to_string(self.model_file(&format!("{name}.starts"))).unwrap_or_default();
        starts.lines().count()
    }

    /// Replaces the script of a fake engine, for its next start.
    pub fn set_script(&self, name: &str, script: &str) {
        fs::write(self.model_file(name), script).expect("a model file");
    }

    /// Holds a fake engine at a point of its script (`hold` or `busy`) from now on.
    pub fn hold_engine(&self, name: &str, point: &str) {
        File::create(self.model_file(&format!("{name}.{point}"))).expect("a file");
    }

    /// Undoes [`Deployment::hold_engine`].
    pub fn release_engine(&self, name: &str, point: &str) {
        fs::remove_file(self.model_file(&format!("{name}.{point}"))).expect("the engine is held");
    }

    fn model_file(&self, name: &str) -> PathBuf {
        self.models.path().join(name)
    }

    /// `127.0.0.1:PORT` of the agent.
    pub fn address(&self) -> &str {
        self.agent.url().trim_start_matches("http://")
    }

    /// The bytes of a request to the agent: `line` is the request line, and each of `headers` ends with CRLF.
    pub fn raw_request(&self, line: &str, headers: &str, body: &str) -> String {
        format!("{line}\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n{body}", self.address())
    }

    /// Sends bytes to the agent on a new connection, and waits for one response, however slow the agent is.
    pub async fn send_raw_and_wait(&self, request: impl AsRef<[u8]>) -> Exchange {
        exchange::send_and_wait(self.agent.url(), request, 1).await
    }

    /// Sends bytes to the agent on a new connection, and reads until the agent closes it or is silent.
    pub async fn send_raw(&self, request: impl AsRef<[u8]>) -> Exchange {
        exchange::send(self.agent.url(), request).await
    }
}
