//! What a local model can do, and whether that is enough for a request. Capabilities come from the configuration, else
//! from the server itself (`model_probe`). Where one is unknown, the server decides.

mod model_cache;
mod model_probe;

use mcpctl_dialect::{ExtraOperations, Operation, Request, Wants};
use serde::Deserialize;

pub use mcpctl_api::agent::Capabilities;
pub use model_cache::ModelCache;
pub use model_probe::{ModelInfo, ModelProbe, ModelProbeError, reported};

/// Maximum of bytes of a text for one token: English has about 4.5, code 3.5, Chinese written as `\uXXXX` 6.
const BYTES_PER_TOKEN: u64 = 6;

/// A capability that the configuration may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// It calls tools.
    Tools,
    /// It reads images.
    Vision,
    /// It continues an answer that has begun.
    Prefill,
    /// It computes embeddings.
    Embeddings,
    /// Its server serves `/v1/messages` and `/v1/messages/count_tokens`.
    Messages,
    /// Its server serves `/v1/responses`.
    Responses,
}

/// The declared capabilities. A list is complete: the model lacks what is not on it.
pub fn declared(list: Option<&[Capability]>, context_length: Option<u32>) -> Capabilities {
    let has = |capability| list.map(|list| list.contains(&capability));
    Capabilities {
        tools: has(Capability::Tools),
        vision: has(Capability::Vision),
        prefill: has(Capability::Prefill),
        embeddings: has(Capability::Embeddings),
        messages: has(Capability::Messages),
        responses: has(Capability::Responses),
        // Where it is not declared, the server is asked: an estimate is what callers get otherwise.
        counts_tokens: has(Capability::Messages).filter(|messages| *messages),
        context_length,
    }
}

/// The word for a prompt that is too long.
pub const CONTEXT_LENGTH: &str = "context_length";

/// The word for a request with a field that the provider's `allowFields` does not name.
pub const ALLOW_FIELDS: &str = "allow_fields";

/// The word for a request that cannot be translated into the dialect of the provider's server.
pub const TRANSLATION: &str = "translation";

/// What a server with these capabilities serves besides chat completions. What it is not known to serve is translated.
pub fn extra_operations(capabilities: Capabilities) -> ExtraOperations {
    ExtraOperations {
        messages: capabilities.messages == Some(true),
        responses: capabilities.responses == Some(true),
        count_tokens: capabilities.counts_tokens == Some(true),
    }
}

/// The capabilities that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    tools: bool,
    vision: bool,
    prefill: bool,
    embeddings: bool,
    /// Minimum of tokens of its prompt.
    tokens: u64,
}

impl Needs {
    /// The first capability that the request needs and a model lacks, as a word. Unknown ones are not lacking.
    pub fn lacking_in(self, model: Capabilities) -> Option<&'static str> {
        let no = |needed: bool, has: Option<bool>| needed && has == Some(false);
        let too_long = model.context_length.is_some_and(|length| self.tokens > u64::from(length));
        [
            ("tools", no(self.tools, model.tools)),
            ("vision", no(self.vision, model.vision)),
            ("prefill", no(self.prefill, model.prefill)),
            ("embeddings", no(self.embeddings, model.embeddings)),
            (CONTEXT_LENGTH, too_long),
        ]
        .into_iter()
        .find_map(|(word, lacking)| lacking.then_some(word))
    }

    /// The capabilities that a request needs.
    pub fn of(request: &Request) -> Self {
        let Wants { tools, images, prefill, text_bytes } = request.wants();
        Self {
            tools,
            vision: images,
            prefill,
            embeddings: request.operation == Operation::Embeddings,
            tokens: u64::try_from(text_bytes).unwrap_or(u64::MAX) / BYTES_PER_TOKEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(operation: Operation, body: &str) -> Needs {
        Needs::of(&Request::read(operation, body.to_owned().into()).unwrap())
    }

    #[test]
    fn only_what_is_known_to_be_lacking_is_lacking() {
        let tools = needs(Operation::Chat, r#"{"model":"m","tools":[{"type":"function"}]}"#);
        assert_eq!(tools.lacking_in(Capabilities::default()), None);
        assert_eq!(tools.lacking_in(declared(Some(&[Capability::Vision]), None)), Some("tools"));
        assert_eq!(tools.lacking_in(declared(Some(&[Capability::Tools]), None)), None);
        let embeddings = needs(Operation::Embeddings, r#"{"model":"m","input":"x"}"#);
        assert_eq!(embeddings.lacking_in(declared(Some(&[]), None)), Some("embeddings"));
        let plain = needs(Operation::Chat, r#"{"model":"m","messages":[]}"#);
        assert_eq!(plain.lacking_in(declared(Some(&[]), None)), None);
    }

    #[test]
    fn only_a_prompt_that_cannot_fit_is_found() {
        let long =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(2000));
        let needs = needs(Operation::Chat, &long);
        let with = |length| Capabilities { context_length: Some(length), ..Capabilities::default() };
        assert_eq!(needs.lacking_in(with(1024)), Some(CONTEXT_LENGTH));
        assert_eq!(needs.lacking_in(with(2048)), None, "it may fit: the server decides");
    }

    #[test]
    fn declared_capabilities_come_before_the_servers() {
        let declared = Capabilities { tools: Some(true), ..Capabilities::default() };
        let found = Capabilities { tools: Some(false), vision: Some(false), ..Capabilities::default() };
        let both = declared.or(found);
        assert_eq!((both.tools, both.vision, both.prefill), (Some(true), Some(false), None));
    }
}
