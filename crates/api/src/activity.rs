//! What Llms are doing, as `GET /api/v1/llm-activity` shows it: counts since the start of the replica that answers. Two answers of one
//! replica give rates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Id, Name, breaker_status::LlmState};

/// `GET /api/v1/llm-activity`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Names the process that answers. After its restart it is another one.
    pub replica: String,
    /// How long it runs.
    pub up_millis: u64,
    /// The Llms that the caller may view, by name.
    pub items: Vec<LlmActivity>,
}

/// What one Llm has done. A request that falls back counts at each Llm that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmActivity {
    /// The Llm's id.
    #[schema(value_type = String)]
    pub id: Id,
    /// Its name.
    #[schema(value_type = String)]
    pub llm: Name,
    /// How it does.
    pub state: LlmState,
    /// Its counts.
    #[serde(flatten)]
    pub counts: ActivityCounts,
}

/// Counts of all accounts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityCounts {
    /// Requests that have ended.
    pub requests: u64,
    /// Of those, the ones that failed. One that its caller cancelled did not.
    pub failures: u64,
    /// Of those, the ones in which the Llm was tried in place of another one.
    pub fallbacks: u64,
    /// Input tokens of requests that have ended.
    pub input_tokens: u64,
    /// Output tokens. Those of a stream count as they arrive, an event with content as one; what the provider counts replaces that at
    /// its end.
    pub output_tokens: u64,
    /// Streams that have had a first token.
    pub first_tokens: u64,
    /// The time from the request to the first token, of all of them together.
    pub first_token_micros: u64,
    /// Requests that the Llm is answering now.
    pub running: u64,
    /// Of those, the streams.
    pub streams: u64,
}
