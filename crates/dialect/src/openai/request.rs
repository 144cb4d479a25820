//! The fields of a chat completion, completion or embeddings request that decisions depend on.

use bytes::Bytes;

use super::messages::{self, ContentPart};
use crate::{
    fields::{Edit, Fields},
    object::Object,
    presence::Presence,
    request_error::RequestError,
    wants::Wants,
};

/// The keys that decisions depend on.
pub(crate) const DECIDED: [&str; 12] = [
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

/// The same, of `stream_options`.
const DECIDED_OF_STREAM: [&str; 1] = ["include_usage"];

/// How many choices the request asks for.
pub(crate) fn choices(object: &Object<'_>) -> Result<u64, RequestError> {
    let wrong = RequestError::Wrong { param: "n", expected: "a whole number of at least 1" };
    match object.number("n")? {
        None => Ok(1),
        Some(number) => number.as_u64().filter(|n| *n > 0).ok_or(wrong),
    }
}

/// Whether the request asks for usage in its stream.
pub(crate) fn includes_usage(object: &Object<'_>) -> Result<bool, RequestError> {
    match object.object("stream_options", &DECIDED_OF_STREAM)? {
        Some(options) => options.bool("include_usage", "stream_options.include_usage"),
        None => Ok(false),
    }
}

/// What the request needs of the model.
pub(crate) fn wants(fields: &Fields) -> Wants {
    let messages = fields.get("messages");
    let parts = messages.map(messages::parts).unwrap_or_default();
    let is_present = |name| fields.read(name).is_some_and(|Presence(any)| any);
    let is_none = |name| fields.get(name) == Some("\"none\"");
    // A list may be many prompts.
    let prompt = fields.get("prompt").filter(|prompt| prompt.starts_with('"'));
    Wants {
        tools: (is_present("tools") && !is_none("tool_choice"))
            || (is_present("functions") && !is_none("function_call")),
        images: parts.iter().any(ContentPart::is_image),
        prefill: messages.is_some_and(messages::ends_with_assistant),
        text_bytes: parts.iter().map(ContentPart::text_bytes).sum::<usize>() + prompt.map_or(0, str::len),
    }
}

/// Sets `stream_options.include_usage`; its other members stay.
pub(crate) fn ask_for_usage(fields: &Fields) -> Option<Edit> {
    let value = match fields.get("stream_options") {
        None => r#"{"include_usage":true}"#.to_owned(),
        Some(written) => {
            let body = Bytes::copy_from_slice(written.as_bytes());
            let object = Object::read(&body, &DECIDED_OF_STREAM).ok()?;
            let options = Fields::new(body.clone(), &object, &DECIDED_OF_STREAM);
            let edited = options.with(&[Edit { name: "include_usage", value: "true".to_owned() }]);
            String::from_utf8(edited.to_vec()).ok()?
        }
    };
    Some(Edit { name: "stream_options", value })
}
