//! The tokens that a server reports for an answer.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{lenient, usage::Usage};

/// Usage as a server reports it; `None` in an unknown form, because no answer is rejected for its token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportedUsage(pub(crate) Option<Usage>);

impl<'de> Deserialize<'de> for ReportedUsage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(lenient::object::<WireUsage>(written.get().as_bytes()).map(Usage::from)))
    }
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        let input = wire.prompt_tokens_details.as_ref();
        Self {
            input_tokens: wire.prompt_tokens,
            output_tokens: wire.completion_tokens.unwrap_or(0),
            cached_input_tokens: input.and_then(|of| of.cached_tokens).unwrap_or(0),
            cache_write_input_tokens: input.and_then(|of| of.cache_write_tokens).unwrap_or(0),
            reasoning_tokens: wire.completion_tokens_details.and_then(|of| of.reasoning_tokens).unwrap_or(0),
        }
    }
}
