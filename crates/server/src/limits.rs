//! The limits of connections and request bodies in both daemons.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use bytesize::ByteSize;
use mcpctl_api::HumanDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::progress::LeastRate;

/// Limits of connections and request bodies. A field that is left out has a safe default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of all listeners together; fewer where the descriptor limit does not allow as many.
    #[serde(deserialize_with = "connections")]
    pub connections: u32,
    /// Connections of one network address (IPv6: of one /64), and of all Unix sockets together [default: half of `connections`].
    #[serde(deserialize_with = "connections_per_peer")]
    pub connections_per_peer: Option<u32>,
    /// From the beginning of a connection to the end of its first request's head.
    #[serde(deserialize_with = "request_head")]
    pub request_head: HumanDuration,
    /// A request's head, each field of it included.
    #[serde(deserialize_with = "head_bytes")]
    pub head_bytes: ByteSize,
    /// Time without a request on a connection that had one, and of which one was authenticated; others have 30 s at most.
    #[serde(deserialize_with = "idle")]
    pub idle: HumanDuration,
    /// Requests at once on one HTTP/2 connection.
    #[serde(deserialize_with = "streams")]
    pub streams: u32,
    /// How long a peer may send or take less than `rate` while the daemon waits for it.
    #[serde(deserialize_with = "stall")]
    pub stall: HumanDuration,
    /// Bytes a second that a peer has to send of a body, and to take of an answer.
    #[serde(deserialize_with = "rate")]
    pub rate: ByteSize,
    /// From a request's head to the end of its body.
    #[serde(deserialize_with = "body_time")]
    pub body_time: HumanDuration,
    /// Request bodies of the whole process in memory; one caller has at most half of it.
    #[serde(deserialize_with = "body_bytes")]
    pub body_bytes: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: None,
            request_head: HumanDuration::from_secs(10),
            head_bytes: ByteSize::kib(32),
            idle: HumanDuration::from_secs(75),
            streams: 100,
            stall: HumanDuration::from_secs(15),
            rate: ByteSize::kib(1),
            body_time: HumanDuration::from_secs(300),
            body_bytes: ByteSize::mib(256),
        }
    }
}

/// The longest that an idle connection without an authenticated request is kept.
const UNAUTHENTICATED_IDLE: HumanDuration = HumanDuration::from_secs(30);

impl Limits {
    /// How long an idle connection that had a request is kept at least.
    pub(crate) fn idle_of(&self, is_authenticated: bool) -> Duration {
        if is_authenticated { self.idle.0 } else { self.idle.min(UNAUTHENTICATED_IDLE).0 }
    }

    pub(crate) fn least_rate(&self) -> LeastRate {
        let per_second = u128::from(self.rate.as_u64());
        let bytes = per_second * self.stall.0.as_millis() / 1000;
        LeastRate { window: self.stall.0, bytes: u64::try_from(bytes).unwrap_or(u64::MAX).max(1) }
    }
}

// INVARIANT 15: zero never means "unlimited", and an absurd value is a typing error.

fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 8..=1_000_000)
}

fn connections_per_peer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    number(from, 1..=1_000_000).map(Some)
}

fn streams<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 1..=1000)
}

fn request_head<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, 300)
}

fn idle<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, 3600)
}

fn stall<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, 300)
}

fn body_time<'de, D: Deserializer<'de>>(from: D) -> Result<HumanDuration, D::Error> {
    duration(from, 3600)
}

fn head_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    byte_size(from, ByteSize::kib(8)..=ByteSize::mib(1))
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    byte_size(from, ByteSize::b(1)..=ByteSize::mib(1))
}

fn body_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    byte_size(from, ByteSize::mib(1)..=ByteSize::tib(1))
}

fn number<'de, D: Deserializer<'de>>(from: D, range: RangeInclusive<u32>) -> Result<u32, D::Error> {
    // Wider than the range, so that the error names the typed value.
    let count = i64::deserialize(from)?;
    match u32::try_from(count) {
        Ok(count) if range.contains(&count) => Ok(count),
        _ => Err(outside(count, range.start(), range.end())),
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D, max_seconds: u64) -> Result<HumanDuration, D::Error> {
    let duration = HumanDuration::deserialize(from)?;
    let (min, max) = (HumanDuration(Duration::from_millis(100)), HumanDuration::from_secs(max_seconds));
    match (min.0..=max.0).contains(&duration.0) {
        true => Ok(duration),
        false => Err(outside(duration, min, max)),
    }
}

/// Reads a size of a range, e.g. `64MiB`.
///
/// # Errors
/// When it is no size, or not in the range.
pub fn byte_size<'de, D: Deserializer<'de>>(
    from: D,
    range: RangeInclusive<ByteSize>,
) -> Result<ByteSize, D::Error> {
    let text = String::deserialize(from)?;
    let size = ByteSize::from_str(&text)
        .map_err(|_| D::Error::custom(format!("`{text}` is not a size; write e.g. `64MiB`")))?;
    match range.contains(&size) {
        true => Ok(size),
        false => Err(outside(&text, range.start().display().iec(), range.end().display().iec())),
    }
}

fn outside<E: serde::de::Error>(value: impl Display, min: impl Display, max: impl Display) -> E {
    E::custom(format!("`{value}` is not between {min} and {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Limits, String> {
        mcpctl_api::yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn omitted_fields_have_defaults() {
        assert_eq!(parse("{}").unwrap(), Limits::default());
        let some = parse("connections: 100\nstall: 5s\nbodyBytes: 64MiB\n").unwrap();
        let expected = Limits {
            connections: 100,
            stall: HumanDuration::from_secs(5),
            body_bytes: ByteSize::mib(64),
            ..Limits::default()
        };
        assert_eq!(some, expected);
    }

    #[test]
    fn zero_and_absurd_values_are_errors_with_a_position() {
        for (bad, typed) in [
            ("connections: 0", "`0`"),
            ("connections: -1", "`-1`"),
            ("connectionsPerPeer: 99999999", "`99999999`"),
            ("streams: 0", "`0`"),
            ("requestHead: 0s", "`0s`"),
            ("idle: 20000d", "`20000d`"),
            ("stall: 0s", "`0s`"),
            ("bodyTime: 0s", "`0s`"),
            ("rate: 0B", "`0B`"),
            ("bodyBytes: 1KiB", "`1KiB`"),
            ("headBytes: much", "`much`"),
        ] {
            let error = parse(&format!("{bad}\n")).unwrap_err();
            assert!(error.starts_with("1:") && error.contains(typed), "{bad}: {error}");
        }
        assert!(parse("conections: 5\n").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn rate_is_measured_over_the_stall_time() {
        let limits = parse("stall: 500ms\nrate: 10KiB\n").unwrap();
        assert_eq!(limits.least_rate(), LeastRate { window: Duration::from_millis(500), bytes: 5120 });
    }
}
