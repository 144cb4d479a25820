//! Limits of the work that callers can cause: the key `limits` of the configuration file, one group per concern.

mod bounds;
mod captures;
mod journal;
mod logins;
mod records;

use std::num::NonZeroU32;

use mcpctl_server::Limits as HttpLimits;
use serde::Deserialize;

pub use bounds::Rate;
pub use captures::CaptureLimits;
pub use journal::JournalLimits;
pub use logins::LoginLimits;
pub use records::RecordLimits;

/// All limits; each has a safe default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections and bodies.
    pub http: HttpLimits,
    /// Attempts to sign in.
    pub logins: LoginLimits,
    /// Rate and retention of audit and usage.
    pub records: RecordLimits,
    /// What agents hand over.
    pub journal: JournalLimits,
    /// Size of captured bodies.
    pub captures: CaptureLimits,
    /// Watches of resources.
    #[serde(deserialize_with = "watches")]
    pub watches: StreamLimits,
    /// Feeds of agents.
    #[serde(deserialize_with = "feeds")]
    pub feeds: StreamLimits,
    /// Changes of resources.
    pub writes: WriteLimits,
    /// Inference requests in flight, until the last byte of their answers.
    #[serde(deserialize_with = "inference")]
    pub inference: StreamLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            journal: JournalLimits::default(),
            http: HttpLimits::default(),
            logins: LoginLimits::default(),
            records: RecordLimits::default(),
            captures: CaptureLimits::default(),
            watches: StreamLimits::WATCHES,
            feeds: StreamLimits::FEEDS,
            writes: WriteLimits::default(),
            inference: StreamLimits::INFERENCE,
        }
    }
}

/// Default maximum of watches of one principal: few programs of one person watch at once.
const WATCHES_PER_PRINCIPAL: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// Default maximum of all watches: each takes a descriptor.
const WATCHES: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// Default maximum of feeds of one principal: one of each machine that a person or a job works on.
const FEEDS_PER_PRINCIPAL: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// Default maximum of all feeds: half of the default of `http.connections`.
const FEEDS: NonZeroU32 = NonZeroU32::new(2048).unwrap();

/// Default maximum of inference requests of one principal in flight: a quarter of all.
const REQUESTS_PER_PRINCIPAL: NonZeroU32 = NonZeroU32::new(1024).unwrap();
/// Default maximum of all inference requests in flight: as many as connections.
const REQUESTS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// Streams, or requests, that are open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of one user or service account.
    pub per_principal: NonZeroU32,
    /// Of all together.
    pub total: NonZeroU32,
}

/// As it is written; what is left out is the default.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct StreamLimitsEntry {
    per_principal: Option<NonZeroU32>,
    total: Option<NonZeroU32>,
}

impl StreamLimits {
    /// The defaults of watches.
    pub const WATCHES: Self = Self { per_principal: WATCHES_PER_PRINCIPAL, total: WATCHES };
    /// The defaults of feeds.
    pub const FEEDS: Self = Self { per_principal: FEEDS_PER_PRINCIPAL, total: FEEDS };
    /// The defaults of inference requests.
    pub const INFERENCE: Self = Self { per_principal: REQUESTS_PER_PRINCIPAL, total: REQUESTS };

    fn read<'de, D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        let StreamLimitsEntry { per_principal, total } = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            per_principal: per_principal.unwrap_or(self.per_principal),
            total: total.unwrap_or(self.total),
        })
    }
}

fn watches<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<StreamLimits, D::Error> {
    StreamLimits::WATCHES.read(deserializer)
}

fn inference<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<StreamLimits, D::Error> {
    StreamLimits::INFERENCE.read(deserializer)
}

fn feeds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<StreamLimits, D::Error> {
    StreamLimits::FEEDS.read(deserializer)
}

/// Changes of resources.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WriteLimits {
    /// Writes of one principal per second, in the long run.
    #[serde(deserialize_with = "more_than_zero")]
    pub per_second: u32,
    /// Writes of one principal at once, before the rate counts.
    #[serde(deserialize_with = "more_than_zero")]
    pub burst: u32,
    /// Writes of one principal that are in progress or wait.
    #[serde(deserialize_with = "more_than_zero")]
    pub in_progress: u32,
}

impl Default for WriteLimits {
    fn default() -> Self {
        Self { per_second: 20, burst: 200, in_progress: 32 }
    }
}

/// INVARIANT 15: zero means neither "none" nor "no limit".
fn more_than_zero<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("a limit is at least 1")),
        limit => Ok(limit),
    }
}
