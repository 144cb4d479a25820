//! The local providers as they run: servers that are there anyway, and engines that the agent starts.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use mcpctl_api::yaml::YamlError;

use mcpctl_engine::{
    Endpoint, Engine, EngineError, EngineGuard, EngineHost, EngineOptions, EngineSpec, EngineState, SpecError,
};
use mcpctl_failover::{LocalCause, LocalError, ProviderRegistry};
use mcpctl_telemetry::{Configured, McplocalMetrics};
use mcpctl_upstream::{AttemptTimeouts, Target, UpstreamKind};
use tokio::time::Instant;

use crate::{
    capabilities::{Capabilities, ModelCache, ModelInfo, ModelProbe, Needs},
    config::{Config, ConfigError, ManagedEngine, Prewarm, ProviderConfig, ProviderKind},
    meter::Meter,
    prewarm::{self, PrewarmState},
};

/// Patience with a model on this machine: it may be slow, but it is never far.
const LOCAL_TIMEOUTS: AttemptTimeouts = AttemptTimeouts {
    connect: Duration::from_secs(2),
    response: Duration::from_secs(120),
    answer: Duration::from_secs(600),
    first_token: Duration::from_secs(120),
    idle: Duration::from_secs(60),
};

/// A provider that can be asked. Clones are the same one.
#[derive(Clone)]
pub struct LocalProvider {
    /// What the configuration says.
    pub provider: ProviderConfig,
    /// Its engine, where the agent starts it.
    pub engine: Option<Engine>,
    /// What its server says of itself.
    pub known: ModelCache,
    /// How fast it is.
    pub meter: Meter,
    /// Whether it is being made ready ahead of need.
    pub warming: PrewarmState,
    /// Whether somebody stopped it by hand.
    pub by_hand: Arc<AtomicBool>,
    /// Whether its server refused `stream_options`.
    pub refuses_usage: Arc<AtomicBool>,
    /// The last start that was counted.
    counted: Arc<AtomicU32>,
}

/// A provider that is ready, for as long as this is held.
pub struct ReadyProvider {
    /// Which.
    pub running: LocalProvider,
    /// Where the request goes.
    pub target: Target,
    /// Keeps the engine from being stopped.
    pub guard: Option<EngineGuard>,
}

/// Why a provider is not ready.
pub enum NotReady {
    /// Another configuration has no use for its engine.
    Retired,
    /// It cannot be, or lacks what the request needs.
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
    /// Of a provider that nothing is known of yet; begins what is to begin with the agent.
    fn new(provider: &ProviderConfig, host: &EngineHost, http: &reqwest::Client) -> Self {
        let engine = engine_config(provider)
            .map(|(spec, options)| Engine::with_options(spec.clone(), options.clone(), host.clone()));
        let running = Self {
            provider: provider.clone(),
            engine,
            known: ModelCache::default(),
            meter: Meter::default(),
            warming: PrewarmState::default(),
            by_hand: Arc::default(),
            refuses_usage: Arc::default(),
            counted: Arc::default(),
        };
        if let Some(target) = target(&running.provider) {
            running.known.refresh(&ModelProbe::new(http, &target));
        }
        if let (Some(engine), Prewarm::Always) = (&running.engine, provider.prewarm()) {
            tokio::spawn(prewarm::keep(engine.clone(), Arc::clone(&running.by_hand)));
        }
        running
    }

    /// Counts its engine's start, unless somebody else who waited for it has.
    pub fn count_start(&self, metrics: &McplocalMetrics, ready: bool) {
        let Some(engine) = &self.engine else { return };
        let starts = engine.status().starts;
        if self.counted.fetch_max(starts, Ordering::AcqRel) < starts {
            let name = Configured::resolved(self.provider.name.as_str());
            metrics.engine_start(name, if ready { "ready" } else { "failed" });
        }
    }

    /// How long a request waits for its turn. A start ends by itself before that, and tells why it failed; but it may
    /// have to wait for room first, and others may be first at a ready engine.
    pub fn wait_timeout(&self) -> Duration {
        match &self.provider.kind {
            ProviderKind::Managed(managed) => {
                managed.spec.start_timeout.saturating_mul(2).saturating_add(LOCAL_TIMEOUTS.answer)
            }
            ProviderKind::Openai { .. } => Duration::ZERO,
        }
    }

    /// What keeps its engine from being started now; an engine that runs needs nothing more.
    pub async fn unavailable(&self) -> Option<SpecError> {
        let down = [EngineState::Stopped, EngineState::BackingOff, EngineState::Failed];
        match down.contains(&self.engine.as_ref()?.status().state) {
            true => lacking(&self.provider).await,
            false => None,
        }
    }

    /// What its model can do, as far as anybody said.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities_with(self.known.last().as_deref())
    }

    fn capabilities_with(&self, found: Option<&ModelInfo>) -> Capabilities {
        let found = found.map(|found| found.capabilities).unwrap_or_default();
        self.provider.declared.or(by_arguments(&self.provider)).or(found)
    }

    /// Makes the provider ready for a request that needs this; starts its engine where need be.
    ///
    /// # Errors
    /// Why it cannot be, or what its model lacks.
    pub async fn ready(&self, http: &reqwest::Client, needs: Needs) -> Result<ReadyProvider, NotReady> {
        // Before an engine is started for nothing.
        self.suffices(needs, self.known.fresh().as_deref())?;
        let (mut target, guard) = match (target(&self.provider), &self.engine) {
            (Some(target), _) => (target, None),
            (None, Some(engine)) => {
                self.by_hand.store(false, Ordering::Release);
                let guard = engine.ensure_ready(Instant::now() + self.wait_timeout()).await?;
                (managed_target(guard.endpoint()), Some(guard))
            }
            (None, None) => return Err(LocalError::failed("the provider has no engine").into()),
        };
        // An engine's own connections lead to its socket, if it has one.
        let http = guard.as_ref().map_or(http, |guard| &guard.endpoint().http);
        let asked = ModelProbe::new(http, &target);
        let mut found = self.known.get(&asked).await;
        // What it said a while ago, it may say no more.
        if found.as_deref().is_ok_and(|found| self.suffices(needs, Some(found)).is_err()) {
            found = self.known.anew(&asked).await;
        }
        match found {
            Ok(found) => {
                self.suffices(needs, Some(&found))?;
                target.model = target.model.or_else(|| found.model.clone());
            }
            // One that does not tell may answer all the same.
            Err(_) if target.model.is_some() => {}
            Err(reason) => {
                return Err(LocalError::failed(format!("its models cannot be listed: {reason}")).into());
            }
        }
        if target.model.is_none() {
            self.known.forget();
            let reason = "it serves not exactly one model, and the configuration names none";
            return Err(LocalError::failed(reason).into());
        }
        Ok(ReadyProvider { running: self.clone(), target, guard })
    }

    fn suffices(&self, needs: Needs, found: Option<&ModelInfo>) -> Result<(), LocalError> {
        match self.capabilities_with(found).lacks(needs) {
            None => Ok(()),
            Some(word) => Err(LocalError {
                cause: LocalCause::Lacks(word),
                reason: format!("its model lacks what the request needs: {word}"),
            }),
        }
    }
}

/// Where a server that runs anyway is asked.
pub fn target(provider: &ProviderConfig) -> Option<Target> {
    let ProviderKind::Openai { url, model } = &provider.kind else { return None };
    let (base_url, model) = (url.clone(), model.clone());
    Some(Target {
        base_url,
        socket: None,
        model,
        credential: None,
        timeouts: LOCAL_TIMEOUTS,
        kind: UpstreamKind::Provider,
    })
}

fn managed_target(endpoint: &Endpoint) -> Target {
    let Endpoint { base_url, socket, api_key, model, .. } = endpoint.clone();
    let (model, credential) = (Some(model), Some(api_key));
    let socket = socket.map(|socket| socket.path().to_owned());
    Target { base_url, socket, model, credential, timeouts: LOCAL_TIMEOUTS, kind: UpstreamKind::Provider }
}

/// Capabilities that depend on the arguments of an engine, and that a running server does not report. Unknown where a script
/// starts the server, because its own arguments are hidden.
fn by_arguments(provider: &ProviderConfig) -> Capabilities {
    let ProviderKind::Managed(managed) = &provider.kind else { return Capabilities::default() };
    let ManagedEngine { spec, options, .. } = managed.as_ref();
    let flags = spec.server.capability_flags();
    let is_script = spec.command.as_ref().is_some_and(|command| !command.ends_with(spec.server.program()));
    let shown = |flags: &[&str]| {
        if flags.is_empty() || options.env.iter().any(|(name, _)| spec.server.has_variable_for(name, flags)) {
            return None;
        }
        // Python's argparse accepts underscores for hyphens.
        let mut given = options.extra_args.iter().map(|argument| argument.replace('_', "-"));
        let is_given = given.any(|argument| flags.contains(&argument.as_str()));
        (is_given || !is_script).then_some(is_given)
    };
    Capabilities { tools: shown(flags.tools), embeddings: shown(flags.embeddings), ..Capabilities::default() }
}

/// Builds the registry of a configuration. Engines whose configuration is the same as in `before` go on as they are.
pub fn registry(
    config: &Config,
    host: &EngineHost,
    http: &reqwest::Client,
    before: Option<&ProviderRegistry<LocalProvider>>,
) -> Arc<ProviderRegistry<LocalProvider>> {
    let mut registry = ProviderRegistry::default();
    for provider in &config.providers {
        let name = provider.name.as_str();
        let kept = before
            .and_then(|before| before.provider(name))
            .filter(|running| same_engine(&running.provider, provider))
            .map(|running| LocalProvider { provider: provider.clone(), ..running.clone() });
        // Names and stand-ins were checked when the file was read, so neither can be refused here.
        let _ = registry.register(name, kept.unwrap_or_else(|| LocalProvider::new(provider, host, http)));
        for central in &provider.failover_for {
            let _ = registry.register_failover(central.as_str(), name);
        }
    }
    Arc::new(registry)
}

/// The engines of `before` that `after` has no more use for.
pub fn dropped(
    before: &ProviderRegistry<LocalProvider>,
    after: &ProviderRegistry<LocalProvider>,
) -> Vec<Engine> {
    let gone = |(name, running): (&str, &LocalProvider)| match after.provider(name) {
        Some(now) if same_engine(&running.provider, &now.provider) => None,
        _ => running.engine.clone(),
    };
    before.providers().filter_map(gone).collect()
}

fn same_engine(a: &ProviderConfig, b: &ProviderConfig) -> bool {
    a.kind == b.kind
}

/// Whether what the file writes of engines can be right, whatever the machine has.
///
/// # Errors
/// The first thing that is wrong, with its place in the file.
pub fn check(config: &Config, path: &Path) -> Result<(), ConfigError> {
    for provider in &config.providers {
        let Some((spec, options)) = engine_config(provider) else { continue };
        if let Err(error) = spec.validate().and_then(|()| options.check()) {
            return Err(placed(provider, path, &error));
        }
    }
    Ok(())
}

/// What engines lack that may come back: programs, models, disks. Each with its place in the file.
pub async fn missing(config: &Config, path: &Path) -> Vec<ConfigError> {
    let missing = config.providers.iter().map(|provider| async move {
        let error = lacking(provider).await?;
        Some(placed(provider, path, &error))
    });
    futures::future::join_all(missing).await.into_iter().flatten().collect()
}

/// Logs what engines lack; the agent forwards without them, and looks again when they are needed.
pub async fn warn_of_missing(config: &Config, path: &Path) {
    for error in missing(config, path).await {
        tracing::warn!(%error, hint = error.hint(), "a local provider is unavailable until that is there");
    }
}

/// What keeps a provider's engine from being started now.
pub async fn lacking(provider: &ProviderConfig) -> Option<SpecError> {
    let (spec, options) = engine_config(provider)?;
    spec.check_available(options).await.err()
}

fn placed(provider: &ProviderConfig, path: &Path, error: &SpecError) -> ConfigError {
    let message = format!("provider `{}`: {error}", provider.name);
    let mut hint = error.hint();
    if let (SpecError::NoProgram { .. }, ProviderKind::Managed(managed), Some(hint)) =
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
