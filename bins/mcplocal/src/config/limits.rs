//! The key `limits`: bounds of the work that callers can cause, one group per concern, as in mcpd's configuration. Every
//! limit has a safe default.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::provider::MemorySize;

/// Minimum size of the journal, bytes: a few hundred lines.
const MIN_JOURNAL: MemorySize = MemorySize(64 << 10);
/// Maximum size of the journal, bytes.
const MAX_JOURNAL: MemorySize = MemorySize(64 << 30);
/// Maximum of refusals per minute with a line of their own.
const MAX_REFUSALS: u32 = 10_000;

/// Every limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections and bodies.
    pub http: mcpctl_server::Limits,
    /// The journal.
    pub journal: JournalLimits,
}

/// The size of the journal. Takes effect at the start of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JournalLimits {
    /// Bytes of both files together; beyond it the oldest lines are dropped [default: 32MiB].
    #[serde(deserialize_with = "max_size")]
    pub max_size: MemorySize,
    /// Refusals with a line of their own, per minute; the others are summed in one line.
    #[serde(deserialize_with = "refusals")]
    pub refusals_per_minute: u32,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { max_size: MemorySize(32 << 20), refusals_per_minute: 60 }
    }
}

/// INVARIANT 15: no limit is zero or absurd.
fn max_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemorySize, D::Error> {
    let size = MemorySize::deserialize(deserializer)?;
    match (MIN_JOURNAL..=MAX_JOURNAL).contains(&size) {
        true => Ok(size),
        false => Err(D::Error::custom(format!("`{size}` is not between {MIN_JOURNAL} and {MAX_JOURNAL}"))),
    }
}

fn refusals<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let count = u32::deserialize(deserializer)?;
    match (1..=MAX_REFUSALS).contains(&count) {
        true => Ok(count),
        false => Err(D::Error::custom(format!("`{count}` is not between 1 and {MAX_REFUSALS}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn wrong_limits_of_the_journal_are_errors_with_their_place() {
        for (limits, expected) in [
            ("{maxSize: 1KiB}", "2:29: `1.0 KiB` is not between 64.0 KiB and 64.0 GiB"),
            ("{maxSize: 0}", "2:29: "),
            ("{refusalsPerMinute: 0}", "2:39: `0` is not between 1 and 10000"),
            ("{refusalsPerMinute: 4294967295}", "2:39: "),
            ("{size: 1MiB}", "2:20: unknown field `size`"),
        ] {
            let text = format!("server: https://mcpd.example.com\nlimits: {{journal: {limits}}}\n");
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
