//! One start of an engine, from the choice of its address to its first request, and its sleep and waking.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mcpctl_supervisor::{process_group, random};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::watch, time::Instant};

use crate::{
    endpoint::{Endpoint, EngineHost},
    error::EngineError,
    lifecycle::health::{HealthCheck, until_healthy},
    listen::Listen,
    log::EngineLog,
    memory::{Claim, Lease, Tenant},
    options::EngineOptions,
    process::{self, Process},
    secrets,
    server::StandbyRoutes,
    spec::EngineSpec,
    status::StartPhase,
};

/// The process of an engine, with the lease of the GPU memory that it holds, which is little while it sleeps.
pub(crate) struct EngineProcess {
    pub(crate) process: Process,
    /// Where requests go, once it is ready.
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) lease: Option<Lease>,
}

/// A failed start, with the process that still has to be ended.
pub(crate) struct StartFailure {
    pub(crate) error: EngineError,
    pub(crate) process: Option<EngineProcess>,
}

impl From<EngineError> for StartFailure {
    fn from(error: EngineError) -> Self {
        Self { error, process: None }
    }
}

/// Falling asleep and waking copy all weights.
const STANDBY_TIMEOUT: Duration = Duration::from_secs(120);
/// An engine that could not bind its port reports that in one of its last lines.
const LAST_LINES: usize = 30;

/// What a start needs.
pub(crate) struct Starter {
    pub(crate) spec: EngineSpec,
    pub(crate) options: EngineOptions,
    pub(crate) host: EngineHost,
    pub(crate) log: Arc<EngineLog>,
}

/// The process of a start, and where it listens.
#[derive(Debug, Clone)]
pub(crate) struct ProcessAddress {
    pub(crate) pid: u32,
    pub(crate) port: Option<u16>,
    pub(crate) socket: Option<PathBuf>,
}

impl ProcessAddress {
    fn of(pid: u32, endpoint: &Endpoint) -> Self {
        let socket = endpoint.socket.as_ref().map(|socket| socket.path().to_owned());
        Self { pid, port: endpoint.base_url.port(), socket }
    }
}

/// How far a start is.
#[derive(Debug, Clone)]
pub(crate) struct StartProgress {
    pub(crate) phase: StartPhase,
    pub(crate) percent: Option<u8>,
    /// Known once the process runs.
    pub(crate) address: Option<ProcessAddress>,
}

/// How the actor cancels a start, and learns how far it is.
pub(crate) struct StartControl<F> {
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) report: F,
}

impl Starter {
    /// Waits for memory and starts the engine. The process of a failed start is returned and not ended, unless a second
    /// attempt follows.
    pub(crate) async fn start<F>(
        &self,
        tenant: Tenant,
        control: StartControl<F>,
    ) -> Result<EngineProcess, StartFailure>
    where
        F: Fn(StartProgress) + Send + Sync,
    {
        // Before the lease: an engine that cannot be started must not preempt another.
        let available = self.spec.check_available(&self.options).await;
        available.map_err(|source| EngineError::Spec { name: self.spec.name.clone(), source })?;
        let mut lease = self.lease(tenant, None, &control).await?;
        let deadline = Instant::now() + self.spec.start_timeout;
        let result = match self.attempt(deadline, &control).await {
            // Another program took the port before the engine bound it: once more on another.
            Err(StartFailure { error, process }) if self.port_was_taken(&error) => {
                tracing::info!(engine = self.spec.name, %error, "once more on another port");
                if let Some(EngineProcess { process, .. }) = process {
                    process.stop().await;
                }
                self.attempt(deadline, &control).await
            }
            result => result,
        };
        // The process of a failed start holds memory until it is gone.
        match result {
            Ok(process) => {
                lease.settle();
                Ok(EngineProcess { lease: Some(lease), ..process })
            }
            Err(StartFailure { error, process }) => {
                let process = process.map(|process| EngineProcess { lease: Some(lease), ..process });
                Err(StartFailure { error, process })
            }
        }
    }

    async fn lease<F>(
        &self,
        tenant: Tenant,
        asleep: Option<&Lease>,
        control: &StartControl<F>,
    ) -> Result<Lease, EngineError>
    where
        F: Fn(StartProgress) + Send + Sync,
    {
        let claim = Claim::of(&self.options);
        (control.report)(StartProgress { phase: StartPhase::WaitingForRoom, percent: None, address: None });
        let mut cancelled = control.cancelled.clone();
        tokio::select! {
            lease = self.host.arbiter.lease(&claim, tenant, asleep) => lease,
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
        }
    }

    async fn attempt<F>(
        &self,
        deadline: Instant,
        control: &StartControl<F>,
    ) -> Result<EngineProcess, StartFailure>
    where
        F: Fn(StartProgress) + Send + Sync,
    {
        let name = || self.spec.name.clone();
        let spawn_error = |reason: String| EngineError::Spawn { name: name(), reason };
        if *control.cancelled.borrow() {
            return Err(self.stopped().into());
        }
        (control.report)(StartProgress { phase: StartPhase::Spawning, percent: None, address: None });
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
        let mut progress = self.log.progress();
        let EngineHost { guardian, state_dir, .. } = &self.host;
        let process = process::spawn(&self.spec.name, &launch, guardian, state_dir, &self.log).await?;
        let (model, socket) = (self.spec.served_name(), place.socket().cloned());
        let endpoint = Arc::new(Endpoint { base_url, socket, api_key, model, http });
        let address = Some(ProcessAddress::of(process.pid(), &endpoint));

        (control.report)(StartProgress {
            phase: StartPhase::Loading,
            percent: None,
            address: address.clone(),
        });
        let report_progress = async {
            while progress.changed().await.is_ok() {
                let latest = *progress.borrow_and_update();
                if let Some((phase, percent)) = latest {
                    (control.report)(StartProgress { phase, percent, address: address.clone() });
                }
            }
            std::future::pending::<()>().await;
        };
        let pid = process.pid();
        let ready = async {
            tokio::select! {
                () = until_healthy(&endpoint) => {}
                () = report_progress => {}
            }
            // The health route needs no key, so another program may have taken the port and responded. That must be known
            // before a prompt and the key go there. Only this user's programs can listen on the socket.
            if let Some(port) = place.port().filter(|port| process_group::listens(pid, *port) == Some(false))
            {
                return Err(EngineError::PortTaken { name: name(), port });
            }
            (control.report)(StartProgress {
                phase: StartPhase::WarmingUp,
                percent: None,
                address: address.clone(),
            });
            self.health_check(&endpoint).complete_first_request().await
        };
        let done = self.watched(&process, deadline, control, ready).await;
        let process = EngineProcess { process, endpoint, lease: None };
        match done {
            Ok(()) => Ok(process),
            Err(error) => Err(StartFailure { error, process: Some(process) }),
        }
    }

    /// By our own check, or by the last lines of an engine that could not bind it.
    fn port_was_taken(&self, error: &EngineError) -> bool {
        const WORDS: [&str; 3] = ["address already in use", "couldn't bind", "could not bind"];
        let last_lines = || self.log.output().tail(LAST_LINES).to_ascii_lowercase();
        match error {
            EngineError::PortTaken { .. } => true,
            EngineError::Exited { .. } => WORDS.iter().any(|words| last_lines().contains(words)),
            _ => false,
        }
    }

    /// Runs a step of a process until it is done, the process has ended, the deadline has passed, or it is cancelled.
    async fn watched<F>(
        &self,
        process: &Process,
        deadline: Instant,
        control: &StartControl<F>,
        step: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<(), EngineError> {
        let name = || self.spec.name.clone();
        let mut cancelled = control.cancelled.clone();
        tokio::select! {
            done = step => done,
            how = process.ended() => Err(self.exited(how)),
            () = tokio::time::sleep_until(deadline) => {
                let limit = self.spec.start_timeout;
                Err(EngineError::StartTimeout { name: name(), limit, diagnosis: self.log.diagnosis() })
            }
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
        }
    }

    /// Waits for memory and wakes the engine.
    pub(crate) async fn wake<F>(
        &self,
        tenant: Tenant,
        mut process: EngineProcess,
        control: StartControl<F>,
    ) -> Result<EngineProcess, StartFailure>
    where
        F: Fn(StartProgress) + Send + Sync,
    {
        let endpoint = Arc::clone(&process.endpoint);
        let lease = self.lease(tenant, process.lease.as_ref(), &control);
        let lease = tokio::select! {
            lease = lease => lease,
            // A process that is gone must not preempt another engine.
            how = process.process.ended() => Err(self.exited(how)),
        };
        match lease {
            Ok(lease) => process.lease = Some(lease),
            Err(error) => return Err(StartFailure { error, process: Some(process) }),
        }
        let address = Some(ProcessAddress::of(process.process.pid(), &endpoint));
        (control.report)(StartProgress {
            phase: StartPhase::Waking,
            percent: None,
            address: address.clone(),
        });
        let deadline = Instant::now() + self.spec.start_timeout;
        let step = async {
            self.post(&endpoint, "wake", |routes| routes.wake).await?;
            (control.report)(StartProgress {
                phase: StartPhase::WarmingUp,
                percent: None,
                address: address.clone(),
            });
            self.health_check(&endpoint).complete_first_request().await
        };
        match self.watched(&process.process, deadline, &control, step).await {
            Ok(()) => {
                process.lease.iter_mut().for_each(Lease::settle);
                Ok(process)
            }
            Err(error) => Err(StartFailure { error, process: Some(process) }),
        }
    }

    /// Has the engine give its GPU memory back and keep its weights in the computer's: vLLM's sleep, level 1.
    pub(crate) async fn sleep(
        &self,
        process: &mut EngineProcess,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<(), EngineError> {
        let slept = self.post(&process.endpoint, "sleep", |routes| routes.sleep);
        let ended = process.process.ended();
        let falls_asleep = async {
            tokio::select! {
                slept = slept => slept,
                how = ended => Err(self.exited(how)),
                _ = cancelled.wait_for(|cancelled| *cancelled) => Err(self.stopped()),
            }
        };
        match &mut process.lease {
            Some(lease) => lease.sleep(falls_asleep).await,
            None => falls_asleep.await,
        }
    }

    async fn post(
        &self,
        endpoint: &Endpoint,
        what: &'static str,
        route: fn(StandbyRoutes) -> &'static str,
    ) -> Result<(), EngineError> {
        let routes = self.spec.server.server().standby_routes();
        let path = routes.map(route).ok_or_else(|| self.standby(what, "it has no sleep mode"))?;
        let url = endpoint.base_url.join(path).map_err(|error| self.standby(what, &error.to_string()))?;
        let request =
            endpoint.http.post(url).bearer_auth(endpoint.api_key.expose_secret()).timeout(STANDBY_TIMEOUT);
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(self.standby(what, &format!("it answers {}", response.status()))),
            Err(error) => Err(self.standby(what, &error.without_url().to_string())),
        }
    }

    fn stopped(&self) -> EngineError {
        EngineError::Stopped { name: self.spec.name.clone() }
    }

    pub(crate) fn health_check<'a>(&'a self, endpoint: &'a Endpoint) -> HealthCheck<'a> {
        HealthCheck { name: &self.spec.name, endpoint, log: &self.log }
    }

    pub(crate) fn exited(&self, how: String) -> EngineError {
        EngineError::Exited { name: self.spec.name.clone(), how, diagnosis: self.log.diagnosis() }
    }

    pub(crate) fn standby(&self, what: &'static str, reason: &str) -> EngineError {
        EngineError::Standby { name: self.spec.name.clone(), what, reason: reason.to_owned() }
    }
}
