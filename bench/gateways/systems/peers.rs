//! Other gateways, where they are installed: nginx (Debian), `LiteLLM` (`pip install 'litellm[proxy]'`) and Portkey
//! (`npm install --global @portkey-ai/gateway`), each with its log on and with one process.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Process, System, SystemName};
use crate::{load::Destination, placement, rows::MODEL};

/// `LiteLLM` imports for a long time.
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn nginx(upstream: SocketAddr) -> Option<System> {
    let program = installed("nginx")?;
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let path = dir.path().display();
    let config = format!(
        "daemon off; worker_processes 1; pid {path}/pid; error_log {path}/error.log;
         events {{ worker_connections 65536; }}
         http {{
           access_log {path}/access.log; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
           fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
           client_body_buffer_size 2m; client_max_body_size 4m; keepalive_requests 1000000000;
           upstream model {{ server {upstream}; keepalive 2048; keepalive_requests 1000000000; }}
           server {{
             listen {address};
             location / {{
               proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\";
               proxy_buffering off; proxy_read_timeout 1h;
             }}
           }}
         }}"
    );
    fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path());
    running(SystemName::Nginx, command, address, Vec::new(), dir).await
}

pub async fn litellm(upstream: SocketAddr) -> Option<System> {
    const KEY: &str = "sk-bench";
    let program = installed("litellm")?;
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let config = format!(
        "model_list: [{{model_name: {MODEL}, litellm_params: {{model: openai/{MODEL}, api_base: 'http://{upstream}/v1', api_key: none}}}}]
general_settings: {{master_key: {KEY}}}
"
    );
    fs::write(dir.path().join("config.yaml"), config).unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(dir.path().join("config.yaml"));
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--num_workers", "1"]);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_TELEMETRY", "False");
    let headers = vec![(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap())];
    running(SystemName::Litellm, command, address, headers, dir).await
}

pub async fn portkey(upstream: SocketAddr) -> Option<System> {
    let program = installed("portkey-gateway").or_else(|| installed("gateway"))?;
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let mut command = Command::new(program);
    command.arg(format!("--port={}", address.port())).arg("--headless");
    let header = |name, value: &str| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers = vec![
        header("x-portkey-provider", "openai"),
        header("x-portkey-custom-host", &format!("http://{upstream}/v1")),
        header("authorization", "Bearer none"),
    ];
    running(SystemName::Portkey, command, address, headers, dir).await
}

/// The path of a program.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts a peer; `None` where it does not listen in time.
async fn running(
    name: SystemName,
    mut command: Command,
    address: SocketAddr,
    headers: Vec<(HeaderName, HeaderValue)>,
    dir: TempDir,
) -> Option<System> {
    let output = fs::File::create(dir.path().join("output")).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let began = Instant::now();
    let mut process =
        Process(placement::on_core(placement::SYSTEM, async { command.spawn().unwrap() }).await);
    while TcpStream::connect(address).await.is_err() {
        let has_ended = process.0.try_wait().unwrap().is_some();
        if has_ended || began.elapsed() > START_TIMEOUT {
            println!("{name:?} did not start:\n{}", fs::read_to_string(dir.path().join("output")).unwrap());
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (pid, started_in) = (Some(process.0.id()), Some(began.elapsed()));
    let destination = Destination { address, headers };
    Some(System { name, destination, pid, started_in, _parts: Box::new((process, dir)) })
}
