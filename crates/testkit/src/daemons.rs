//! The real programs, started on free ports in temporary directories, ended when dropped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// A program of this workspace, which lies beside the folder of the tests.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    let found = here.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is not built: run `cargo build --bins` first, as `cargo xtask test` does")
    })
}

/// Waits until `condition` holds; fails the test where it does not in time.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    within(PATIENCE, what, condition).await
}

/// As [`eventually`], with a patience of one's own.
pub async fn within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < patience, "{what}: not within {} s", patience.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}

/// A running daemon.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log"))
            .stderr(file)
            .spawn()
            .expect("the daemon");
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What follows the last `text` in the log, once it is there.
    async fn says(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some((_, rest)) = log.rsplit_once(text) {
                return rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            let ended = self.child.try_wait().expect("the daemon");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "the daemon did not start:\n{log}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let _ = kill(Pid::from_raw(pid), signal);
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the daemon")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Asked first, so that an agent can end its engines.
            self.signal(Signal::SIGTERM);
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
                std::thread::park_timeout(LOOK);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// A limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFiles {
    /// What a process has until it asks for more.
    Soft(u32),
    /// The most that it can have.
    Hard(u32),
}

/// A command that starts a program, with a limit of open files of its own.
fn command(name: &str, open_files: Option<OpenFiles>) -> Command {
    let option = match open_files {
        None => return Command::new(program(name)),
        Some(OpenFiles::Soft(count)) => format!("-Sn {count}"),
        Some(OpenFiles::Hard(count)) => format!("-n {count}"),
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit {option} && exec \"$0\" \"$@\"")]).arg(program(name));
    command
}

/// How an `mcpd` is started.
#[derive(Debug, Clone, Default)]
pub struct McpdOptions {
    /// A PostgreSQL instead of SQLite.
    pub database_url: Option<String>,
    /// Inference at an address of its own.
    pub inference_listener: bool,
    /// The master key of another replica.
    pub master_key_file: Option<PathBuf>,
    /// Where to listen, instead of a free port of 127.0.0.1.
    pub listen: Option<&'static str>,
    /// The limit of open files, soft and hard, where it is not the one of this process.
    pub open_files: Option<OpenFiles>,
    /// Text of a configuration file (YAML), e.g. with tighter `limits`.
    pub config: Option<String>,
    /// Variables added to the environment.
    pub env: Vec<(&'static str, String)>,
    /// The data directory, where it is not one that ends with the daemon.
    pub data_dir: Option<PathBuf>,
}

fn data_dir(dir: &Path, options: &McpdOptions) -> PathBuf {
    options.data_dir.clone().unwrap_or_else(|| dir.join("data"))
}

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
    /// With SQLite, everything at one address.
    pub async fn start() -> Self {
        Self::start_with(McpdOptions::default()).await
    }

    /// As told.
    pub async fn start_with(options: McpdOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("mcpd-").tempdir().expect("a temporary directory");
        let listen = options.listen.unwrap_or("127.0.0.1:0");
        let daemon = Self::spawn(dir.path(), &options, listen, "127.0.0.1:0");
        let http = client();
        let mut mcpd = Self { daemon, dir, options, url: String::new(), inference_url: String::new(), http };
        mcpd.ready().await;
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
        if let Some(config) = &options.config {
            let path = dir.join("mcpd.yaml");
            std::fs::write(&path, config).expect("the configuration");
            command.arg("--config").arg(path);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        Daemon::start(&mut command, dir.join("log"))
    }

    async fn ready(&mut self) {
        self.url = format!("http://{}", self.daemon.says("mcpd is ready listen=").await);
        self.inference_url = if self.options.inference_listener {
            format!("http://{}", self.daemon.says("inference has an address of its own listen=").await)
        } else {
            self.url.clone()
        };
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its inference routes are.
    pub fn inference_url(&self) -> &str {
        &self.inference_url
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.dir.path(), &self.options)
    }

    /// What it wrote so far.
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

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.wait();
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.daemon.signal(Signal::SIGTERM);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait()
    }

    /// Starts it again after its end, at the same address with the same data.
    pub async fn restart(&mut self) {
        let address = |url: &str| url.trim_start_matches("http://").to_owned();
        let (listen, inference) = (address(&self.url), address(&self.inference_url));
        let _ = std::fs::remove_file(self.dir.path().join("log"));
        self.daemon = Self::spawn(self.dir.path(), &self.options, &listen, &inference);
        self.ready().await;
    }

    /// A request with a bearer.
    pub fn request(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(bearer)
    }

    /// GET.
    pub async fn get(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::GET, path, bearer).send().await.expect("an answer")
    }

    /// HEAD.
    pub async fn head(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::HEAD, path, bearer).send().await.expect("an answer")
    }

    /// POST.
    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Response {
        self.request(Method::POST, path, bearer).json(body).send().await.expect("an answer")
    }

    /// DELETE.
    pub async fn delete(&self, path: &str, bearer: &str) -> Response {
        self.request(Method::DELETE, path, bearer).send().await.expect("an answer")
    }

    /// Makes or changes documents as the administrator; fails the test where that is refused.
    pub async fn apply(&self, documents: Value) {
        let answer = self.post("/api/v1/apply", &self.admin(), &documents).await;
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// A user with a token; with `role`, bound to it by a binding `<name>-<role>`.
    pub async fn user(&self, name: &str, role: Option<&str>) -> String {
        let subject = json!({"kind": "User", "name": name});
        let mut documents = vec![subject.clone()];
        if let Some(role) = role {
            let binding = format!("{name}-{role}");
            documents
                .push(json!({"kind": "RoleBinding", "name": binding, "role": role, "subjects": [subject]}));
        }
        self.apply(Value::Array(documents)).await;
        let wanted = json!({"name": format!("{name}-token"), "subject": subject});
        let answer = self.post("/api/v1/tokens", &self.admin(), &wanted).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let issued: Value = answer.json().await.expect("the token");
        issued["token"].as_str().expect("the token").to_owned()
    }

    /// A user `name` with a role and a binding of its own that allow just these rules, and a token.
    pub async fn user_with_rules(&self, name: &str, rules: Value) -> String {
        let (role, subject) = (format!("{name}-role"), json!({"kind": "User", "name": name}));
        self.apply(json!([
            {"kind": "Role", "name": role, "rules": rules},
            {"kind": "RoleBinding", "name": format!("{name}-binding"), "role": role, "subjects": [subject]},
        ]))
        .await;
        self.user(name, None).await
    }

    /// An Llm whose provider is at `url`.
    pub async fn llm(&self, name: &str, url: &str) {
        let llm = json!({
            "kind": "Llm", "name": name, "type": "openai", "url": url, "model": "upstream-model",
            "timeouts": {"connect": "1s", "response": "2s", "answer": "5s", "firstToken": "2s", "idle": "2s"},
        });
        self.apply(json!([llm])).await;
    }
}

/// A running `mcplocal`, with the directories of a user of its own.
pub struct Mcplocal {
    daemon: Daemon,
    home: TempDir,
    url: String,
    http: reqwest::Client,
}

impl Mcplocal {
    /// Starts it with this configuration; `listen: 127.0.0.1:0` is added.
    pub async fn start(config: &str) -> Self {
        let home = tempfile::Builder::new().prefix("mcplocal-").tempdir().expect("a temporary directory");
        Self::start_in(home, config).await
    }

    /// As [`Mcplocal::start`], in the directories of an earlier one.
    pub async fn start_in(home: TempDir, config: &str) -> Self {
        Self::start_with(home, config, &[]).await
    }

    /// As [`Mcplocal::start_in`], with more variables in its environment.
    pub async fn start_with(home: TempDir, config: &str, more: &[(&str, &std::ffi::OsStr)]) -> Self {
        Self::spawn(home, config, more, None).await
    }

    /// As [`Mcplocal::start`], with a limit of open files of its own.
    pub async fn start_limited(config: &str, open_files: OpenFiles) -> Self {
        let home = tempfile::Builder::new().prefix("mcplocal-").tempdir().expect("a temporary directory");
        Self::spawn(home, config, &[], Some(open_files)).await
    }

    async fn spawn(
        home: TempDir,
        config: &str,
        more: &[(&str, &std::ffi::OsStr)],
        open_files: Option<OpenFiles>,
    ) -> Self {
        let path = home.path().join("mcplocal.yaml");
        std::fs::write(&path, format!("{config}\nlisten: 127.0.0.1:0\n")).expect("the configuration");
        let log = home.path().join("log");
        let _ = std::fs::remove_file(&log);
        let mut command = command("mcplocal", open_files);
        command.arg("--config").arg(&path).envs(homes(home.path())).envs(more.iter().copied());
        let mut daemon = Daemon::start(&mut command, log);
        let url = format!("http://{}", daemon.says("mcplocal is ready listen=").await);
        Self { daemon, home, url, http: client() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.child.id()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state/mcpctl/mcplocal")
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("mcplocal.yaml")
    }

    /// The variables that make `mcpctl` the same user.
    pub fn homes(&self) -> [(&'static str, PathBuf); 2] {
        homes(self.home.path())
    }

    /// The key that stands for this machine's user.
    pub fn local_key(&self) -> String {
        let path = self.state_dir().join("local-key");
        std::fs::read_to_string(path).expect("the local key").trim().to_owned()
    }

    /// Lets the local key stand for this user of an mcpd, as `mcpctl login` does.
    pub fn sign_in(&self, mcpd: &Mcpd, user: &str, token: &str) {
        let path = self.home.path().join("config/mcpctl/config.yaml");
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
        let server = mcpd.url();
        let config = format!(
            "currentContext: c\ncontexts:\n  - name: c\n    server: {server}/\n    user: {user}\n    token: {token}\n"
        );
        std::fs::write(&path, config).expect("the contexts");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("rights");
    }

    /// The entries of its journal.
    pub fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state_dir().join("journal.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the journal")).collect()
    }

    /// SIGKILL; answers the directories for another start.
    pub fn kill(mut self) -> TempDir {
        self.daemon.signal(Signal::SIGKILL);
        self.daemon.wait();
        let empty = tempfile::tempdir().expect("a temporary directory");
        std::mem::replace(&mut self.home, empty)
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.daemon.signal(Signal::SIGTERM);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait()
    }

    /// A request with a bearer.
    pub fn request(&self, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(bearer)
    }

    /// What it says of itself.
    pub async fn status(&self) -> Value {
        let answer = self.request(Method::GET, "/status", &self.local_key()).send().await.expect("an answer");
        answer.json().await.expect("the status")
    }

    /// Asks an Llm something short.
    pub async fn chat(&self, llm: &str, bearer: &str, stream: bool) -> Response {
        let body = json!({
            "model": llm, "stream": stream, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8,
        });
        let request = self.request(Method::POST, "/v1/chat/completions", bearer).json(&body);
        request.send().await.expect("an answer")
    }
}

fn homes(home: &Path) -> [(&'static str, PathBuf); 2] {
    [("XDG_CONFIG_HOME", home.join("config")), ("XDG_STATE_HOME", home.join("state"))]
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client")
}
