//! Bounds of limits: zero is never "unlimited", and an absurd value is rejected as a typing error (INVARIANT 15).

use std::{fmt::Display, time::Duration};

use mcpctl_api::HumanDuration;
use serde::{Deserialize, Deserializer};

/// A burst, and one more event each time that `every` has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Events that may happen at once.
    #[serde(deserialize_with = "burst")]
    pub burst: u32,
    /// The time after which one more event is allowed.
    #[serde(deserialize_with = "every")]
    pub every: HumanDuration,
}

impl Rate {
    /// A rate of the program itself.
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

/// Parses a number of a range.
pub fn number<'de, D: Deserializer<'de>>(from: D, min: u32, max: u32) -> Result<u32, D::Error> {
    // Wider than the range, so that the error repeats what was typed.
    let typed = i64::deserialize(from)?;
    match u32::try_from(typed) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(outside(typed, min, max)),
    }
}

/// Parses a duration of a range.
pub fn duration<'de, D: Deserializer<'de>>(
    from: D,
    min: Duration,
    max: Duration,
) -> Result<HumanDuration, D::Error> {
    let typed = HumanDuration::deserialize(from)?;
    if (min..=max).contains(&typed.0) {
        Ok(typed)
    } else {
        Err(outside(typed, HumanDuration(min), HumanDuration(max)))
    }
}

fn outside<E: serde::de::Error>(typed: impl Display, min: impl Display, max: impl Display) -> E {
    E::custom(format!("`{typed}` is not between {min} and {max}"))
}
