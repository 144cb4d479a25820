//! How much of what happened is kept, and for how long.

use std::time::Duration;

use mcpctl_api::HumanDuration;
use serde::{Deserialize, Deserializer};

use super::bounds::{Rate, duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Audit and usage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordLimits {
    /// How long audit rows are kept.
    #[serde(deserialize_with = "retention")]
    pub audit: HumanDuration,
    /// How long usage rows are kept.
    #[serde(deserialize_with = "retention")]
    pub usage: HumanDuration,
    /// Denials and probes of one credential, and refused logins of one network, that have a row of their own; more are
    /// summed.
    pub rows: Rate,
    /// How long what is summed is counted before its row is stored.
    #[serde(deserialize_with = "window")]
    pub window: HumanDuration,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self {
            audit: HumanDuration(DAY * 400),
            usage: HumanDuration(DAY * 400),
            rows: Rate::new(100, 5),
            window: HumanDuration::from_secs(300),
        }
    }
}

fn retention<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, Duration::from_secs(3600), DAY * 10_000)
}

fn window<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, Duration::from_secs(1), Duration::from_secs(3600))
}
