//! Checks how the keys of a request are spelled, and finds routing keys: those by which an upstream chooses the model, or where
//! the request goes, by itself.
//!
//! The upstream must read the same model as this crate. Go's `encoding/json` matches keys by Unicode simple folding and the
//! last match wins; Python keeps the last of two equal keys; others stop at a NUL, or accept camel case. So a request is
//! rejected unless each key that a decision depends on occurs once at most, spelled as in the documentation of its dialect.

use crate::{members::Member, request_error::RequestError};

/// Routing keys, folded, besides those that [`ROUTING_KEY_PARTS`] finds: they choose the model, its variant, or where the
/// request goes.
const ROUTING_KEYS: [&str; 33] = [
    // OpenRouter and compatible gateways.
    "route",
    "router",
    "provider",
    "providers",
    "preset",
    "plugins",
    // LiteLLM's proxy. `engine` and `deployment_id` are OpenAI's and Azure's older names of a model.
    "apibase",
    "apikey",
    "apitype",
    "apiversion",
    "baseurl",
    "customllmprovider",
    "deploymentid",
    "engine",
    "extrabody",
    "extraheaders",
    "litellmparams",
    "mockresponse",
    "routersettings",
    "routersettingsoverride",
    "specificdeployment",
    "userconfig",
    "awsbedrockruntimeendpoint",
    "vertexproject",
    "vertexlocation",
    "vertexcredentials",
    // The server from which vLLM fetches a cache.
    "kvtransferparams",
    // Vercel's and orq.ai's gateways; LocalAI.
    "provideroptions",
    "orq",
    "backend",
    // Adapters: another model on the same weights (llama.cpp, SGLang, TGI; MLX below).
    "lora",
    "lorapath",
    "adapterid",
];
/// A folded key that contains one of these is a routing key: `models`, `fallbacks`, `draft_model`,
/// `context_window_fallbacks`, `adapters`, and names that do not exist yet.
const ROUTING_KEY_PARTS: [&str; 3] = ["model", "fallback", "adapters"];

/// How many characters of a key are compared: more than any known key has.
const MAX_KEY: usize = 64;

/// A key as the most lenient parser reads it: up to a NUL, ignoring case in any script, marks, white space, hyphens and
/// underscores. Reused from key to key, because a body may have a million of them.
struct FoldedKey(Vec<u8>);

impl FoldedKey {
    fn new() -> Self {
        Self(Vec::with_capacity(MAX_KEY))
    }

    fn of(key: &str) -> Self {
        let mut folded = Self::new();
        folded.read(key);
        folded
    }

    fn read(&mut self, key: &str) {
        self.0.clear();
        if key.is_ascii() {
            for byte in key.bytes().take_while(|byte| *byte != 0) {
                if byte.is_ascii_alphanumeric() && self.0.len() < MAX_KEY {
                    self.0.push(byte.to_ascii_lowercase());
                }
            }
            return;
        }
        let read = key.chars().take_while(|character| *character != '\0');
        // First upper, then lower case: `ſ` and `ı` have an ASCII upper case only, `K` (Kelvin) an ASCII lower case only.
        let cased = read.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        for character in cased.filter(|character| character.is_alphanumeric()).take(MAX_KEY) {
            self.0.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Whether a documented key, which has lower-case letters, digits and underscores only, folds to the same.
    fn is(&self, documented: &str) -> bool {
        let Self(folded) = self;
        // Most keys differ in their first letter.
        folded.first() == documented.as_bytes().first()
            && documented.bytes().filter(|byte| *byte != b'_').eq(folded.iter().copied())
    }

    fn is_routing_key(&self) -> bool {
        let Self(folded) = self;
        let has = |part: &&str| {
            let mut rests = (0..folded.len()).filter_map(|at| folded.get(at..));
            rests.any(|rest| rest.first() == part.as_bytes().first() && rest.starts_with(part.as_bytes()))
        };
        let listed =
            || ROUTING_KEYS.iter().any(|key| key.as_bytes() == folded) || ROUTING_KEY_PARTS.iter().any(has);
        folded != b"model" && listed()
    }
}

/// The key as an error message repeats it: bounded, with invisible characters escaped.
fn shown(key: &str) -> String {
    key.chars().take(MAX_KEY).flat_map(char::escape_debug).collect()
}

/// The keys of an object, each read once: those that decisions depend on are checked, the routing keys kept.
struct KeyReader<'a> {
    decided: &'a [&'static str],
    seen: Vec<&'static str>,
    key: FoldedKey,
}

impl<'a> KeyReader<'a> {
    fn new(decided: &'a [&'static str]) -> Self {
        Self { decided, seen: Vec::with_capacity(decided.len()), key: FoldedKey::new() }
    }

    /// Rejects a key of `decided` that occurs twice or in another spelling.
    fn read(&mut self, member: &Member<'_>) -> Result<(), RequestError> {
        self.key.read(&member.name);
        let Some(name) = self.decided.iter().copied().find(|name| self.key.is(name)) else { return Ok(()) };
        if member.name != name {
            return Err(RequestError::Spelling { written: shown(&member.name), name });
        }
        if member.escaped {
            return Err(RequestError::Escaped(name));
        }
        if self.seen.contains(&name) {
            return Err(RequestError::Duplicate(name));
        }
        self.seen.push(name);
        Ok(())
    }
}

/// Rejects a key of `decided` that occurs twice or in another spelling.
pub(crate) fn check(members: &[Member<'_>], decided: &[&'static str]) -> Result<(), RequestError> {
    let mut reader = KeyReader::new(decided);
    members.iter().try_for_each(|member| reader.read(member))
}

/// As [`check`], with the routing keys, as the body spells them. One whose value is `null` does not count.
pub(crate) fn check_routed(
    members: &[Member<'_>],
    decided: &[&'static str],
) -> Result<Vec<String>, RequestError> {
    let mut reader = KeyReader::new(decided);
    let mut routing = Vec::new();
    for member in members {
        reader.read(member)?;
        if member.value != "null" && reader.key.is_routing_key() {
            routing.push(shown(&member.name));
        }
    }
    Ok(routing)
}

/// Whether a key lets an upstream choose the model, or where the request goes, by itself. A request with such a key is denied
/// unless the Llm's `allowFields` names the key.
///
/// The list covers known servers only: what a model server does with other keys is not known here.
pub fn is_routing_key(key: &str) -> bool {
    FoldedKey::of(key).is_routing_key()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(key: &str) -> String {
        String::from_utf8(FoldedKey::of(key).0).unwrap()
    }

    #[test]
    fn keys_fold_as_the_most_lenient_parser_does() {
        for key in [
            "stream_options",
            "STREAM_OPTIONS",
            "ſtream_optionſ",
            "streamOptions",
            "stream-options",
            "stream_options ",
            "stream_optIons",
            "stream_opt\u{130}ons",
            "stream_opt\u{131}ons",
            "stream_options\0.",
            "stre\u{200b}am_options",
        ] {
            assert_eq!(folded(key), "streamoptions", "{key:?}");
        }
        assert_eq!(folded("to\u{212a}en"), "token");
        assert_eq!(folded("n\u{e5}"), "n\u{e5}", "a letter of another alphabet is a letter");
        assert_eq!(folded("模型"), "模型");
        assert_eq!(folded(&"x".repeat(1000)).len(), MAX_KEY);
    }

    #[test]
    fn routing_keys_are_found_in_every_spelling() {
        for key in [
            "models",
            "Models",
            "fallbacks",
            "context_window_fallbacks",
            "mock_testing_fallbacks",
            "route",
            "provider",
            "providerOptions",
            "api_base",
            "base_url",
            "custom_llm_provider",
            "model_list",
            "mock_response",
            "extra_body",
            "draft_model",
            "lora_path",
            "adapters",
        ] {
            assert!(is_routing_key(key), "{key}");
        }
        for key in [
            "model",
            "messages",
            "modalities",
            "metadata",
            "temperature",
            "response_format",
            "reasoning_effort",
            "reasoning",
            "store",
            "user",
            "seed",
            "service_tier",
            "chat_template_kwargs",
            "guided_json",
            "options",
            "keep_alive",
            "web_search_options",
            "prediction",
            "transforms",
            "input",
            "dimensions",
            "encoding_format",
        ] {
            assert!(!is_routing_key(key), "{key}");
        }
    }
}
