//! Size of what Llms with `capture` keep.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

/// Size of captured bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaptureLimits {
    /// Maximum size of `captures.jsonl`; its predecessor has as many bytes.
    #[serde(deserialize_with = "file_bytes")]
    pub file_bytes: ByteSize,
    /// What is kept of each body.
    #[serde(deserialize_with = "body_bytes")]
    pub body_bytes: ByteSize,
}

impl Default for CaptureLimits {
    fn default() -> Self {
        Self { file_bytes: ByteSize::mib(32), body_bytes: ByteSize::kib(256) }
    }
}

fn file_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    mcpctl_server::byte_size(from, ByteSize::mib(1)..=ByteSize::tib(1))
}

/// A queue of captures waits in memory, so that their bodies are far smaller than the bodies of requests may be.
fn body_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    mcpctl_server::byte_size(from, ByteSize::kib(1)..=ByteSize::mib(4))
}
