//! What happens where an Llm fails: the breaker that skips it, and the Llms that answer in its place.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timeouts;
use crate::{HumanDuration, Name, spec::FieldError};

/// An Llm that answers where another one fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// The Llm's name. Each caller needs the right to run it; for a caller without the right it is left out.
    #[schema(value_type = String)]
    pub llm: Name,
    /// The failures that lead to it; every class that falls back by default where left out.
    #[serde(default = "FallbackClass::defaults")]
    pub on: Vec<FallbackClass>,
}

/// A class of failure that may lead to a fallback: the provider failed, and not the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackClass {
    /// No connection, or a reset before the first byte of the response.
    Connect,
    /// No response head in time.
    NoResponse,
    /// No content in time.
    NoFirstToken,
    /// A 5xx that the request did not cause.
    ServerError,
    /// 429 of the provider.
    RateLimited,
    /// The provider refused the credential.
    UpstreamCredentials,
    /// The provider does not have the model.
    ModelUnavailable,
    /// The prompt is too long for the model; only where it is listed.
    ContextLength,
}

impl FallbackClass {
    /// The classes of an entry without `on`: all but the length of the prompt.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::Connect,
            Self::NoResponse,
            Self::NoFirstToken,
            Self::ServerError,
            Self::RateLimited,
            Self::UpstreamCredentials,
            Self::ModelUnavailable,
        ]
    }
}

/// What becomes of an answer whose stream breaks after its first content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MidStream {
    /// It ends with an error.
    #[default]
    Error,
    /// The next upstream answers anew. What equals the delivered part is swallowed, and what follows is delivered; at the first
    /// difference the answer ends with the error.
    Restart,
    /// An upstream with the capability `prefill` continues the delivered part; where there is none, or it refuses, as `restart`.
    Continue,
}

impl MidStream {
    /// Whether it is the default.
    pub fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

/// When an upstream that keeps failing is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Breaker {
    /// Consecutive failures that open it; at least 1.
    pub failures: u32,
    /// How long it stays open; then one request tries the upstream.
    pub open: HumanDuration,
}

/// The defaults of docs/reference/contract.md.
impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 3, open: HumanDuration::from_secs(10) }
    }
}

impl Breaker {
    /// Whether it has the defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(self) -> Result<(), FieldError> {
        if self.failures == 0 {
            return Err(FieldError::new("breaker.failures", "it opens after at least 1 failure"));
        }
        if self.open.is_zero() || self.open > Timeouts::MAX {
            let message = format!("it stays open for more than zero and at most {}", Timeouts::MAX);
            return Err(FieldError::new("breaker.open", message));
        }
        Ok(())
    }
}

/// The most fallbacks of one Llm.
const MAX_FALLBACKS: usize = 8;

/// Checks what an Llm's own document shows; whether its fallbacks exist is not known here.
pub(super) fn validate(fallbacks: &[Fallback], mid_stream: MidStream) -> Result<(), FieldError> {
    if fallbacks.is_empty() && !mid_stream.is_error() {
        return Err(FieldError::new(
            "midStream",
            "there is no Llm in `fallbacks` that could go on with an answer",
        )
        .hint("name one in `fallbacks`, or leave `midStream` out"));
    }
    if fallbacks.len() > MAX_FALLBACKS {
        return Err(FieldError::new("fallbacks", format!("at most {MAX_FALLBACKS} Llms may be named")));
    }
    let mut llms = HashSet::new();
    for (at, Fallback { llm, on }) in fallbacks.iter().enumerate() {
        if !llms.insert(llm) {
            return Err(FieldError::new(format!("fallbacks[{at}].llm"), format!("`{llm}` is named twice"))
                .hint("list all its classes in one `on`"));
        }
        let mut classes = HashSet::new();
        let field = format!("fallbacks[{at}].on");
        if on.is_empty() {
            return Err(
                FieldError::new(field, "no failure leads to it").hint("leave `on` out for the defaults")
            );
        }
        if on.iter().any(|class| !classes.insert(class)) {
            return Err(FieldError::new(field, "a class is named twice"));
        }
    }
    Ok(())
}
