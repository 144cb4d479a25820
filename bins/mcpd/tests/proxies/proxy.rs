//! A proxy with its example of the document, in front of some replicas.

use std::{
    env,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mcpctl_testkit::{authority::Authority, daemons::Mcpd};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use super::document::Example;

const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The name of the examples.
pub const HOST: &str = "mcpd.example.com";

/// The proxies that the document has examples of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Caddy];

    /// Those that this machine has; prints which it has not.
    pub fn installed() -> Vec<Self> {
        let (found, missing): (Vec<_>, Vec<_>) =
            Self::ALL.into_iter().partition(|kind| kind.program().is_some());
        for kind in missing {
            eprintln!("skipped: {} is not installed", kind.name());
        }
        found
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Debian has servers where only root's `PATH` leads.
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        folders.map(|folder| folder.join(self.name())).find(|program| program.is_file())
    }
}

/// A running proxy, ended when dropped.
pub struct Proxy {
    pub kind: Kind,
    child: Child,
    address: SocketAddr,
    authority: Authority,
    /// Its configuration and its files, as long as it runs.
    dir: TempDir,
}

impl Proxy {
    /// Starts one in front of replicas that speak plain HTTP, and waits until it reaches them.
    pub async fn start(kind: Kind, replicas: &[&Mcpd]) -> Self {
        let mut proxy = Self::spawn(kind, replicas, None);
        proxy.answers_with(StatusCode::is_success).await;
        proxy
    }

    /// Starts one that verifies its replicas by this authority; does not wait.
    pub fn spawn_over_tls(kind: Kind, replicas: &[&Mcpd], authority: &Authority) -> Self {
        Self::spawn(kind, replicas, Some(authority))
    }

    fn spawn(kind: Kind, replicas: &[&Mcpd], upstream: Option<&Authority>) -> Self {
        let dir = tempfile::Builder::new().prefix("proxy-").tempdir().expect("a temporary directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let authority = Authority::new();
        let issued = authority.issue("proxy", &[HOST]);
        let files = Files {
            certificate: issued.certificate.display().to_string(),
            key: issued.key.display().to_string(),
            both: dir.path().join("both.pem").display().to_string(),
            ca: upstream.map(|authority| authority.ca_file().display().to_string()),
        };
        fs::write(&files.both, issued.pem()).expect("a file");
        let replicas: Vec<String> =
            replicas.iter().map(|mcpd| mcpd.url().split_once("://").expect("a URL").1.to_owned()).collect();
        let text = match kind {
            Kind::Nginx => nginx(&address, &replicas, &files, &dir.path().display().to_string()),
            Kind::Haproxy => haproxy(&address, &replicas, &files),
            Kind::Caddy => caddy(&address, &replicas, &files),
        };
        let config = dir.path().join("config");
        fs::write(&config, text).expect("the configuration");
        let child = spawn(kind, &dir);
        Self { kind, child, address, authority, dir }
    }

    /// Waits until it answers mcpd's health check with such a status.
    pub async fn answers_with(&mut self, expected: impl Fn(&StatusCode) -> bool) {
        let http = self.client();
        let url = format!("{}/readyz", self.url());
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("the proxy");
            assert!(ended.is_none(), "{:?} ended:\n{}", self.kind, self.log());
            let answer = http.get(&url).send().await.map(|answer| answer.status());
            if answer.as_ref().is_ok_and(&expected) {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "{:?}: {answer:?}", self.kind);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}", self.address.port())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A client that trusts the proxy's authority alone, and prefers HTTP/2.
    pub fn client(&self) -> Client {
        self.client_builder().build().expect("a client")
    }

    /// A client of HTTP/1.1.
    pub fn first_client(&self) -> Client {
        self.client_builder().http1_only().build().expect("a client")
    }

    /// A client whose connections come from another address of this machine.
    pub fn client_from(&self, address: [u8; 4]) -> Client {
        self.client_builder().local_address(IpAddr::from(address)).build().expect("a client")
    }

    fn client_builder(&self) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_pem(self.authority.pem().as_bytes()).expect("a certificate");
        Client::builder().no_proxy().tls_certs_only([root]).resolve(HOST, self.address)
    }

    /// A request, not yet sent.
    pub fn request(&self, http: &Client, method: Method, path: &str, bearer: &str) -> RequestBuilder {
        http.request(method, format!("{}{path}", self.url())).bearer_auth(bearer)
    }

    /// Sends a chat.
    pub async fn chat(&self, http: &Client, bearer: &str, body: Value) -> Response {
        let request = self.request(http, Method::POST, "/v1/chat/completions", bearer).json(&body);
        request.send().await.unwrap_or_else(|error| panic!("{:?}: {error:?}\n{}", self.kind, self.log()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // At once: none of them waits for its connections.
            let signal = if self.kind == Kind::Caddy { Signal::SIGKILL } else { Signal::SIGTERM };
            let _ = kill(Pid::from_raw(pid), signal);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {:?}\n{}", self.kind, self.log());
        }
    }
}

/// The files that the examples name.
struct Files {
    certificate: String,
    key: String,
    both: String,
    /// The authority of the replicas, where these speak TLS.
    ca: Option<String>,
}

fn lines(replicas: &[String], line: impl Fn(usize, &String) -> String) -> Vec<String> {
    replicas.iter().enumerate().map(|(at, replica)| line(at, replica)).collect()
}

fn nginx(address: &SocketAddr, replicas: &[String], files: &Files, dir: &str) -> String {
    let mut example = Example::new("nginx", 0)
        .with_line("server 127.0.0.1:3100;", &lines(replicas, |_, replica| format!("server {replica};")))
        .with("listen 443 ssl", &format!("listen {address} ssl"))
        .with("/etc/ssl/mcpd.pem", &files.certificate)
        .with("/etc/ssl/mcpd-key.pem", &files.key);
    if let Some(ca) = &files.ca {
        let hop = Example::new("nginx", 1).with("/etc/ssl/ca.pem", ca);
        example = example.with_line("proxy_pass", &[hop.text().to_owned()]);
    }
    // What a distribution's own nginx.conf has around it.
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};"));
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off; {}\n{}}}\n",
        folders.join(" "),
        example.text()
    )
}

fn haproxy(address: &SocketAddr, replicas: &[String], files: &Files) -> String {
    let server = |at: usize, replica: &String| match &files.ca {
        None => format!("    server number{at} {replica} check"),
        Some(ca) => {
            let hop = Example::new("haproxy", 1).with("/etc/haproxy/ca.pem", ca);
            hop.with("one 10.0.0.11:3100", &format!("number{at} {replica}")).text().to_owned()
        }
    };
    let example = Example::new("haproxy", 0)
        .with_line("server one 127.0.0.1:3100", &lines(replicas, server))
        .with("bind :443", &format!("bind {address}"))
        .with("/etc/haproxy/mcpd.pem", &files.both);
    example.text().to_owned()
}

fn caddy(address: &SocketAddr, replicas: &[String], files: &Files) -> String {
    let scheme = if files.ca.is_some() { "https://" } else { "" };
    let mut example = Example::new("caddyfile", 0)
        .with_line("to 127.0.0.1:3100", &lines(replicas, |_, replica| format!("to {scheme}{replica}")))
        .with("mcpd.example.com {", &format!("{HOST}:{} {{\nbind 127.0.0.1", address.port()))
        .with("/etc/caddy/mcpd.pem", &files.certificate)
        .with("/etc/caddy/mcpd-key.pem", &files.key);
    if let Some(ca) = &files.ca {
        let hop = Example::new("caddyfile", 1).with("/etc/caddy/ca.pem", ca);
        example = example.with("transport http {", &format!("transport http {{\n{}", hop.text()));
    }
    // Without its port for redirects and that of its administration, which other programs may have.
    format!("{{\nadmin off\nauto_https disable_redirects\n}}\n{}", example.text())
}

fn spawn(kind: Kind, dir: &TempDir) -> Child {
    let (config, log) = (dir.path().join("config"), File::create(dir.path().join("log")).expect("the log"));
    let mut command = Command::new(kind.program().expect("an installed proxy"));
    match kind {
        Kind::Nginx => command.arg("-c").arg(config),
        Kind::Haproxy => command.arg("-db").arg("-f").arg(config),
        Kind::Caddy => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config),
    };
    let files = ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];
    command.envs(files.map(|name| (name, dir.path()))).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("the log")).stderr(log).spawn().expect("the proxy")
}
