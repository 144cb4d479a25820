//! Rate, retention and durability of audit and usage.

use std::time::Duration;

use mcpctl_api::HumanDuration;
use mcpctl_store::Durability;
use serde::{Deserialize, Deserializer};

use super::bounds::{Rate, duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Rate, retention and durability of audit and usage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordLimits {
    /// Retention of audit rows [default: 400d].
    #[serde(deserialize_with = "retention")]
    pub audit: HumanDuration,
    /// Retention of usage rows [default: 400d].
    #[serde(deserialize_with = "retention")]
    pub usage: HumanDuration,
    /// Retention of the sums of usage [default: 1100d].
    #[serde(deserialize_with = "retention")]
    pub usage_sums: HumanDuration,
    /// Rate at which denials and probes of one principal, and denied logins of one network, get a row each; more are
    /// summed.
    pub rows: Rate,
    /// How long a sum is counted before its row is stored.
    #[serde(deserialize_with = "window")]
    pub window: HumanDuration,
    /// What an acknowledged row survives [default: crash].
    pub durability: Durability,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self {
            audit: HumanDuration(DAY * 400),
            usage: HumanDuration(DAY * 400),
            usage_sums: HumanDuration(DAY * 1100),
            rows: Rate::new(100, 5),
            window: HumanDuration::from_secs(300),
            durability: Durability::default(),
        }
    }
}

fn retention<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, Duration::from_secs(3600), DAY * 10_000)
}

fn window<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, Duration::from_secs(1), Duration::from_secs(3600))
}
