//! The token counts in an answer or in the events of a stream.

use serde::Deserialize;
use serde_json::Value;

use crate::usage::Usage;

/// The counts so far. `message_start` and `message_delta` have some each, and each count is of the whole answer so far, so
/// that a later one replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    uncached: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<WireOutput>,
}

#[derive(Deserialize)]
struct WireOutput {
    #[serde(default)]
    thinking_tokens: Option<u64>,
}

impl Counts {
    /// Takes the counts of a `usage`. Returns the usage so far; `None` where there is no `usage`, or one in an unknown form,
    /// because no answer is rejected for its token counts.
    pub(crate) fn take(&mut self, usage: Option<Value>) -> Option<Usage> {
        let wire: WireUsage = serde_json::from_value(usage?).ok()?;
        let keep = |count: &mut Option<u64>, new: Option<u64>| *count = new.or(*count);
        keep(&mut self.uncached, wire.input_tokens);
        keep(&mut self.cached, wire.cache_read_input_tokens);
        keep(&mut self.cache_write, wire.cache_creation_input_tokens);
        keep(&mut self.output, wire.output_tokens);
        keep(&mut self.reasoning, wire.output_tokens_details.and_then(|of| of.thinking_tokens));
        if self.uncached.is_none() && self.output.is_none() {
            return None;
        }
        let (cached, cache_write) = (self.cached.unwrap_or(0), self.cache_write.unwrap_or(0));
        Some(Usage {
            // `input_tokens` counts only what the prompt cache neither read nor wrote.
            input_tokens: self.uncached.unwrap_or(0).saturating_add(cached).saturating_add(cache_write),
            output_tokens: self.output.unwrap_or(0),
            cached_input_tokens: cached,
            cache_write_input_tokens: cache_write,
            reasoning_tokens: self.reasoning.unwrap_or(0),
        })
    }
}
