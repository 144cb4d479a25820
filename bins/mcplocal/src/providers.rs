//! The local providers as they run: servers that are there anyway, and engines that the agent starts.

use std::{
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcpctl_api::yaml::YamlError;

use mcpctl_engine::{
    Endpoint, Engine, EngineError, EngineGuard, EngineHost, EngineKind, EngineOptions, EngineSpec, Need,
    Placement, SpecError,
};
use mcpctl_failover::{LocalCause, LocalError, ProviderRegistry};
use mcpctl_upstream::{Peer, Target, Timeouts};
use tokio::time::Instant;

use crate::{
    capabilities::{Asked, Capabilities, Known, Needs},
    config::{Config, ConfigError, ManagedKind, Prewarm, Provider, ProviderKind, Swap},
    meter::Meter,
    prewarm::{self, Warming},
};

/// What vLLM takes of a GPU's memory where nothing is said (its documentation of `--gpu-memory-utilization`).
const VLLM_SHARE: f64 = 0.9;

/// Patience with a model on this machine: it may be slow, but it is never far.
const LOCAL: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    response: Duration::from_secs(120),
    answer: Duration::from_secs(600),
    first_token: Duration::from_secs(120),
    idle: Duration::from_secs(60),
};

/// A provider that can be asked. Clones are the same one.
#[derive(Clone)]
pub struct Running {
    /// What the configuration says.
    pub provider: Provider,
    /// Its engine, where the agent starts it.
    pub engine: Option<Engine>,
    /// What its server says of itself.
    pub known: Known,
    /// How fast it is.
    pub meter: Meter,
    /// Whether it is being made ready ahead of need.
    pub warming: Warming,
    /// Whether somebody stopped it by hand.
    pub by_hand: Arc<AtomicBool>,
}

/// A provider that is ready, for as long as this is held.
pub struct Ready {
    /// Where the request goes.
    pub target: Target,
    /// Keeps the engine from being stopped.
    pub guard: Option<EngineGuard>,
}

impl Running {
    /// Of a provider that nothing is known of yet; begins what is to begin with the agent.
    fn new(provider: &Provider, host: &EngineHost, http: &reqwest::Client) -> Self {
        let engine = spec(provider).map(|(spec, options)| Engine::with_options(spec, options, host.clone()));
        let running = Self {
            provider: provider.clone(),
            engine,
            known: Known::default(),
            meter: Meter::default(),
            warming: Warming::default(),
            by_hand: Arc::default(),
        };
        if let Some(target) = target(&running.provider) {
            running.known.refresh(&Asked::new(http, &target));
        }
        if let (Some(engine), Prewarm::Always) = (&running.engine, provider.prewarm()) {
            tokio::spawn(prewarm::keep(engine.clone(), Arc::clone(&running.by_hand)));
        }
        running
    }

    /// How long a request waits for a start. The start ends by itself before that, and tells why it failed; but it may
    /// have to wait for room first.
    pub fn patience(&self) -> Duration {
        match &self.provider.kind {
            ProviderKind::Managed(managed) => managed.start_timeout.0.saturating_mul(2),
            ProviderKind::Openai { .. } => Duration::ZERO,
        }
    }

    /// What its model can do, as far as anybody said.
    pub fn capabilities(&self) -> Capabilities {
        let found = self.known.last().map(|found| found.capabilities).unwrap_or_default();
        self.provider.declared.or(by_arguments(&self.provider)).or(found)
    }

    /// Makes the provider ready for a request that needs this; starts its engine where need be.
    ///
    /// # Errors
    /// Why it cannot be, or what its model lacks.
    pub async fn ready(&self, http: &reqwest::Client, needs: Needs) -> Result<Ready, LocalError> {
        // Before an engine is started for nothing.
        self.suffices(needs)?;
        let (mut target, guard) = match (target(&self.provider), &self.engine) {
            (Some(target), _) => (target, None),
            (None, Some(engine)) => {
                self.by_hand.store(false, Ordering::Release);
                let guard = engine.ensure_ready(Instant::now() + self.patience()).await.map_err(not_ready)?;
                (managed_target(guard.endpoint()), Some(guard))
            }
            (None, None) => return Err(LocalError::failed("the provider has no engine")),
        };
        let asked = Asked::new(http, &target);
        match self.known.get(&asked).await {
            Ok(found) => {
                self.suffices(needs)?;
                target.model = target.model.or_else(|| found.model.clone());
            }
            // One that does not tell may answer all the same.
            Err(_) if target.model.is_some() => {}
            Err(reason) => {
                return Err(LocalError::failed(format!("its models cannot be listed: {reason}")));
            }
        }
        if target.model.is_none() {
            self.known.forget();
            return Err(LocalError::failed(
                "it serves not exactly one model, and the configuration names none",
            ));
        }
        Ok(Ready { target, guard })
    }

    fn suffices(&self, needs: Needs) -> Result<(), LocalError> {
        match self.capabilities().lacks(needs) {
            None => Ok(()),
            Some(word) => Err(LocalError {
                cause: LocalCause::Lacks(word),
                reason: format!("its model lacks what the request needs: {word}"),
            }),
        }
    }
}

/// Where a server that runs anyway is asked.
pub fn target(provider: &Provider) -> Option<Target> {
    let ProviderKind::Openai { url, model } = &provider.kind else { return None };
    let (base_url, model) = (url.clone(), model.clone());
    Some(Target { base_url, model, credential: None, timeouts: LOCAL, peer: Peer::Provider })
}

fn managed_target(endpoint: &Endpoint) -> Target {
    let Endpoint { base_url, api_key, model } = endpoint.clone();
    Target { base_url, model: Some(model), credential: Some(api_key), timeouts: LOCAL, peer: Peer::Provider }
}

fn not_ready(error: EngineError) -> LocalError {
    let cause = match error {
        EngineError::Busy { retry_after, .. } => LocalCause::Busy { retry_after },
        _ => LocalCause::Failed,
    };
    LocalError { cause, reason: error.to_string() }
}

/// What the arguments say of a server that the agent starts, and that it does not tell when it is asked.
fn by_arguments(provider: &Provider) -> Capabilities {
    let ProviderKind::Managed(managed) = &provider.kind else { return Capabilities::default() };
    let has =
        |flags: &[&str]| Some(managed.extra_args.iter().any(|argument| flags.contains(&argument.as_str())));
    match managed.kind {
        ManagedKind::LlamaServer => {
            Capabilities { embeddings: has(&["--embedding", "--embeddings"]), ..Capabilities::default() }
        }
        ManagedKind::Vllm => {
            Capabilities { tools: has(&["--enable-auto-tool-choice"]), ..Capabilities::default() }
        }
    }
}

/// Builds the registry of a configuration. Engines whose configuration is the same as in `before` go on as they are.
pub fn registry(
    config: &Config,
    host: &EngineHost,
    http: &reqwest::Client,
    before: Option<&ProviderRegistry<Running>>,
) -> Arc<ProviderRegistry<Running>> {
    let mut registry = ProviderRegistry::default();
    for provider in &config.providers {
        let name = provider.name.as_str();
        let kept = before
            .and_then(|before| before.provider(name))
            .filter(|running| same_engine(&running.provider, provider))
            .map(|running| Running { provider: provider.clone(), ..running.clone() });
        // Names and stand-ins were checked when the file was read, so neither can be refused here.
        let _ = registry.register(name, kept.unwrap_or_else(|| Running::new(provider, host, http)));
        for central in &provider.failover_for {
            let _ = registry.register_failover(central.as_str(), name);
        }
    }
    Arc::new(registry)
}

/// The engines of `before` that `after` has no more use for.
pub fn dropped(before: &ProviderRegistry<Running>, after: &ProviderRegistry<Running>) -> Vec<Engine> {
    let gone = |(name, running): (&str, &Running)| match after.provider(name) {
        Some(now) if same_engine(&running.provider, &now.provider) => None,
        _ => running.engine.clone(),
    };
    before.providers().filter_map(gone).collect()
}

fn same_engine(a: &Provider, b: &Provider) -> bool {
    a.kind == b.kind
}

/// Whether everything is there that the engines of a configuration need: programs and models.
///
/// # Errors
/// The first thing that is missing, with its place in the file.
pub fn check(config: &Config, path: &Path) -> Result<(), ConfigError> {
    for provider in &config.providers {
        let Some((spec, options)) = spec(provider) else { continue };
        if let Err(error) = spec.check().and_then(|()| options.check()) {
            let message = format!("provider `{}`: {error}", provider.name);
            let mut hint = error.hint();
            if let (SpecError::NoProgram { .. }, None, None, Some(hint)) =
                (&error, &spec.command, &spec.venv, &mut hint)
            {
                hint.push_str("; `mcpctl local doctor` shows where it was looked for");
            }
            let error = YamlError { line: provider.line, column: 1, message, hint };
            return Err(ConfigError::Wrong { path: path.to_owned(), error });
        }
    }
    Ok(())
}

/// How a managed provider is started.
pub fn spec(provider: &Provider) -> Option<(EngineSpec, EngineOptions)> {
    let ProviderKind::Managed(managed) = &provider.kind else { return None };
    let spec = EngineSpec {
        name: provider.name.to_string(),
        kind: match managed.kind {
            ManagedKind::Vllm => EngineKind::Vllm,
            ManagedKind::LlamaServer => EngineKind::LlamaServer,
        },
        model: managed.model.clone(),
        command: managed.command.clone(),
        venv: managed.venv.clone(),
        context_length: managed.context_length,
        gpu_memory_utilization: managed.gpu_memory_utilization,
        tensor_parallel_size: managed.tensor_parallel_size,
        dtype: managed.dtype.clone(),
        quantization: managed.quantization.clone(),
        idle_timeout: managed.idle_timeout.0,
        start_timeout: managed.start_timeout.0,
    };
    let need = match (managed.memory, managed.kind) {
        (Some(memory), _) => Need::Bytes(memory.0),
        (None, ManagedKind::Vllm) => Need::Share {
            of: managed.gpu_memory_utilization.unwrap_or(VLLM_SHARE),
            gpus: managed.tensor_parallel_size.map_or(1, NonZeroU32::get),
        },
        (None, ManagedKind::LlamaServer) => Need::Unknown,
    };
    let options = EngineOptions {
        extra_args: managed.extra_args.clone(),
        env: managed.env.clone(),
        concurrency: Some(managed.concurrency),
        queue: Some(managed.queue),
        placement: Placement {
            group: managed.group.clone(),
            need,
            capacity: managed.group_memory.map(|memory| memory.0),
        },
        standby: managed.swap == Swap::Standby,
        keep: managed.prewarm == Prewarm::Always,
        abandon_after: managed.abandon_after.0.map(|time| time.0),
        ..EngineOptions::default()
    };
    Some((spec, options))
}
