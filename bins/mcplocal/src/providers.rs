//! The local providers as they run: servers that run anyway, and engines that the agent starts.

mod key_file;
mod known_capabilities;
mod prewarm_probes;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use mcpctl_api::{
    agent::{ToolsGap, Unavailable},
    yaml::YamlError,
};
use mcpctl_dialect::{Dialect, ExtraOperations};

use mcpctl_engine::{
    Endpoint, Engine, EngineError, EngineGuard, EngineHost, EngineOptions, EngineSpec, EngineState, SpecError,
};
use mcpctl_failover::{LocalCause, LocalError, ProviderRegistry};
use mcpctl_telemetry::{Configured, McplocalMetrics};
use mcpctl_upstream::{Api, AttemptTimeouts, Target, TargetConfig, UpstreamKind};
use tokio::time::Instant;

pub use key_file::KeyFileError;
pub use known_capabilities::{known_capabilities, tools_gap};
pub use prewarm_probes::PrewarmProbes;

use crate::{
    capabilities::{Capabilities, ModelCache, ModelInfo, ModelProbe, Needs, extra_operations},
    config::{Config, ConfigError, ProviderConfig, ProviderKind},
    meter::Meter,
};

/// Timeouts of a model on this machine: it may be slow, but the connection is short.
const LOCAL_TIMEOUTS: AttemptTimeouts = AttemptTimeouts {
    connect: Duration::from_secs(2),
    response: Duration::from_secs(120),
    answer: Duration::from_secs(600),
    first_token: Duration::from_secs(120),
    idle: Duration::from_secs(60),
};

/// How long a person who started an engine waits for what its model can do.
const LEARN_TIMEOUT: Duration = Duration::from_secs(2);

/// A local provider as it runs. Clones are the same one.
#[derive(Clone)]
pub struct LocalProvider {
    /// Its entry in the configuration.
    pub config: ProviderConfig,
    /// Its engine, where the agent starts it.
    pub engine: Option<Engine>,
    /// What its server reports about its models.
    pub models: ModelCache,
    /// How fast it is.
    pub meter: Meter,
    /// Bounds the probes of its prewarm trigger.
    pub prewarm_probes: PrewarmProbes,
    /// Whether its server rejected `stream_options`.
    pub refuses_usage: Arc<AtomicBool>,
    /// The last start that was counted.
    counted: Arc<AtomicU32>,
}

/// A provider that is ready, for as long as this is held.
pub struct ReadyProvider {
    /// The provider.
    pub provider: LocalProvider,
    /// Where the request goes.
    pub target: Target,
    /// What its server serves besides chat completions.
    pub extra: ExtraOperations,
    /// Keeps the engine from being stopped.
    pub guard: Option<EngineGuard>,
}

/// What a provider lacks on this machine to be used now.
#[derive(Debug, thiserror::Error)]
pub enum Lacking {
    /// What an engine's start needs.
    #[error(transparent)]
    Engine(#[from] SpecError),
    /// The key of a server that is already running.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

impl Lacking {
    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Key(error) => error.hint(),
        }
    }
}

/// Why a provider is not ready.
pub enum NotReady {
    /// The configuration changed, and the new one does not have its engine.
    Retired,
    /// It did not become ready, or its model lacks what the request needs.
    Local(LocalError),
}

impl From<LocalError> for NotReady {
    fn from(error: LocalError) -> Self {
        Self::Local(error)
    }
}

impl From<EngineError> for NotReady {
    fn from(error: EngineError) -> Self {
        let cause = match error {
            EngineError::ShuttingDown { .. } => return Self::Retired,
            EngineError::Busy { retry_after, .. } => LocalCause::Busy { retry_after },
            EngineError::Spec { .. } => LocalCause::Unavailable,
            _ => LocalCause::Failed,
        };
        Self::Local(LocalError { cause, reason: error.to_string() })
    }
}

impl LocalProvider {
    /// A provider that did not exist before. Starts the tasks that belong to it.
    fn new(config: &ProviderConfig, host: &EngineHost, http: &reqwest::Client) -> Self {
        let engine = engine_config(config)
            .map(|(spec, options)| Engine::with_options(spec.clone(), options.clone(), host.clone()));
        let provider = Self {
            config: config.clone(),
            engine,
            models: ModelCache::default(),
            meter: Meter::default(),
            prewarm_probes: PrewarmProbes::default(),
            refuses_usage: Arc::default(),
            counted: Arc::default(),
        };
        if let Ok(Some(target)) = target(config) {
            provider.models.refresh(&ModelProbe::new(http, &target));
        }
        provider
    }

    /// Whether a prewarm would change anything; saves a probe where it would not.
    pub fn needs_prewarm(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| !engine.is_prewarmed())
    }

    /// Starts its engine without a request that waits for it.
    pub fn prewarm(&self) {
        self.engine.iter().for_each(Engine::prewarm);
    }

    /// Counts its engine's start, once for all its waiters.
    pub fn count_start(&self, metrics: &McplocalMetrics, ready: bool) {
        let Some(engine) = &self.engine else { return };
        let starts = engine.status().starts;
        if self.counted.fetch_max(starts, Ordering::AcqRel) < starts {
            let name = Configured::resolved(self.config.name.as_str());
            metrics.engine_start(name, if ready { "ready" } else { "failed" });
        }
    }

    /// How long a request waits for the provider. A start ends earlier, with the reason of its failure; but it may have to
    /// wait for memory first, and a ready engine may have a queue.
    pub fn wait_timeout(&self) -> Duration {
        match &self.config.kind {
            ProviderKind::Managed(managed) => {
                managed.spec.start_timeout.saturating_mul(2).saturating_add(LOCAL_TIMEOUTS.answer)
            }
            ProviderKind::Running { .. } => Duration::ZERO,
        }
    }

    /// Why it cannot be used now; `None` for an engine that runs.
    pub async fn unavailable(&self) -> Option<Unavailable> {
        let down = [EngineState::Stopped, EngineState::BackingOff, EngineState::Failed];
        if self.engine.as_ref().is_some_and(|engine| !down.contains(&engine.status().state)) {
            return None;
        }
        let lacking = lacking(&self.config).await?;
        Some(Unavailable { reason: lacking.to_string(), hint: lacking.hint() })
    }

    /// What its model can do, as far as it is known.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities_with(self.models.last().as_deref())
    }

    /// Why requests with tools do not fall back to it.
    pub fn tools_gap(&self) -> Option<ToolsGap> {
        tools_gap(&self.config, self.models.last().as_deref())
    }

    /// Asks the server of an engine that runs what its model can do, where that is not known yet: a person who starts it finds it
    /// in the status.
    pub async fn learn_model(&self, guard: &EngineGuard) {
        if self.models.last().is_none() {
            let probe = ModelProbe::new(&guard.endpoint().http, &managed_target(guard.endpoint()));
            // The next request asks again where it does not answer.
            let _ = tokio::time::timeout(LEARN_TIMEOUT, self.models.get(&probe)).await;
        }
    }

    fn capabilities_with(&self, info: Option<&ModelInfo>) -> Capabilities {
        known_capabilities(&self.config, info)
    }

    /// Makes the provider ready for a request with these needs; starts its engine where it is not running.
    ///
    /// # Errors
    /// Why it is not ready, or what its model lacks.
    pub async fn ready(&self, http: &reqwest::Client, needs: Needs) -> Result<ReadyProvider, NotReady> {
        // Before the start, so that no engine is started for a request that it cannot serve.
        self.suffices(needs, self.models.fresh().as_deref())?;
        let running = target(&self.config)
            .map_err(|error| LocalError { cause: LocalCause::Unavailable, reason: error.to_string() })?;
        let (mut target, guard) = match (running, &self.engine) {
            (Some(target), _) => (target, None),
            (None, Some(engine)) => {
                let guard = engine.ensure_ready(Instant::now() + self.wait_timeout()).await?;
                (managed_target(guard.endpoint()), Some(guard))
            }
            (None, None) => return Err(LocalError::failed("the provider has no engine").into()),
        };
        // The engine's own client connects to its socket, if it has one.
        let http = guard.as_ref().map_or(http, |guard| &guard.endpoint().http);
        let probe = ModelProbe::new(http, &target);
        let mut info = self.models.get(&probe).await;
        // Cached information may be out of date: ask again before the request is refused.
        if info.as_deref().is_ok_and(|info| self.suffices(needs, Some(info)).is_err()) {
            info = self.models.anew(&probe).await;
        }
        match info {
            Ok(info) => {
                self.suffices(needs, Some(&info))?;
                if target.model.is_none() {
                    target = target.with(|target| target.model.clone_from(&info.model));
                }
            }
            // A server that does not list its models may answer all the same.
            Err(_) if target.model.is_some() => {}
            Err(reason) => {
                return Err(LocalError::failed(format!("its models cannot be listed: {reason}")).into());
            }
        }
        if target.model.is_none() {
            self.models.forget();
            let reason = "it serves not exactly one model, and the configuration names none";
            return Err(LocalError::failed(reason).into());
        }
        let extra = extra_operations(self.capabilities());
        Ok(ReadyProvider { provider: self.clone(), target, extra, guard })
    }

    fn suffices(&self, needs: Needs, info: Option<&ModelInfo>) -> Result<(), LocalError> {
        match needs.lacking_in(self.capabilities_with(info)) {
            None => Ok(()),
            Some(word) => Err(LocalError {
                cause: LocalCause::Lacks(word),
                reason: format!("its model lacks what the request needs: {word}"),
            }),
        }
    }
}

/// The target of requests to a server that runs anyway, with the key that its file holds now.
///
/// # Errors
/// When its key cannot be read.
pub fn target(provider: &ProviderConfig) -> Result<Option<Target>, KeyFileError> {
    let ProviderKind::Running { api, url, model, key_file } = &provider.kind else { return Ok(None) };
    Ok(Some(Target::new(TargetConfig {
        base_url: url.clone(),
        socket: None,
        model: model.clone(),
        credential: key_file.as_deref().map(key_file::read).transpose()?,
        timeouts: LOCAL_TIMEOUTS,
        api: match api {
            Dialect::Openai => Api::Openai,
            Dialect::Anthropic => Api::Anthropic,
        },
        kind: UpstreamKind::Provider,
    })))
}

fn managed_target(endpoint: &Endpoint) -> Target {
    let Endpoint { base_url, socket, api_key, model, .. } = endpoint.clone();
    let (model, credential) = (Some(model), Some(api_key));
    let socket = socket.map(|socket| socket.path().to_owned());
    Target::new(TargetConfig {
        base_url,
        socket,
        model,
        credential,
        timeouts: LOCAL_TIMEOUTS,
        api: Api::Openai,
        kind: UpstreamKind::Provider,
    })
}

/// Builds the registry of a configuration. Engines whose configuration is the same as in `before` go on as they are.
pub fn registry(
    config: &Config,
    host: &EngineHost,
    http: &reqwest::Client,
    before: Option<&ProviderRegistry<LocalProvider>>,
) -> Arc<ProviderRegistry<LocalProvider>> {
    let mut registry = ProviderRegistry::default();
    for config in &config.providers {
        let name = config.name.as_str();
        let kept = before
            .and_then(|before| before.provider(name))
            .filter(|before| same_engine(&before.config, config))
            .map(|before| LocalProvider { config: config.clone(), ..before.clone() });
        // Names and failovers were checked when the file was read, so neither can be refused here.
        let _ = registry.register(name, kept.unwrap_or_else(|| LocalProvider::new(config, host, http)));
        for central in &config.failover_for {
            let _ = registry.register_failover(central.as_str(), name);
        }
    }
    Arc::new(registry)
}

/// The engines of `before` that `after` does not have.
pub fn dropped(
    before: &ProviderRegistry<LocalProvider>,
    after: &ProviderRegistry<LocalProvider>,
) -> Vec<Engine> {
    let gone = |(name, provider): (&str, &LocalProvider)| match after.provider(name) {
        Some(now) if same_engine(&provider.config, &now.config) => None,
        _ => provider.engine.clone(),
    };
    before.providers().filter_map(gone).collect()
}

fn same_engine(a: &ProviderConfig, b: &ProviderConfig) -> bool {
    a.kind == b.kind
}

/// Checks the engines of a configuration, as far as that does not depend on the machine.
///
/// # Errors
/// The first thing that is wrong, with its place in the file.
pub fn check(config: &Config, path: &Path) -> Result<(), ConfigError> {
    for provider in &config.providers {
        let Some((spec, options)) = engine_config(provider) else { continue };
        if let Err(error) = spec.validate().and_then(|()| options.check()) {
            return Err(placed(provider, path, &error.into()));
        }
    }
    Ok(())
}

/// What providers lack on this machine now: programs, models, disks, keys. Each with its place in the file.
pub async fn missing(config: &Config, path: &Path) -> Vec<ConfigError> {
    let missing = config.providers.iter().map(|provider| async move {
        let error = lacking(provider).await?;
        Some(placed(provider, path, &error))
    });
    futures::future::join_all(missing).await.into_iter().flatten().collect()
}

/// Logs what providers lack. The agent forwards without them, and checks again when a request needs them.
pub async fn warn_of_missing(config: &Config, path: &Path) {
    for error in missing(config, path).await {
        tracing::warn!(%error, hint = error.hint(), "a local provider is unavailable until what is missing is there");
    }
}

/// What a provider lacks to be used now.
pub async fn lacking(provider: &ProviderConfig) -> Option<Lacking> {
    match engine_config(provider) {
        Some((spec, options)) => Some(spec.check_available(options).await.err()?.into()),
        None => Some(target(provider).err()?.into()),
    }
}

fn placed(provider: &ProviderConfig, path: &Path, error: &Lacking) -> ConfigError {
    let message = format!("provider `{}`: {error}", provider.name);
    let mut hint = error.hint();
    if let (Lacking::Engine(SpecError::NoProgram { .. }), ProviderKind::Managed(managed), Some(hint)) =
        (error, &provider.kind, &mut hint)
        && managed.spec.command.is_none()
        && managed.spec.venv.is_none()
    {
        hint.push_str("; `mcpctl local doctor` shows where it was looked for");
    }
    let error = YamlError { line: provider.line, column: 1, message, hint };
    ConfigError::Wrong { path: path.to_owned(), error }
}

/// The specification and the options of a provider's engine.
pub fn engine_config(provider: &ProviderConfig) -> Option<(&EngineSpec, &EngineOptions)> {
    let ProviderKind::Managed(managed) = &provider.kind else { return None };
    Some((&managed.spec, &managed.options))
}
