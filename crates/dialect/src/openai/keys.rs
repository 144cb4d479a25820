//! How the keys of a request are spelled, and which of them let an upstream choose the model by itself.
//!
//! Two readers of one text must not differ. Go's `encoding/json` matches keys by Unicode simple folding and the last
//! match wins; Python keeps the last of two equal keys; others stop at a NUL, or accept camel case. So a key that a
//! decision is made by stands in a request once, spelled as in OpenAI's documentation, or the request is refused.

use super::request::RequestError;
use crate::members::Member;

/// The keys that decisions are made by.
pub(super) const DECIDED: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "messages",
    "prompt",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
];

/// The same of `stream_options`.
pub(super) const DECIDED_OF_STREAM: [&str; 1] = ["include_usage"];

/// Folded keys by which an upstream chooses the model, its variant, or where a request goes, besides those that name a
/// model or a fallback.
const CHOOSING: [&str; 33] = [
    // OpenRouter and what is compatible with it.
    "route",
    "router",
    "provider",
    "providers",
    "preset",
    "plugins",
    // LiteLLM's proxy; `engine` and `deployment_id` are OpenAI's and Azure's older names of a model.
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
    // Where vLLM fetches a cache from.
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
/// Parts of folded keys that choose: `models`, `fallbacks`, `draft_model`, `context_window_fallbacks`, `adapters`, and
/// what comes next year.
const CHOOSING_PARTS: [&str; 3] = ["model", "fallback", "adapters"];

/// Characters of a key that are looked at: more than any key has that a server knows.
const MAX_KEY: usize = 64;

/// The key as the most lenient reader takes it: up to a NUL, without regard to case in any script, to marks, blanks,
/// hyphens and underscores.
fn folded(key: &str) -> String {
    let mut folded = String::with_capacity(MAX_KEY);
    fold(key, &mut folded);
    folded
}

/// As [`folded`], in a buffer that is used again: a body may have a million keys.
fn fold(key: &str, folded: &mut String) {
    folded.clear();
    if key.is_ascii() {
        let read = key.bytes().take_while(|byte| *byte != 0).filter(u8::is_ascii_alphanumeric);
        folded.extend(read.take(MAX_KEY).map(|byte| char::from(byte.to_ascii_lowercase())));
        return;
    }
    let read = key.chars().take_while(|character| *character != '\0');
    // Upper case first: `ſ` becomes S and `ı` becomes I by that way only, `K` (Kelvin) becomes k by the other only.
    let cased = read.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.extend(cased.filter(|character| character.is_alphanumeric()).take(MAX_KEY));
}

/// The key as an error may repeat it: bounded, and without characters that are not seen.
fn shown(key: &str) -> String {
    key.chars().take(MAX_KEY).flat_map(char::escape_debug).collect()
}

/// Refuses a key that is given twice, or spelled in another way than a key of `decided`.
pub(super) fn check(members: &[Member<'_>], decided: &[&'static str]) -> Result<(), RequestError> {
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

/// Whether a key of a request lets an upstream choose the model, or where the request goes, by itself. Such keys are
/// refused unless an Llm's `allowFields` names them.
///
/// A list of what is known, by necessity: what the model server itself reads decides in the end.
pub fn is_routing_key(key: &str) -> bool {
    chooses(&folded(key))
}

fn chooses(folded: &str) -> bool {
    let listed = || CHOOSING.contains(&folded) || CHOOSING_PARTS.iter().any(|part| folded.contains(part));
    folded != "model" && listed()
}

/// Those keys of an object that [`is_routing_key`] names and that ask for something: `null` does not.
pub(super) fn routing_keys(members: &[Member<'_>]) -> Vec<String> {
    let mut key = String::with_capacity(MAX_KEY);
    let chooses = |member: &&Member<'_>| {
        fold(&member.name, &mut key);
        member.value != "null" && chooses(&key)
    };
    members.iter().filter(chooses).map(|member| shown(&member.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fold_as_the_most_lenient_reader_folds_them() {
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
    fn keys_that_choose_are_known_in_every_spelling() {
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
