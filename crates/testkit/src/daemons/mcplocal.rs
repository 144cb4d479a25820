//! A running `mcplocal`, with the directories of a user of its own.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use nix::sys::signal::Signal;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    mcpd::Mcpd,
    process::{Daemon, OpenFiles, command, eventually, http_client},
};

/// A log message of the agent's, when it uses a changed configuration.
const RELOADED: &str = "the configuration changed and is in force";

/// How an `mcplocal` is started.
#[derive(Debug, Clone, Default)]
pub struct McplocalOptions {
    /// Variables added to the environment.
    pub env: Vec<(&'static str, OsString)>,
    /// The limit of open files, instead of the test's own.
    pub open_files: Option<OpenFiles>,
}

/// A running `mcplocal`.
pub struct Mcplocal {
    daemon: Daemon,
    home: TempDir,
    options: McplocalOptions,
    url: String,
    http: reqwest::Client,
}

impl Mcplocal {
    /// Starts it with this configuration, to which `listen: 127.0.0.1:0` is added.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, McplocalOptions::default()).await
    }

    /// As [`Mcplocal::start`], with options.
    pub async fn start_with(config: &str, options: McplocalOptions) -> Self {
        let home = tempfile::Builder::new().prefix("mcplocal-").tempdir().expect("a temporary directory");
        let text = format!("{config}\nlisten: 127.0.0.1:0\n");
        fs::write(config_file(home.path()), text).expect("the configuration");
        let daemon = Self::spawn(home.path(), &options);
        let mut agent = Self { daemon, home, options, url: String::new(), http: http_client() };
        agent.wait_until_ready().await;
        agent
    }

    fn spawn(home: &Path, options: &McplocalOptions) -> Daemon {
        let log = home.join("log");
        let _ = fs::remove_file(&log);
        let mut command = command("mcplocal", options.open_files);
        command.arg("--config").arg(config_file(home)).envs(homes(home));
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        Daemon::start(&mut command, log)
    }

    async fn wait_until_ready(&mut self) {
        self.url = format!("http://{}", self.daemon.logged_after("mcplocal is ready listen=").await);
    }

    /// Starts it again after it has ended, in the same directories, with the configuration that is there by now. Its
    /// address and its log are new.
    pub async fn restart(&mut self) {
        self.daemon = Self::spawn(self.home.path(), &self.options);
        self.wait_until_ready().await;
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state/mcpctl/mcplocal")
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        config_file(self.home.path())
    }

    /// Rewrites its configuration file, and does not wait for the agent to notice.
    pub fn change_config(&self, change: impl FnOnce(&str) -> String) {
        let config = fs::read_to_string(self.config_file()).expect("the configuration");
        fs::write(self.config_file(), change(&config)).expect("the configuration");
    }

    /// Rewrites its configuration file, and waits until the agent uses it.
    pub async fn reload(&self, change: impl FnOnce(&str) -> String) {
        let reloads = || self.log().matches(RELOADED).count();
        let before = reloads();
        self.change_config(change);
        eventually("the agent uses the changed configuration", async || (reloads() > before).then_some(()))
            .await;
    }

    /// The variables that make `mcpctl` use the same directories.
    pub fn homes(&self) -> [(&'static str, PathBuf); 2] {
        homes(self.home.path())
    }

    /// The key that stands for this machine's user.
    pub fn local_key(&self) -> String {
        let path = self.state_dir().join("local-key");
        fs::read_to_string(path).expect("the local key").trim().to_owned()
    }

    /// Signs a user of an mcpd in, as `mcpctl login` does, so that the local key stands for that user.
    pub fn sign_in(&self, mcpd: &Mcpd, user: &str, token: &str) {
        let path = self.home.path().join("config/mcpctl/config.yaml");
        fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
        let server = mcpd.url();
        let config = format!(
            "currentContext: c\ncontexts:\n  - name: c\n    server: {server}/\n    user: {user}\n    \
             account: {{kind: User, name: {user}}}\n    token: {token}\n"
        );
        fs::write(&path, config).expect("the contexts");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    }

    /// The path of its journal.
    pub fn journal_file(&self) -> PathBuf {
        self.state_dir().join("journal.jsonl")
    }

    /// The entries of its journal; without a last line that is still being written.
    pub fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.journal_file()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of the journal")).collect()
    }

    /// Kills it and waits until it has ended.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.wait();
    }

    /// Sends SIGTERM and waits until it has ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        self.daemon.signal(Signal::SIGTERM);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait()
    }

    /// A request with a bearer, not yet sent.
    pub fn request(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.request_without_bearer(method, path).bearer_auth(bearer)
    }

    /// A request without a credential, not yet sent.
    pub fn request_without_bearer(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Its status document.
    pub async fn status(&self) -> Value {
        let request = self.request(Method::GET, "/status", &self.local_key());
        request.send().await.expect("a response").json().await.expect("the status")
    }

    /// Sends a short chat to an Llm or to `local/PROVIDER`.
    pub async fn chat(&self, llm: &str, bearer: &str, stream: bool) -> Response {
        let body = json!({
            "model": llm, "stream": stream, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8,
        });
        let request = self.request(Method::POST, "/v1/chat/completions", bearer).json(&body);
        request.send().await.expect("a response")
    }
}

fn config_file(home: &Path) -> PathBuf {
    home.join("mcplocal.yaml")
}

fn homes(home: &Path) -> [(&'static str, PathBuf); 2] {
    [("XDG_CONFIG_HOME", home.join("config")), ("XDG_STATE_HOME", home.join("state"))]
}
