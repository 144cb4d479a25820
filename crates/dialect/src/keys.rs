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

/// The key as the most lenient parser reads it: up to a NUL, ignoring case in any script, marks, white space, hyphens and
/// underscores.
fn folded(key: &str) -> String {
    let mut folded = String::with_capacity(MAX_KEY);
    fold(key, &mut folded);
    folded
}

/// As [`folded`], into a buffer that the caller reuses, because a body may have a million keys.
fn fold(key: &str, folded: &mut String) {
    folded.clear();
    if key.is_ascii() {
        let read = key.bytes().take_while(|byte| *byte != 0).filter(u8::is_ascii_alphanumeric);
        folded.extend(read.take(MAX_KEY).map(|byte| char::from(byte.to_ascii_lowercase())));
        return;
    }
    let read = key.chars().take_while(|character| *character != '\0');
    // First upper, then lower case: `ſ` and `ı` have an ASCII upper case only, `K` (Kelvin) an ASCII lower case only.
    let cased = read.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.extend(cased.filter(|character| character.is_alphanumeric()).take(MAX_KEY));
}

/// The key as an error message repeats it: bounded, with invisible characters escaped.
fn shown(key: &str) -> String {
    key.chars().take(MAX_KEY).flat_map(char::escape_debug).collect()
}

/// Rejects a key of `decided` that occurs twice or in another spelling.
pub(crate) fn check(members: &[Member<'_>], decided: &[&'static str]) -> Result<(), RequestError> {
    let names: Vec<(String, &'static str)> = decided.iter().map(|name| (folded(name), *name)).collect();
    let mut seen: Vec<&str> = Vec::with_capacity(names.len());
    let mut key = String::with_capacity(MAX_KEY);
    for member in members {
        fold(&member.name, &mut key);
        let Some((_, name)) = names.iter().find(|(folded, _)| *folded == key) else { continue };
        if member.name != *name {
            return Err(RequestError::Spelling { written: shown(&member.name), name });
        }
        if member.escaped {
            return Err(RequestError::Escaped(name));
        }
        if seen.contains(name) {
            return Err(RequestError::Duplicate(name));
        }
        seen.push(name);
    }
    Ok(())
}

/// Whether a key lets an upstream choose the model, or where the request goes, by itself. A request with such a key is denied
/// unless the Llm's `allowFields` names the key.
///
/// The list covers known servers only: what a model server does with other keys is not known here.
pub fn is_routing_key(key: &str) -> bool {
    is_folded_routing_key(&folded(key))
}

fn is_folded_routing_key(folded: &str) -> bool {
    let listed =
        || ROUTING_KEYS.contains(&folded) || ROUTING_KEY_PARTS.iter().any(|part| folded.contains(part));
    folded != "model" && listed()
}

/// The routing keys of an object, as the body spells them. A key whose value is `null` does not count.
pub(crate) fn routing_keys(members: &[Member<'_>]) -> Vec<String> {
    let mut key = String::with_capacity(MAX_KEY);
    let has_effect = |member: &&Member<'_>| {
        fold(&member.name, &mut key);
        member.value != "null" && is_folded_routing_key(&key)
    };
    members.iter().filter(has_effect).map(|member| shown(&member.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
