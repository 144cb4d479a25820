//! One entry of `providers`, checked: a local model server, started by the agent or running already. How it is written is
//! in `entry`.

mod entry;

use std::{fmt, num::NonZeroU32, path::PathBuf, str::FromStr};

use bytesize::ByteSize;
use mcpctl_api::{HumanDuration, Name};
use mcpctl_engine::EngineEnv;
use serde::Deserialize;
use url::Url;

use crate::capabilities::Capabilities;

pub(super) use entry::{Groups, ProviderEntry, check};

/// A provider, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    /// Unique in the file.
    pub name: Name,
    /// What it is.
    pub kind: ProviderKind,
    /// Central Llms that it can stand in for.
    pub failover_for: Vec<Name>,
    /// Fields of requests that choose a model by themselves, and may go to it all the same.
    pub allow_fields: Vec<String>,
    /// Whether usage is asked for in streams.
    pub stream_usage: bool,
    /// What its model can do, where the file says it.
    pub declared: Capabilities,
    /// Where it stands in the file.
    pub line: u64,
}

/// What a provider is.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderKind {
    /// Runs already, and speaks OpenAI's API.
    Openai {
        /// Its base address.
        url: Url,
        /// The model's name in requests to it; where it is not said, the only one that it serves.
        model: Option<String>,
    },
    /// Started by the agent.
    Managed(Box<Managed>),
}

/// What a server is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// Which server.
    pub kind: ManagedKind,
    /// A file, a directory, or for vLLM a name on the hub.
    pub model: String,
    /// The program, where it is not found by itself.
    pub command: Option<PathBuf>,
    /// Where `vllm` is installed.
    pub venv: Option<PathBuf>,
    /// Most tokens of prompt and answer together.
    pub context_length: Option<u32>,
    /// Share of the GPU's memory, 0 to 1.
    pub gpu_memory_utilization: Option<f64>,
    /// GPUs that vLLM spreads the model over.
    pub tensor_parallel_size: Option<NonZeroU32>,
    /// vLLM's type of numbers.
    pub dtype: Option<String>,
    /// vLLM's kind of quantization.
    pub quantization: Option<String>,
    /// Variables besides those that are inherited.
    pub env: EngineEnv,
    /// Arguments after the agent's own.
    pub extra_args: Vec<String>,
    /// After so long without a request it rests.
    pub idle_timeout: HumanDuration,
    /// How long a start may take.
    pub start_timeout: HumanDuration,
    /// When a start that nobody waits for is broken off.
    pub abandon_after: AbandonAfter,
    /// Requests at once.
    pub concurrency: Option<NonZeroU32>,
    /// Requests that may wait while so many run.
    pub queue: u32,
    /// What it does when its memory is wanted, or nobody uses it.
    pub swap: Swap,
    /// How long it sleeps until it is stopped.
    pub standby_timeout: HumanDuration,
    /// When it is started before it is needed.
    pub prewarm: Prewarm,
    /// Engines of one group share a GPU's memory.
    pub group: String,
    /// How much memory it needs.
    pub memory: Option<MemorySize>,
    /// How much there is for its group.
    pub group_memory: Option<MemorySize>,
}

/// A server that the agent can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagedKind {
    /// `vllm serve`.
    Vllm,
    /// llama.cpp's `llama-server`.
    LlamaServer,
}

/// When an engine is started before it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prewarm {
    /// By the first request that may use it.
    #[default]
    Never,
    /// When the primary shows trouble, and a caller may use it.
    OnTrouble,
    /// With the agent, and it is kept.
    Always,
}

/// What an engine does when its memory is wanted, or nobody uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// It stops.
    #[default]
    Stop,
    /// It sleeps: weights go to the machine's memory, and it is back soon.
    Standby,
}

/// When a start that nobody waits for is broken off: `10s`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AbandonAfter(pub Option<HumanDuration>);

impl Default for AbandonAfter {
    fn default() -> Self {
        Self(Some(HumanDuration::from_secs(10)))
    }
}

impl TryFrom<String> for AbandonAfter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "never" => Ok(Self(None)),
            _ => HumanDuration::from_str(&text)
                .map(|time| Self(Some(time)))
                .map_err(|_| format!("`{text}` is neither a length of time, such as `10s`, nor `never`")),
        }
    }
}

/// An amount of memory, bytes: `18GiB`, `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct MemorySize(pub u64);

impl TryFrom<String> for MemorySize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = ByteSize::from_str(&text).ok().filter(|bytes| bytes.as_u64() > 0);
        // A number alone would be bytes, which nobody means.
        let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        match bytes.filter(|_| has_unit) {
            Some(bytes) => Ok(Self(bytes.as_u64())),
            None => Err(format!("`{text}` is no amount of memory; write e.g. `18GiB`")),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

impl ProviderConfig {
    /// The model, as the configuration says it.
    pub fn model(&self) -> Option<&str> {
        match &self.kind {
            ProviderKind::Openai { model, .. } => model.as_deref(),
            ProviderKind::Managed(managed) => Some(&managed.model),
        }
    }

    /// When it is started before it is needed.
    pub fn prewarm(&self) -> Prewarm {
        match &self.kind {
            ProviderKind::Openai { .. } => Prewarm::Never,
            ProviderKind::Managed(managed) => managed.prewarm,
        }
    }

    /// Its type, as the configuration says it.
    pub fn type_word(&self) -> &'static str {
        match &self.kind {
            ProviderKind::Openai { .. } => "openai",
            ProviderKind::Managed(managed) => match managed.kind {
                ManagedKind::Vllm => "vllm-managed",
                ManagedKind::LlamaServer => "llama-server-managed",
            },
        }
    }
}
