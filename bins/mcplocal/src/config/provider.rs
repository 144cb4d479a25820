//! One provider, checked: a local model server that the agent starts, or that is already running. `entry` reads it.

mod entry;

use std::{fmt, path::PathBuf, str::FromStr};

use bytesize::ByteSize;
use mcpctl_api::{HumanDuration, Name};
use mcpctl_dialect::Dialect;
use mcpctl_engine::{EngineOptions, EngineSpec};
use serde::Deserialize;
use url::Url;

use crate::capabilities::Capabilities;

use super::primary::{FailoverConfig, PrimaryConfig};
use entry::ProviderType;
pub(super) use entry::{Groups, ProviderEntry, check};

/// A provider, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    /// Unique in the file.
    pub name: Name,
    /// Whether the agent starts it.
    pub kind: ProviderKind,
    /// Central Llms from which requests may fall back to it.
    pub failover_for: Vec<Name>,
    /// Timeouts and breaker of the primary, for these Llms.
    pub primary: PrimaryConfig,
    /// Which failures of the primary fall back to it.
    pub failover: FailoverConfig,
    /// Fields of requests that choose a model by themselves, and are allowed.
    pub allow_fields: Vec<String>,
    /// Whether streams are asked to count usage.
    pub stream_usage: bool,
    /// The capabilities of its model that the file declares.
    pub declared: Capabilities,
    /// Its line in the file, from 1.
    pub line: u64,
}

/// Whether the agent starts a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderKind {
    /// A server that is already running.
    Running {
        /// Whose API it has.
        api: Dialect,
        /// Its base address.
        url: Url,
        /// The model's name in requests to it; `None` for the only one that it serves.
        model: Option<String>,
        /// The file of its key.
        key_file: Option<PathBuf>,
    },
    /// Started by the agent.
    Managed(Box<ManagedEngine>),
}

/// An engine that the agent starts.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedEngine {
    /// What a start needs.
    pub spec: EngineSpec,
    /// What has a default.
    pub options: EngineOptions,
    /// When it is started before a request needs it.
    pub prewarm: Prewarm,
}

/// When an engine is started before a request needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prewarm {
    /// Never: the first request that needs it starts it.
    #[default]
    Never,
    /// When the primary is slow or fails, and the caller may use it.
    OnTrouble,
    /// With the agent, and it keeps running.
    Always,
}

/// What an engine does when it is idle or preempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// It stops.
    #[default]
    Stop,
    /// It sleeps: its weights go to main memory, from which it wakes quickly.
    Standby,
}

/// When a start without waiters is abandoned: `10s`, or `never`.
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
        // A number alone would be bytes, which is never meant.
        let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        match bytes.filter(|_| has_unit) {
            Some(bytes) => Ok(Self(bytes.as_u64())),
            None => Err(format!("`{text}` is not an amount of memory; write e.g. `18GiB`")),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

impl ProviderConfig {
    /// The dialect of its server.
    pub const fn dialect(&self) -> Dialect {
        match &self.kind {
            ProviderKind::Running { api, .. } => *api,
            ProviderKind::Managed(_) => Dialect::Openai,
        }
    }

    /// The configured model.
    pub fn model(&self) -> Option<&str> {
        match &self.kind {
            ProviderKind::Running { model, .. } => model.as_deref(),
            ProviderKind::Managed(managed) => Some(&managed.spec.model),
        }
    }

    /// When it is started before a request needs it.
    pub fn prewarm(&self) -> Prewarm {
        match &self.kind {
            ProviderKind::Running { .. } => Prewarm::Never,
            ProviderKind::Managed(managed) => managed.prewarm,
        }
    }

    /// Its `type` in the configuration.
    pub fn type_word(&self) -> String {
        match &self.kind {
            ProviderKind::Running { api, .. } => ProviderType::Running(*api).to_string(),
            ProviderKind::Managed(managed) => ProviderType::Managed(managed.spec.server).to_string(),
        }
    }
}
