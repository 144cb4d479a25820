//! The local providers as they run: servers that are there anyway, and engines that the agent starts.

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use mcpctl_api::yaml::YamlError;

use mcpctl_engine::{
    Endpoint, Engine, EngineGuard, EngineHost, EngineKind, EngineOptions, EngineSpec, Need, Placement,
};
use mcpctl_failover::{LocalError, ProviderRegistry};
use mcpctl_upstream::{Peer, Target, Timeouts};
use tokio::time::Instant;

use crate::config::{Config, ConfigError, ManagedKind, Prewarm, Provider, ProviderKind, Swap};

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

/// A provider that can be asked.
#[derive(Clone)]
pub struct Running {
    /// What the configuration says.
    pub provider: Provider,
    /// Its engine, where the agent starts it.
    pub engine: Option<Engine>,
}

/// A provider that is ready, for as long as this is held.
pub struct Ready {
    /// Where the request goes.
    pub target: Target,
    /// Keeps the engine from being stopped.
    pub guard: Option<EngineGuard>,
}

impl Running {
    /// How long a request waits for a start. The start ends by itself before that, and tells why it failed; but it may
    /// have to wait for room first.
    fn patience(&self) -> Duration {
        match &self.provider.kind {
            ProviderKind::Managed(managed) => managed.start_timeout.0.saturating_mul(2),
            ProviderKind::Openai { .. } => Duration::ZERO,
        }
    }

    /// Makes the provider ready; starts its engine where need be.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn ready(&self) -> Result<Ready, LocalError> {
        match (&self.provider.kind, &self.engine) {
            (ProviderKind::Openai { url, model }, _) => {
                let model = Some(model.clone());
                let target = Target {
                    base_url: url.clone(),
                    model,
                    credential: None,
                    timeouts: LOCAL,
                    peer: Peer::Provider,
                };
                Ok(Ready { target, guard: None })
            }
            (ProviderKind::Managed(_), Some(engine)) => {
                let guard = engine
                    .ensure_ready(Instant::now() + self.patience())
                    .await
                    .map_err(|error| LocalError(error.to_string()))?;
                let Endpoint { base_url, api_key, model } = guard.endpoint();
                let target = Target {
                    base_url: base_url.clone(),
                    model: Some(model.clone()),
                    credential: Some(api_key.clone()),
                    timeouts: LOCAL,
                    peer: Peer::Provider,
                };
                Ok(Ready { target, guard: Some(guard) })
            }
            (ProviderKind::Managed(_), None) => Err(LocalError("the provider has no engine".to_owned())),
        }
    }
}

/// Builds the registry of a configuration. Engines whose configuration is the same as in `before` go on as they are.
pub fn registry(
    config: &Config,
    host: &EngineHost,
    before: Option<&ProviderRegistry<Running>>,
) -> Arc<ProviderRegistry<Running>> {
    let mut registry = ProviderRegistry::default();
    for provider in &config.providers {
        let name = provider.name.as_str();
        let kept = before
            .and_then(|before| before.provider(name))
            .filter(|running| same_engine(&running.provider, provider))
            .and_then(|running| running.engine.clone());
        let engine = kept.or_else(|| {
            spec(provider).map(|(spec, options)| Engine::with_options(spec, options, host.clone()))
        });
        // Names and stand-ins were checked when the file was read, so neither can be refused here.
        let _ = registry.register(name, Running { provider: provider.clone(), engine });
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
        let checked = spec(provider).map(|(spec, options)| spec.check().and_then(|()| options.check()));
        if let Some(Err(error)) = checked {
            let message = format!("provider `{}`: {error}", provider.name);
            let error = YamlError { line: provider.line, column: 1, message, hint: error.hint() };
            return Err(ConfigError::Wrong { path: path.to_owned(), error });
        }
    }
    Ok(())
}

/// How a managed provider is started.
fn spec(provider: &Provider) -> Option<(EngineSpec, EngineOptions)> {
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
