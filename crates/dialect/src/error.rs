//! Reads the errors of model servers, of any dialect, tolerantly. It reports what a body contains; `mcpctl_upstream::classify`
//! decides on the class of the failure.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    anthropic, lenient,
    meaning::{self, ErrorMeaning},
    openai,
    operation::Dialect,
};

/// The error in an upstream's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// The message. It may quote the prompt, so it goes to the caller and never to a log.
    pub message: Option<String>,
    /// `error.type`, or what a server writes instead.
    pub kind: Option<String>,
    /// `error.code`, numbers as text.
    pub code: Option<String>,
    /// What the error means, where its codes or words show it.
    pub meaning: Option<ErrorMeaning>,
}

/// How many codes, types and reasons of one error are compared, and the bytes of the longest.
const MAX_CODES: usize = 24;
const MAX_CODE_BYTES: usize = 96;

/// How many strings of one error are searched for a refusal of content, their bytes together, and how deep they may be nested.
const MAX_TEXTS: usize = 1024;
const MAX_TEXTS_BYTES: usize = 256 * 1024;
const MAX_TEXTS_DEPTH: u8 = 16;

/// How deep an error may be nested: list, detail, error, object, and a provider's own error inside a router's.
const MAX_DEPTH: u8 = 6;

/// The members that may accompany an error. An object with other members may hold data that callers must not see.
const BESIDE: [&str; 13] = [
    "error",
    "object",
    "message",
    "msg",
    "type",
    "code",
    "param",
    "detail",
    "status",
    "request_id",
    "id",
    "created",
    "user_id",
];

/// The part of an error body that a caller may see: the unchanged body where it is an error in a known shape and nothing
/// else, only the error where the body has other members, and `None` for a body that is not such an error.
pub fn presentable_error(dialect: Dialect, body: &Bytes) -> Option<Bytes> {
    let strict = serde_json::from_slice(body).ok();
    let readable = strict.is_some();
    let value: Value = strict.or_else(|| lenient::value(body))?;
    // A bare string may be anything, not only an error.
    let objects = match &value {
        Value::Array(list) => list.first().is_some_and(Value::is_object),
        value => value.is_object(),
    };
    let error = Some(UpstreamError::of(&value)).filter(|_| objects)?;
    let message = error.message?;
    let only = |value: &Value| {
        value.as_object().is_some_and(|object| object.keys().all(|key| BESIDE.contains(&key.as_str())))
    };
    let known = match &value {
        Value::Array(list) => list.len() == 1 && list.iter().all(only),
        value => only(value),
    };
    // Some servers answer Anthropic's routes with errors in OpenAI's shape, which its clients cannot read.
    let known =
        known && (dialect == Dialect::Openai || value.get("type").is_some_and(|kind| kind == "error"));
    Some(if known && readable {
        body.clone()
    } else {
        error_body(dialect, &message, error.kind.as_deref(), error.code.as_deref(), None)
    })
}

/// Writes an error in the shape of a dialect; `status` is the one that it comes with, where it is known.
pub fn error_body(
    dialect: Dialect,
    message: &str,
    kind: Option<&str>,
    code: Option<&str>,
    status: Option<u16>,
) -> Bytes {
    match dialect {
        Dialect::Openai => openai::error::error_body(message, kind, code),
        Dialect::Anthropic => {
            let kind = anthropic::error::kind(kind, status.unwrap_or(500));
            anthropic::error::error_body(message, kind, code, None)
        }
    }
}

impl UpstreamError {
    /// Reads an error in any of these shapes:
    ///
    /// - `{"error": {"message", "type", "code", "param"}}`: OpenAI, vLLM, llama.cpp (its `code` is the status);
    /// - `{"error": "…"}`: Ollama, vLLM's 401;
    /// - `{"object": "error", "message", "type", "code"}`: vLLM before 0.10, Mistral;
    /// - `{"detail": "…" | [{"msg"}] | {"error": …}}`: FastAPI;
    /// - `[{"error": {…}}]`: Gemini's compatible route;
    /// - `{"type": "error", "error": {"type", "message"}, "request_id"}`: Anthropic;
    /// - `{"message": "…"}`: proxies.
    ///
    /// Any other body gives an error without message, kind and code.
    pub fn read(body: &[u8]) -> Self {
        match lenient::value(body) {
            Some(value) => Self::of(&value),
            None => {
                let start = body.get(..body.len().min(MAX_TEXTS_BYTES)).unwrap_or_default();
                let meaning = meaning::of_text(&String::from_utf8_lossy(start));
                Self { meaning, ..Self::default() }
            }
        }
    }

    /// Reads an error from JSON, in the shapes of [`UpstreamError::read`].
    pub(crate) fn of(value: &Value) -> Self {
        let (mut error, mut codes, mut texts) = (Self::default(), Vec::new(), Texts::default());
        error.take(value, &mut codes, 0);
        texts.collect(value, 0);
        error.meaning = meaning::of(error.message.as_deref(), &codes, &texts.list).or_else(|| routed(value));
        error
    }

    fn take(&mut self, value: &Value, codes: &mut Vec<String>, depth: u8) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Value::String(message) => self.message = Some(message.clone()),
            Value::Array(list) => {
                if let Some(first) = list.first() {
                    self.take(first, codes, depth.saturating_add(1));
                }
            }
            Value::Object(object) => {
                collect_codes(object, codes);
                let choices = || object.get("choices").and_then(Value::as_array).into_iter().flatten();
                let of_choice = || choices().find_map(|choice| present(choice.get("error")));
                let inner = ["error", "detail"].iter().find_map(|name| present(object.get(*name)));
                let inner = inner.or_else(of_choice);
                if let Some(inner) = inner {
                    self.take(inner, codes, depth.saturating_add(1));
                    // xAI writes the message as `error` and the code beside it.
                    if !inner.is_string() {
                        return;
                    }
                } else {
                    self.message = ["message", "msg"].iter().find_map(|name| text(object.get(*name)));
                }
                self.kind = text(object.get("type"));
                self.code = text(object.get("code"));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Collects the codes, types and reasons of an object: its own, Azure's `innererror.code`, Google's `details[].reason`, and the
/// names in OpenRouter's `metadata`, of which `flagged_input` shows a refusal of content.
fn collect_codes(object: &Map<String, Value>, codes: &mut Vec<String>) {
    let mut add = |text: &str| {
        if codes.len() < MAX_CODES && text.len() <= MAX_CODE_BYTES {
            codes.push(text.to_lowercase());
        }
    };
    for name in ["code", "type", "status", "reason"] {
        if let Some(Value::String(text)) = object.get(name) {
            add(text);
        }
    }
    for name in ["innererror", "inner_error"] {
        if let Some(Value::String(code)) = object.get(name).and_then(|inner| inner.get("code")) {
            add(code);
        }
    }
    // Anthropic's `details.error_code`.
    if let Some(Value::String(code)) = object.get("details").and_then(|details| details.get("error_code")) {
        add(code);
    }
    for detail in object.get("details").and_then(Value::as_array).into_iter().flatten() {
        if let Some(Value::String(reason)) = detail.get("reason") {
            add(reason);
        }
    }
    for name in object.get("metadata").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        add(name);
    }
}

/// The meaning of a provider's error that a router (OpenRouter) repeats as text in `error.metadata.raw`.
fn routed(value: &Value) -> Option<ErrorMeaning> {
    let raw = value.get("error")?.get("metadata")?.get("raw")?.as_str()?;
    let mut error = UpstreamError { message: Some(raw.to_owned()), ..UpstreamError::default() };
    let mut codes = Vec::new();
    if let Some(inner) = lenient::value(raw.as_bytes()) {
        error.take(&inner, &mut codes, 0);
    }
    meaning::of(error.message.as_deref(), &codes, &[])
}

/// The strings of an error body, in lower case, within bounds.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    bytes: usize,
}

impl Texts {
    fn collect(&mut self, value: &Value, depth: u8) {
        if depth > MAX_TEXTS_DEPTH || self.bytes > MAX_TEXTS_BYTES || self.list.len() >= MAX_TEXTS {
            return;
        }
        match value {
            Value::String(text) => {
                let text = text.to_lowercase();
                self.bytes = self.bytes.saturating_add(text.len());
                self.list.push(text);
            }
            Value::Array(list) => list.iter().for_each(|value| self.collect(value, depth.saturating_add(1))),
            Value::Object(object) => {
                object.values().for_each(|value| self.collect(value, depth.saturating_add(1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_gives_its_message() {
        for body in [
            r#"{"error":{"message":"boom","type":"server_error","code":500}}"#,
            r#"{"error":"boom"}"#,
            r#"{"object":"error","message":"boom"}"#,
            r#"{"detail":"boom"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"boom"}]}"#,
            r#"{"detail":{"error":{"message":"boom"}}}"#,
            r#"[{"error":{"code":400,"message":"boom"}}]"#,
            r#"{"message":"boom","error":null}"#,
        ] {
            assert_eq!(UpstreamError::read(body.as_bytes()).message.as_deref(), Some("boom"), "{body}");
        }
        for body in ["", "<html>", "7", "{}", "[]", r#"{"error":{"message":["x"]}}"#] {
            assert_eq!(UpstreamError::read(body.as_bytes()), UpstreamError::default(), "{body}");
        }
        let full = UpstreamError::read(br#"{"error":{"message":"m","type":"t","code":400}}"#);
        assert_eq!((full.kind.as_deref(), full.code.as_deref()), (Some("t"), Some("400")));
    }

    #[test]
    fn only_the_error_of_a_body_is_presentable() {
        for body in [
            r#"{"error":{"message":"boom","type":"server_error","n_ctx":8}}"#,
            r#"{"error":"boom"}"#,
            r#"{"object":"error","message":"boom","code":400}"#,
            r#"{"detail":[{"loc":["body"],"msg":"boom"}]}"#,
            r#"[{"error":{"code":400,"message":"boom"}}]"#,
        ] {
            let body = Bytes::from(body);
            assert_eq!(presentable_error(Dialect::Openai, &body), Some(body));
        }
        let mixed = Bytes::from(r#"{"message":"boom","code":7,"password":"p"}"#);
        let shown = presentable_error(Dialect::Openai, &mixed).unwrap();
        assert_eq!(shown, r#"{"error":{"message":"boom","type":null,"code":"7","param":null}}"#);
        for body in
            ["", "internal: user=root", "<html>", "{}", "[]", r#"{"a":"b"}"#, r#""boom""#, r#"["boom"]"#]
        {
            assert_eq!(presentable_error(Dialect::Openai, &Bytes::from(body)), None, "{body}");
        }
    }

    #[test]
    fn presentable_error_has_the_shape_of_its_dialect() {
        let anthropic =
            Bytes::from(r#"{"type":"error","error":{"type":"api_error","message":"boom"},"request_id":"r"}"#);
        for dialect in [Dialect::Anthropic, Dialect::Openai] {
            assert_eq!(presentable_error(dialect, &anthropic).as_ref(), Some(&anthropic));
        }
        let openai = Bytes::from(r#"{"error":{"message":"boom","type":"rate_limit_error","code":429}}"#);
        let shown = presentable_error(Dialect::Anthropic, &openai).unwrap();
        assert_eq!(
            shown,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"boom","code":"429"}}"#
        );
    }

    #[test]
    fn too_deeply_nested_errors_are_not_read() {
        let mut body = r#""boom""#.to_owned();
        for _ in 0..20 {
            body = format!(r#"{{"error":{body}}}"#);
        }
        assert_eq!(UpstreamError::read(body.as_bytes()).message, None);
    }
}
