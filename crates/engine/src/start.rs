//! One start of an engine, from a free port to the first completion.

use std::{net::TcpListener, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    endpoint::{Endpoint, EngineHost},
    error::EngineError,
    group,
    log::EngineLog,
    options::EngineOptions,
    process::Process,
    random,
    spec::EngineSpec,
    status::Phase,
};

/// An engine that has answered a completion.
pub(crate) struct Live {
    pub(crate) process: Box<Process>,
    pub(crate) endpoint: Arc<Endpoint>,
}

/// A start that came to nothing, and what has to be ended still.
pub(crate) struct Failed {
    pub(crate) error: EngineError,
    pub(crate) process: Option<Box<Process>>,
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self { error, process: None }
    }
}

/// Looks at health: often at first, because small models load in no time, and seldom after `OFTEN` looks.
const LOOK_OFTEN: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_millis(250);
const OFTEN: u32 = 100;
/// Patience with one look.
const HEALTH: Duration = Duration::from_secs(2);
/// Patience with the first completion, which may compile kernels.
const WARM_UP: Duration = Duration::from_secs(120);
/// How often a first completion may be refused before the engine counts as broken.
const REFUSALS: u32 = 5;
/// Before what the agent itself has to say in the engine's log.
const COMPLETION: &str = "mcplocal: the first completion: ";
/// Lines of the log in errors.
pub(crate) const TAIL: usize = 30;

/// What a start needs.
pub(crate) struct Starter {
    pub(crate) spec: EngineSpec,
    pub(crate) options: EngineOptions,
    pub(crate) host: EngineHost,
    pub(crate) log: Arc<EngineLog>,
}

/// Breaks a start off, and hears how far it is, with process and port once they are known.
pub(crate) struct Line<F> {
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) tell: F,
}

impl Starter {
    /// Starts the engine. Whatever fails, nothing is ended here but a first attempt that the second follows.
    pub(crate) async fn start<F>(&self, line: Line<F>) -> Result<Live, Failed>
    where
        F: Fn(Phase, Option<u32>, Option<u16>) + Send + Sync,
    {
        let limit = Instant::now() + self.spec.start_timeout;
        match self.once(limit, &line).await {
            // Somebody took the port between our look and the engine's bind: once more on another.
            Err(Failed { error, process }) if is_port_taken(&error) => {
                tracing::info!(engine = self.spec.name, %error, "once more on another port");
                if let Some(process) = process {
                    process.stop().await;
                }
                self.once(limit, &line).await
            }
            result => result,
        }
    }

    async fn once<F>(&self, limit: Instant, line: &Line<F>) -> Result<Live, Failed>
    where
        F: Fn(Phase, Option<u32>, Option<u16>) + Send + Sync,
    {
        let name = || self.spec.name.clone();
        let spawn_error = |reason: String| EngineError::Spawn { name: name(), reason };
        if *line.cancelled.borrow() {
            return Err(EngineError::Stopped { name: name() }.into());
        }
        (line.tell)(Phase::Spawning, None, None);
        let port = free_port().map_err(|error| spawn_error(error.to_string()))?;
        let api_key = SecretString::from(random::hex().map_err(|error| spawn_error(error.to_string()))?);
        let launch = self
            .spec
            .launch(&self.options, port, api_key.expose_secret())
            .map_err(|source| EngineError::Spec { name: name(), source })?;
        // Of this start alone: prompts go to no proxy, and a redirect would carry the key elsewhere.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| spawn_error(error.to_string()))?;
        self.log.begin(self.secrets(&api_key));
        let EngineHost { guardian, state_dir, .. } = &self.host;
        let process =
            Box::new(Process::spawn(&self.spec.name, &launch, guardian, state_dir, &self.log).await?);
        let pid = process.pid;
        let base_url = format!("http://127.0.0.1:{port}/v1").parse();
        let base_url = match base_url {
            Ok(base_url) => base_url,
            Err(_) => {
                return Err(Failed { error: spawn_error("its address".to_owned()), process: Some(process) });
            }
        };
        let model = self.spec.served_name(&self.options);
        let endpoint = Arc::new(Endpoint { base_url, api_key, model });

        (line.tell)(Phase::Loading, Some(pid), Some(port));
        let ended = process.ended();
        let mut cancelled = line.cancelled.clone();
        let ready = async {
            until_healthy(&http, port).await;
            // Health is open to everybody, and so is a port that we only think is the engine's: a prompt for a
            // stranger's ears would be the wrong way to find out.
            if group::listens(pid, port) == Some(false) {
                return Err(EngineError::PortTaken { name: name(), port });
            }
            (line.tell)(Phase::WarmingUp, Some(pid), Some(port));
            self.until_it_answers(&http, &endpoint).await
        };
        let error = tokio::select! {
            ready = ready => match ready {
                Ok(()) => return Ok(Live { process, endpoint }),
                Err(error) => error,
            },
            how = ended => EngineError::Exited { name: name(), how, tail: self.log.tail(TAIL) },
            () = tokio::time::sleep_until(limit) => {
                let limit = self.spec.start_timeout;
                EngineError::StartTimeout { name: name(), limit, tail: self.log.tail(TAIL) }
            }
            _ = cancelled.wait_for(|cancelled| *cancelled) => EngineError::Stopped { name: name() },
        };
        Err(Failed { error, process: Some(process) })
    }

    /// Health alone proves little: a server can be healthy and fail its first request.
    async fn until_it_answers(&self, http: &reqwest::Client, endpoint: &Endpoint) -> Result<(), EngineError> {
        let url = format!("{}/completions", endpoint.base_url);
        let body = json!({"model": endpoint.model, "prompt": "Hi", "max_tokens": 1});
        let mut refusals = 0_u32;
        loop {
            let request = http.post(&url).bearer_auth(endpoint.api_key.expose_secret()).json(&body);
            match request.timeout(WARM_UP).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(mut answer) => {
                    let status = answer.status();
                    let said = answer.chunk().await.ok().flatten().unwrap_or_default();
                    let said: String = String::from_utf8_lossy(&said).chars().take(200).collect();
                    let refusal = self.log.line(&format!("{COMPLETION}{status}: {said}"));
                    refusals += 1;
                    // 503 is what a server says that still loads.
                    if refusals >= REFUSALS && status != reqwest::StatusCode::SERVICE_UNAVAILABLE {
                        let refusal =
                            refusal.strip_prefix(COMPLETION).unwrap_or(&refusal).trim_end().to_owned();
                        return Err(EngineError::WarmUp { name: self.spec.name.clone(), refusal });
                    }
                }
                // It is ending, and that is seen elsewhere, or the start's own time ends this.
                Err(error) => {
                    self.log.line(&format!("{COMPLETION}{}", error.without_url()));
                }
            }
            tokio::time::sleep(LOOK_SELDOM).await;
        }
    }

    /// What must not get into the log: the start's key, and what looks like a secret in the engine's environment.
    fn secrets(&self, api_key: &SecretString) -> Vec<String> {
        // Shorter ones are no secrets, and would blacken the whole log.
        const SHORTEST: usize = 8;
        let telling = |name: &str| {
            let name = name.to_ascii_uppercase();
            ["TOKEN", "KEY", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word))
        };
        let inherited = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let given = self.options.env.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = inherited.chain(given).filter(|(name, value)| telling(name) && value.len() >= SHORTEST);
        // A path is where a secret is, not the secret.
        let found = found.map(|(_, value)| value).filter(|value| !value.starts_with('/'));
        std::iter::once(api_key.expose_secret().to_owned()).chain(found).collect()
    }
}

/// Refused connections and 503 both mean loading: vLLM does the one, llama-server the other.
async fn until_healthy(http: &reqwest::Client, port: u16) {
    let url = format!("http://127.0.0.1:{port}/health");
    let mut looks = 0_u32;
    loop {
        let answer = http.get(&url).timeout(HEALTH).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(if looks < OFTEN { LOOK_OFTEN } else { LOOK_SELDOM }).await;
        looks = looks.saturating_add(1);
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn is_port_taken(error: &EngineError) -> bool {
    match error {
        EngineError::PortTaken { .. } => true,
        EngineError::Exited { tail, .. } => {
            let tail = tail.to_ascii_lowercase();
            ["address already in use", "couldn't bind", "could not bind"]
                .iter()
                .any(|said| tail.contains(said))
        }
        _ => false,
    }
}
