//! What a limit may be: zero is never "unlimited", and what is out of all proportion is a typing error (INVARIANT 15).

use std::{fmt::Display, time::Duration};

use mcpctl_api::HumanDuration;
use serde::{Deserialize, Deserializer};

/// So many at once, and one more each time that `every` has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// How many at once.
    #[serde(deserialize_with = "burst")]
    pub burst: u32,
    /// The time in which one more is earned.
    #[serde(deserialize_with = "every")]
    pub every: HumanDuration,
}

impl Rate {
    /// A rate that the program knows.
    pub const fn new(burst: u32, every_seconds: u64) -> Self {
        Self { burst, every: HumanDuration::from_secs(every_seconds) }
    }
}

fn burst<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 1, 1_000_000)
}

fn every<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, Duration::from_millis(10), Duration::from_secs(3600))
}

/// Reads a number between two others.
pub fn number<'de, D: Deserializer<'de>>(from: D, least: u32, most: u32) -> Result<u32, D::Error> {
    // Wider than the range, so that the error repeats what was typed.
    let typed = i64::deserialize(from)?;
    match u32::try_from(typed) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(outside(typed, least, most)),
    }
}

/// Reads a length of time between two others.
pub fn duration<'de, D: Deserializer<'de>>(
    from: D,
    least: Duration,
    most: Duration,
) -> Result<HumanDuration, D::Error> {
    let typed = HumanDuration::deserialize(from)?;
    if (least..=most).contains(&typed.0) {
        Ok(typed)
    } else {
        Err(outside(typed, HumanDuration(least), HumanDuration(most)))
    }
}

fn outside<E: serde::de::Error>(typed: impl Display, least: impl Display, most: impl Display) -> E {
    E::custom(format!("`{typed}` is not between {least} and {most}"))
}
