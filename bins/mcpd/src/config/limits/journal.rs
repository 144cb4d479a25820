//! What agents may hand over of their journals.

use std::{num::NonZeroU32, time::Duration};

use bytesize::ByteSize;
use mcpctl_api::HumanDuration;
use serde::{Deserialize, Deserializer};

use super::bounds::Rate;

/// Default maximum of agents of one account: machines of one person, and a build system that makes new ones.
const AGENTS: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// What agents may hand over of their journals.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JournalLimits {
    /// Lines of one account [default: {burst: 10000, every: 10ms}].
    pub lines: Rate,
    /// Bytes that one account adds to the audit on one day (UTC), rows about gaps and forks included.
    #[serde(deserialize_with = "bytes")]
    pub per_day: ByteSize,
    /// Bytes that one account has in the audit, until the retention removes them.
    #[serde(deserialize_with = "bytes")]
    pub total: ByteSize,
    /// Agents of one account; one that hands over nothing for 30 days is forgotten [default: 256].
    pub agents: NonZeroU32,
}

impl Default for JournalLimits {
    fn default() -> Self {
        // A full journal of an agent takes about half of a day's bytes, and ten minutes.
        let every = HumanDuration(Duration::from_millis(10));
        Self {
            lines: Rate { burst: 10_000, every },
            per_day: ByteSize::mib(128),
            total: ByteSize::gib(1),
            agents: AGENTS,
        }
    }
}

/// The largest batch has 2 MiB, every byte of which may be stored as six, and 1000 rows: smaller limits would refuse it for ever.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    mcpctl_server::byte_size(from, ByteSize::mib(16)..=ByteSize::tib(1))
}
