//! One start of an engine, from a free port to the first completion.

use std::{net::TcpListener, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    endpoint::{Endpoint, EngineHost},
    error::EngineError,
    log::EngineLog,
    process::Process,
    spec::EngineSpec,
    status::Phase,
};

/// An engine that has answered a completion.
pub(crate) struct Live {
    pub(crate) process: Process,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) port: u16,
}

/// Looks at health: often at first, because small models load in no time.
const LOOK: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];
/// Patience with one look.
const HEALTH: Duration = Duration::from_secs(2);
/// Patience with the first completion, which may compile kernels.
const WARM_UP: Duration = Duration::from_secs(120);
/// Lines of the log in errors.
const TAIL: usize = 30;

/// What a start needs and tells.
pub(crate) struct Starter {
    pub(crate) spec: EngineSpec,
    pub(crate) host: EngineHost,
    pub(crate) log: Arc<EngineLog>,
    pub(crate) http: reqwest::Client,
}

impl Starter {
    /// Starts the engine; `tell` hears how far it is, with process and port once they are known.
    pub(crate) async fn start(
        &self,
        tell: impl Fn(Phase, Option<u32>, Option<u16>) + Send + Sync,
    ) -> Result<Live, EngineError> {
        let limit = Instant::now() + self.spec.start_timeout;
        let first = self.once(limit, &tell).await;
        match first {
            // Somebody took the port between our look and the engine's bind: once more on another.
            Err(EngineError::Exited { tail, .. }) if says_port_taken(&tail) => self.once(limit, &tell).await,
            result => result,
        }
    }

    async fn once(
        &self,
        limit: Instant,
        tell: &(impl Fn(Phase, Option<u32>, Option<u16>) + Send + Sync),
    ) -> Result<Live, EngineError> {
        let name = &self.spec.name;
        let spawn_error = |reason: String| EngineError::Spawn { name: name.clone(), reason };
        tell(Phase::Spawning, None, None);
        let port = free_port().map_err(|error| spawn_error(error.to_string()))?;
        let api_key = random_key().map_err(|error| spawn_error(error.to_string()))?;
        let launch = self
            .spec
            .launch(port, api_key.expose_secret())
            .map_err(|source| EngineError::Spec { name: name.clone(), source })?;
        self.log.begin(api_key.expose_secret());
        let EngineHost { guardian, state_dir, .. } = &self.host;
        let process = Process::spawn(name, &launch, guardian, state_dir, &self.log).await?;
        let pid = process.pid;
        let base_url = format!("http://127.0.0.1:{port}/v1");
        let base_url = base_url.parse().map_err(|_| spawn_error("its address".to_owned()))?;
        let endpoint = Arc::new(Endpoint { base_url, api_key, model: self.spec.served_name() });
        let phase = |phase| tell(phase, Some(pid), Some(port));

        phase(Phase::Loading);
        let ended = process.ended();
        let ready = async {
            self.until_healthy(port).await;
            phase(Phase::WarmingUp);
            self.until_it_answers(&endpoint).await;
        };
        tokio::select! {
            () = ready => Ok(Live { process, endpoint, port }),
            how = ended => {
                process.stop().await;
                Err(EngineError::Exited { name: name.clone(), how, tail: self.log.tail(TAIL) })
            }
            () = tokio::time::sleep_until(limit) => {
                process.stop().await;
                let limit = self.spec.start_timeout;
                Err(EngineError::StartTimeout { name: name.clone(), limit, tail: self.log.tail(TAIL) })
            }
        }
    }

    /// Refused connections and 503 both mean loading: llama-server says one, vLLM the other.
    async fn until_healthy(&self, port: u16) {
        let url = format!("http://127.0.0.1:{port}/health");
        let mut looks = 0_u32;
        loop {
            let answer = self.http.get(&url).timeout(HEALTH).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let [often, seldom] = LOOK;
            tokio::time::sleep(if looks < 100 { often } else { seldom }).await;
            looks += 1;
        }
    }

    /// Health alone proves little: a server can be healthy and fail its first request.
    async fn until_it_answers(&self, endpoint: &Endpoint) {
        let url = format!("{}/completions", endpoint.base_url);
        let body = json!({"model": endpoint.model, "prompt": "Hi", "max_tokens": 1});
        loop {
            let answer = self
                .http
                .post(&url)
                .bearer_auth(endpoint.api_key.expose_secret())
                .json(&body)
                .timeout(WARM_UP)
                .send()
                .await;
            match answer {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => self.log.line(&format!("mcplocal: the first completion: {}", answer.status())),
                Err(error) => {
                    self.log.line(&format!("mcplocal: the first completion: {}", error.without_url()));
                }
            }
            let [_, seldom] = LOOK;
            tokio::time::sleep(seldom).await;
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// For this start alone, so that other users of the machine cannot use the engine.
fn random_key() -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

fn says_port_taken(tail: &str) -> bool {
    let tail = tail.to_ascii_lowercase();
    ["address already in use", "couldn't bind", "could not bind"].iter().any(|said| tail.contains(said))
}
