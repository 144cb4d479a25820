//! A running `mcpd`, and what a test arranges in it as the administrator.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
};

use nix::sys::signal::Signal;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Daemon, OpenFiles, command, http_client, http_client_builder};
use crate::authority::{Authority, Issued};

/// How an `mcpd` is started; the default is SQLite, with everything at one address.
#[derive(Debug, Clone, Default)]
pub struct McpdOptions {
    /// The URL of a PostgreSQL database, instead of SQLite.
    pub database_url: Option<String>,
    /// Whether the inference routes have another address than the rest.
    pub inference_listener: bool,
    /// The master key file of another replica.
    pub master_key_file: Option<PathBuf>,
    /// The address to listen on, instead of a free port of 127.0.0.1.
    pub listen: Option<&'static str>,
    /// The limit of open files, instead of the test's own.
    pub open_files: Option<OpenFiles>,
    /// The text of a configuration file (YAML), e.g. with tighter `limits`.
    pub config: Option<String>,
    /// Variables added to the environment.
    pub env: Vec<(&'static str, String)>,
    /// The data directory, instead of a temporary one.
    pub data_dir: Option<PathBuf>,
    /// TLS, instead of plain HTTP.
    pub tls: Option<McpdTls>,
}

/// How an `mcpd` serves TLS, and how the test reaches it.
#[derive(Debug, Clone)]
pub struct McpdTls {
    /// Its certificate.
    pub issued: Issued,
    /// The authority of that, in PEM.
    pub authority: String,
    /// The authority of which clients have to present a certificate, and the test's own one.
    pub clients: Option<(PathBuf, Issued)>,
}

impl McpdTls {
    /// With a certificate of this authority for loopback names.
    pub fn of(authority: &Authority) -> Self {
        let issued = authority.issue("mcpd", &["127.0.0.1", "localhost"]);
        Self { issued, authority: authority.pem(), clients: None }
    }

    /// A client that trusts the authority and no other; it prefers HTTP/2.
    pub fn http_client(&self) -> reqwest::Client {
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).expect("a certificate");
        let mut builder = http_client_builder().tls_certs_only([authority]);
        if let Some((_, own)) = &self.clients {
            let identity = reqwest::Identity::from_pem(own.pem().as_bytes()).expect("an identity");
            builder = builder.identity(identity);
        }
        builder.build().expect("a client")
    }
}

/// Lines of the configuration with which an account may write more than a test can.
pub const UNBOUNDED_WRITES: &str =
    "limits: {writes: {perSecond: 100000, burst: 1000000, inProgress: 1000}}\n";

/// A running `mcpd`.
pub struct Mcpd {
    daemon: Daemon,
    dir: TempDir,
    options: McpdOptions,
    url: String,
    inference_url: String,
    http: reqwest::Client,
}

impl Mcpd {
    /// Starts it with the default options.
    pub async fn start() -> Self {
        Self::start_with(McpdOptions::default()).await
    }

    /// Starts it and waits until it is ready.
    pub async fn start_with(options: McpdOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("mcpd-").tempdir().expect("a temporary directory");
        let listen = options.listen.unwrap_or("127.0.0.1:0");
        let daemon = Self::spawn(dir.path(), &options, listen, "127.0.0.1:0");
        let http = options.tls.as_ref().map_or_else(http_client, McpdTls::http_client);
        let mut mcpd = Self { daemon, dir, options, url: String::new(), inference_url: String::new(), http };
        mcpd.wait_until_ready().await;
        mcpd
    }

    fn spawn(dir: &Path, options: &McpdOptions, listen: &str, inference: &str) -> Daemon {
        let mut command = command("mcpd", options.open_files);
        command.args(["serve", "--listen", listen, "--data-dir"]).arg(data_dir(dir, options));
        if options.inference_listener {
            command.args(["--inference-listen", inference]);
        }
        if let Some(url) = &options.database_url {
            command.args(["--database-url", url]);
        }
        if let Some(file) = &options.master_key_file {
            command.arg("--master-key-file").arg(file);
        }
        if let Some(McpdTls { issued, clients, .. }) = &options.tls {
            command.arg("--tls-certificate").arg(&issued.certificate).arg("--tls-key").arg(&issued.key);
            if let Some((ca, _)) = clients {
                command.arg("--tls-client-ca").arg(ca);
            }
        }
        if let Some(config) = &options.config {
            let path = dir.join("mcpd.yaml");
            std::fs::write(&path, config).expect("the configuration");
            command.arg("--config").arg(path);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        Daemon::start(&mut command, dir.join("log"))
    }

    async fn wait_until_ready(&mut self) {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        self.url = format!("{scheme}://{}", self.daemon.logged_after("mcpd is ready listen=").await);
        self.inference_url = if self.options.inference_listener {
            let listen = self.daemon.logged_after("inference has an address of its own listen=").await;
            format!("{scheme}://{listen}")
        } else {
            self.url.clone()
        };
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base URL of its inference routes.
    pub fn inference_url(&self) -> &str {
        &self.inference_url
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.dir.path(), &self.options)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.child.id()
    }

    /// The bootstrap token of the user `admin`.
    pub fn admin(&self) -> String {
        let path = self.data_dir().join("bootstrap-token");
        std::fs::read_to_string(path).expect("the bootstrap token").trim().to_owned()
    }

    /// Kills it and waits until it has ended.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.wait();
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        self.daemon.signal(Signal::SIGTERM);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait()
    }

    /// Kills it, and starts it with another configuration file on the same data.
    pub async fn restart_with(&mut self, config: &str) {
        self.kill();
        self.options.config = Some(config.to_owned());
        self.restart().await;
    }

    /// Starts it again after it has ended, at the same address with the same data.
    pub async fn restart(&mut self) {
        let address = |url: &str| url.split_once("://").expect("a url").1.to_owned();
        let (listen, inference) = (address(&self.url), address(&self.inference_url));
        let _ = std::fs::remove_file(self.dir.path().join("log"));
        self.daemon = Self::spawn(self.dir.path(), &self.options, &listen, &inference);
        self.wait_until_ready().await;
    }

    /// A request with a bearer, not yet sent.
    pub fn request(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(bearer)
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::GET, path, bearer).send().await.expect("a response")
    }

    /// Sends a HEAD.
    pub async fn head(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::HEAD, path, bearer).send().await.expect("a response")
    }

    /// Sends a POST with a JSON body.
    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Response {
        self.request(Method::POST, path, bearer).json(body).send().await.expect("a response")
    }

    /// Sends a DELETE.
    pub async fn delete(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::DELETE, path, bearer).send().await.expect("a response")
    }

    /// Applies documents as the administrator; fails the test where mcpd rejects them. No provider is asked about keys, so that a
    /// model server sees only what the test is about.
    pub async fn apply(&self, documents: Value) {
        let answer = self.post("/api/v1/apply?skipCheck=true", &self.admin(), &documents).await;
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Creates a user, with a binding `<name>-<role>` to `role` where one is given, and returns a token.
    pub async fn user(&self, name: &str, role: Option<&str>) -> String {
        let subject = json!({"kind": "User", "name": name});
        let mut documents = vec![subject.clone()];
        if let Some(role) = role {
            let binding = format!("{name}-{role}");
            documents
                .push(json!({"kind": "RoleBinding", "name": binding, "role": role, "subjects": [subject]}));
        }
        self.apply(Value::Array(documents)).await;
        let token = json!({"name": format!("{name}-token"), "subject": subject});
        let answer = self.post("/api/v1/tokens", &self.admin(), &token).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let issued: Value = answer.json().await.expect("the token");
        issued["token"].as_str().expect("the token").to_owned()
    }

    /// Creates a user who has just these rules, by a role and a binding of its own, and returns a token.
    pub async fn user_with_rules(&self, name: &str, rules: Value) -> String {
        let (role, subject) = (format!("{name}-role"), json!({"kind": "User", "name": name}));
        self.apply(json!([
            {"kind": "Role", "name": role, "rules": rules},
            {"kind": "RoleBinding", "name": format!("{name}-binding"), "role": role, "subjects": [subject]},
        ]))
        .await;
        self.user(name, None).await
    }

    /// Applies an Llm whose provider is at `url`.
    pub async fn llm(&self, name: &str, url: &str) {
        let llm = json!({
            "kind": "Llm", "name": name, "type": "openai", "url": url, "model": "upstream-model",
            "timeouts": {"connect": "1s", "response": "2s", "answer": "5s", "firstToken": "2s", "idle": "2s"},
        });
        self.apply(json!([llm])).await;
    }

    /// As [`Mcpd::llm`], with the default timeouts: for tests in which nothing may time out, however slow the machine is.
    pub async fn llm_with_default_timeouts(&self, name: &str, url: &str) {
        let llm =
            json!({"kind": "Llm", "name": name, "type": "openai", "url": url, "model": "upstream-model"});
        self.apply(json!([llm])).await;
    }
}

fn data_dir(dir: &Path, options: &McpdOptions) -> PathBuf {
    options.data_dir.clone().unwrap_or_else(|| dir.join("data"))
}
