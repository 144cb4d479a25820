//! One start of an engine, from a place to listen at to the first request.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mcpctl_supervisor::{process_group, random};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    arbiter::{Claim, Lease, Party},
    endpoint::{Endpoint, EngineHost},
    error::EngineError,
    listen::Listen,
    log::EngineLog,
    options::EngineOptions,
    process::{self, Process},
    secrets,
    server::StandbyRoutes,
    spec::EngineSpec,
    status::StartPhase,
};

/// An engine with its process, and with a lease for what it holds of the GPU's memory, which is little while it sleeps.
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Where it is asked, once it is ready.
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) lease: Option<Lease>,
}

/// A start that came to nothing, and what has to be ended still.
pub(crate) struct Failed {
    pub(crate) error: EngineError,
    pub(crate) left: Option<Running>,
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self { error, left: None }
    }
}

/// Looks at health: often at first, because small models load in no time, and seldom after `OFTEN` looks.
const LOOK_OFTEN: Duration = Duration::from_millis(20);
const LOOK_SELDOM: Duration = Duration::from_millis(250);
const OFTEN: u32 = 100;
/// Patience with one look.
const HEALTH: Duration = Duration::from_secs(2);
/// Patience with the first request, which may compile kernels.
const WARM_UP: Duration = Duration::from_secs(120);
/// Patience with a question to an engine that may have broken.
const CHECK: Duration = Duration::from_secs(15);
/// Patience with falling asleep and waking, which copy all weights.
const STANDBY: Duration = Duration::from_secs(120);
/// How often a first request may be refused before the engine counts as broken.
const REFUSALS: u32 = 5;
/// Before what the agent itself has to say in the engine's log.
const FIRST: &str = "mcplocal: the first request: ";
/// Lines of the log in which an engine says that it cannot have its port.
const LAST_WORDS: usize = 30;

/// What a start needs.
pub(crate) struct Starter {
    pub(crate) spec: EngineSpec,
    pub(crate) options: EngineOptions,
    pub(crate) host: EngineHost,
    pub(crate) log: Arc<EngineLog>,
}

/// Which process a start has, and where that listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) pid: u32,
    pub(crate) port: Option<u16>,
    pub(crate) socket: Option<PathBuf>,
}

impl Place {
    fn of(pid: u32, endpoint: &Endpoint) -> Self {
        let socket = endpoint.socket.as_ref().map(|socket| socket.path().to_owned());
        Self { pid, port: endpoint.base_url.port(), socket }
    }
}

/// How far a start is.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) phase: StartPhase,
    pub(crate) percent: Option<u8>,
    /// Once it is known.
    pub(crate) at: Option<Place>,
}

/// Breaks a start off, and hears how far it is.
pub(crate) struct Line<F> {
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) tell: F,
}

impl Starter {
    /// Waits for room and starts the engine. Whatever fails, nothing is ended here but a first attempt that the second
    /// follows.
    pub(crate) async fn start<F>(&self, party: Party, line: Line<F>) -> Result<Running, Failed>
    where
        F: Fn(Told) + Send + Sync,
    {
        // Before room is made: no other engine gives way to one that cannot be started.
        let looked = self.spec.check_available(&self.options).await;
        looked.map_err(|source| EngineError::Spec { name: self.spec.name.clone(), source })?;
        let mut lease = self.room(party, None, &line).await?;
        let limit = Instant::now() + self.spec.start_timeout;
        let result = match self.once(limit, &line).await {
            // Somebody took the port between our look and the engine's bind: once more on another.
            Err(Failed { error, left }) if self.port_was_taken(&error) => {
                tracing::info!(engine = self.spec.name, %error, "once more on another port");
                if let Some(running) = left {
                    running.process.stop().await;
                }
                self.once(limit, &line).await
            }
            result => result,
        };
        // What is left of a failed start holds memory until it is gone.
        match result {
            Ok(running) => {
                lease.settled();
                Ok(Running { lease: Some(lease), ..running })
            }
            Err(Failed { error, left }) => {
                Err(Failed { error, left: left.map(|running| Running { lease: Some(lease), ..running }) })
            }
        }
    }

    async fn room<F>(
        &self,
        party: Party,
        asleep: Option<&Lease>,
        line: &Line<F>,
    ) -> Result<Lease, EngineError>
    where
        F: Fn(Told) + Send + Sync,
    {
        let claim = Claim::of(&self.options);
        (line.tell)(Told { phase: StartPhase::WaitingForRoom, percent: None, at: None });
        let mut cancelled = line.cancelled.clone();
        tokio::select! {
            lease = self.host.arbiter.lease(&claim, party, asleep) => lease,
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
        }
    }

    async fn once<F>(&self, limit: Instant, line: &Line<F>) -> Result<Running, Failed>
    where
        F: Fn(Told) + Send + Sync,
    {
        let name = || self.spec.name.clone();
        let spawn_error = |reason: String| EngineError::Spawn { name: name(), reason };
        if *line.cancelled.borrow() {
            return Err(self.stopped().into());
        }
        (line.tell)(Told { phase: StartPhase::Spawning, percent: None, at: None });
        let place = Listen::choose(self.spec.server, &self.host.state_dir)
            .map_err(|error| spawn_error(error.to_string()))?;
        let api_key = SecretString::from(random::hex().map_err(|error| spawn_error(error.to_string()))?);
        let modules = self.host.state_dir.join("python");
        let prepared = self.spec.server.server().prepare(&self.options, &modules);
        prepared.map_err(|error| spawn_error(format!("`{}`: {error}", modules.display())))?;
        let launch = self
            .spec
            .launch(&self.options, &place, api_key.expose_secret(), &modules)
            .map_err(|source| EngineError::Spec { name: name(), source })?;
        let http = place.client().map_err(|error| spawn_error(error.to_string()))?;
        let base_url = place.base_url().parse().map_err(|_| spawn_error("its address".to_owned()))?;
        self.log.begin(secrets::of(&self.options, &api_key));
        let mut told = self.log.progress();
        let EngineHost { guardian, state_dir, .. } = &self.host;
        let process = process::spawn(&self.spec.name, &launch, guardian, state_dir, &self.log).await?;
        let (model, socket) = (self.spec.served_name(), place.socket().cloned());
        let endpoint = Arc::new(Endpoint { base_url, socket, api_key, model, http });
        let at = Some(Place::of(process.pid(), &endpoint));

        (line.tell)(Told { phase: StartPhase::Loading, percent: None, at: at.clone() });
        let listen = async {
            while told.changed().await.is_ok() {
                let said = *told.borrow_and_update();
                if let Some((phase, percent)) = said {
                    (line.tell)(Told { phase, percent, at: at.clone() });
                }
            }
            std::future::pending::<()>().await;
        };
        let pid = process.pid();
        let ready = async {
            tokio::select! {
                () = until_healthy(&endpoint) => {}
                () = listen => {}
            }
            // Health is open to everybody, and so is a port that we only think is the engine's: a prompt for a
            // stranger's ears would be the wrong way to find out.
            // At a socket only this user's programs listen.
            if let Some(port) = place.port().filter(|port| process_group::listens(pid, *port) == Some(false))
            {
                return Err(EngineError::PortTaken { name: name(), port });
            }
            (line.tell)(Told { phase: StartPhase::WarmingUp, percent: None, at: at.clone() });
            self.until_it_answers(&endpoint).await
        };
        let done = self.watched(&process, limit, line, ready).await;
        let running = Running { process, endpoint, lease: None };
        match done {
            Ok(()) => Ok(running),
            Err(error) => Err(Failed { error, left: Some(running) }),
        }
    }

    /// By our own look, or by the last words of an engine that found out itself.
    fn port_was_taken(&self, error: &EngineError) -> bool {
        const WORDS: [&str; 3] = ["address already in use", "couldn't bind", "could not bind"];
        let last_words = || self.log.output().tail(LAST_WORDS).to_ascii_lowercase();
        match error {
            EngineError::PortTaken { .. } => true,
            EngineError::Exited { .. } => WORDS.iter().any(|words| last_words().contains(words)),
            _ => false,
        }
    }

    /// Lets something happen to a process unless it ends, takes too long, or is broken off.
    async fn watched<F>(
        &self,
        process: &Process,
        limit: Instant,
        line: &Line<F>,
        step: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<(), EngineError> {
        let name = || self.spec.name.clone();
        let mut cancelled = line.cancelled.clone();
        tokio::select! {
            done = step => done,
            how = process.ended() => Err(self.exited(how)),
            () = tokio::time::sleep_until(limit) => {
                let limit = self.spec.start_timeout;
                Err(EngineError::StartTimeout { name: name(), limit, diagnosis: self.log.diagnosis() })
            }
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
        }
    }

    /// Waits for room and wakes the engine.
    pub(crate) async fn wake<F>(
        &self,
        party: Party,
        mut running: Running,
        line: Line<F>,
    ) -> Result<Running, Failed>
    where
        F: Fn(Told) + Send + Sync,
    {
        let endpoint = Arc::clone(&running.endpoint);
        let room = self.room(party, running.lease.as_ref(), &line);
        let lease = tokio::select! {
            lease = room => lease,
            // Others need not give way for what is gone.
            how = running.process.ended() => Err(self.exited(how)),
        };
        match lease {
            Ok(lease) => running.lease = Some(lease),
            Err(error) => return Err(Failed { error, left: Some(running) }),
        }
        let at = Some(Place::of(running.process.pid(), &endpoint));
        (line.tell)(Told { phase: StartPhase::Waking, percent: None, at: at.clone() });
        let limit = Instant::now() + self.spec.start_timeout;
        let step = async {
            self.control(&endpoint, "wake", |routes| routes.wake).await?;
            (line.tell)(Told { phase: StartPhase::WarmingUp, percent: None, at: at.clone() });
            self.until_it_answers(&endpoint).await
        };
        match self.watched(&running.process, limit, &line, step).await {
            Ok(()) => {
                running.lease.iter_mut().for_each(Lease::settled);
                Ok(running)
            }
            Err(error) => Err(Failed { error, left: Some(running) }),
        }
    }

    /// Has the engine give its GPU memory back and keep its weights in the machine's: vLLM's sleep, level 1.
    pub(crate) async fn sleep(
        &self,
        running: &mut Running,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<(), EngineError> {
        let told = self.control(&running.endpoint, "sleep", |routes| routes.sleep);
        let ended = running.process.ended();
        let falls_asleep = async {
            tokio::select! {
                told = told => told,
                how = ended => Err(self.exited(how)),
                _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
            }
        };
        match &mut running.lease {
            Some(lease) => lease.sleep(falls_asleep).await,
            None => falls_asleep.await,
        }
    }

    async fn control(
        &self,
        endpoint: &Endpoint,
        what: &'static str,
        route: fn(StandbyRoutes) -> &'static str,
    ) -> Result<(), EngineError> {
        let routes = self.spec.server.server().standby_routes();
        let path = routes.map(route).ok_or_else(|| self.standby(what, "it has no sleep mode"))?;
        let url = endpoint.base_url.join(path).map_err(|error| self.standby(what, &error.to_string()))?;
        let request = endpoint.http.post(url).bearer_auth(endpoint.api_key.expose_secret()).timeout(STANDBY);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(self.standby(what, &format!("it answers {}", answer.status()))),
            Err(error) => Err(self.standby(what, &error.without_url().to_string())),
        }
    }

    /// Whether it still answers. Where requests have all its places it is only asked for its health: a completion would wait
    /// for them.
    pub(crate) async fn check(&self, endpoint: &Endpoint, has_place: bool) -> Result<(), EngineError> {
        let hung = |reason: String| EngineError::Hung { name: self.spec.name.clone(), reason };
        let health = endpoint.base_url.join("/health").map_err(|error| hung(error.to_string()))?;
        let healthy = endpoint
            .http
            .get(health)
            .timeout(HEALTH)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        healthy.map_err(|error| hung(error.without_url().to_string()))?;
        if !has_place {
            return Ok(());
        }
        tokio::time::timeout(CHECK, self.until_it_answers(endpoint))
            .await
            .unwrap_or_else(|_| Err(hung(format!("no completion within {} s", CHECK.as_secs()))))
    }

    fn stopped(&self) -> EngineError {
        EngineError::Stopped { name: self.spec.name.clone() }
    }

    pub(crate) fn exited(&self, how: String) -> EngineError {
        EngineError::Exited { name: self.spec.name.clone(), how, diagnosis: self.log.diagnosis() }
    }

    pub(crate) fn standby(&self, what: &'static str, reason: &str) -> EngineError {
        EngineError::Standby { name: self.spec.name.clone(), what, reason: reason.to_owned() }
    }

    /// Health alone proves little: a server can be healthy and fail its first request. What was started for embeddings
    /// completes nothing, and is asked for one.
    async fn until_it_answers(&self, endpoint: &Endpoint) -> Result<(), EngineError> {
        let model = &endpoint.model;
        let questions = [
            ("completions", json!({"model": model, "prompt": "Hi", "max_tokens": 1})),
            ("embeddings", json!({"model": model, "input": "Hi"})),
        ];
        let mut refusals = 0_u32;
        loop {
            let mut refused = None;
            for (path, body) in &questions {
                let url = format!("{}/{path}", endpoint.base_url);
                let request =
                    endpoint.http.post(&url).bearer_auth(endpoint.api_key.expose_secret()).json(body);
                match request.timeout(WARM_UP).send().await {
                    Ok(answer) if answer.status().is_success() => return Ok(()),
                    Ok(answer) => {
                        let (status, said) = said(answer).await;
                        let refusal = self.log.line(&format!("{FIRST}{status}: {said}"));
                        refused.get_or_insert((status, refusal));
                    }
                    // It is ending, and that is seen elsewhere, or the start's own time ends this.
                    Err(error) => {
                        self.log.line(&format!("{FIRST}{}", error.without_url()));
                        break;
                    }
                }
            }
            if let Some((status, refusal)) = refused {
                refusals += 1;
                // 503 is what a server says that still loads.
                if refusals >= REFUSALS && status != reqwest::StatusCode::SERVICE_UNAVAILABLE {
                    let refusal = refusal.strip_prefix(FIRST).unwrap_or(&refusal).trim_end().to_owned();
                    return Err(EngineError::WarmUp { name: self.spec.name.clone(), refusal });
                }
            }
            tokio::time::sleep(LOOK_SELDOM).await;
        }
    }
}

/// How a server refused, and the beginning of its words.
async fn said(mut answer: reqwest::Response) -> (reqwest::StatusCode, String) {
    let status = answer.status();
    let bytes = answer.chunk().await.ok().flatten().unwrap_or_default();
    (status, String::from_utf8_lossy(&bytes).chars().take(200).collect())
}

/// Refused connections and 503 both mean loading: vLLM does the one, llama-server the other.
async fn until_healthy(endpoint: &Endpoint) {
    let mut url = endpoint.base_url.clone();
    url.set_path("/health");
    let mut looks = 0_u32;
    loop {
        let answer = endpoint.http.get(url.clone()).timeout(HEALTH).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(if looks < OFTEN { LOOK_OFTEN } else { LOOK_SELDOM }).await;
        looks = looks.saturating_add(1);
    }
}
