//! What handlers know of a request, for its line in the access log and for its span.

use std::borrow::Cow;

use mcpctl_dialect::usage::Usage;

/// The fields that handlers add. Texts may come from callers: they are shortened and escaped when the line is written.
#[derive(Debug, Clone, Default)]
pub struct AccessLine {
    /// The caller's account; at the agent, the signed-in user or a digest of the bearer.
    pub principal: Option<String>,
    /// `gen_ai.operation.name`.
    pub operation: Option<&'static str>,
    /// The Llm that the caller named.
    pub llm: Option<String>,
    /// The Llm or the local provider that answered.
    pub served_by: Option<String>,
    /// Host and port of the target that was asked last, where the Llm has several.
    pub upstream: Option<String>,
    /// The class of a failure, also of one after the first byte.
    pub class: Option<Cow<'static, str>>,
    /// The class of the primary's failure, where a local provider answered.
    pub failover: Option<String>,
    /// Attempts, the failed ones included.
    pub attempts: Option<u32>,
    /// The answering model's own count.
    pub usage: Option<Usage>,
    /// In US dollars.
    pub cost: Option<f64>,
    /// Whether a local provider of the agent's answered.
    pub local: bool,
    /// Whether its bodies are kept.
    pub captured: bool,
}
