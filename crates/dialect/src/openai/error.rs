//! Errors as model servers write them, read tolerantly, and the one that we write: the event that ends a
//! broken stream. Which class a failure belongs to is decided elsewhere; this tells what the body says.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

/// What an upstream's error body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamError {
    /// Its message. It may quote the prompt, so it is for the caller and never for a log.
    pub message: Option<String>,
    /// `error.type`, or what stands in its place.
    pub kind: Option<String>,
    /// `error.code`, numbers as text.
    pub code: Option<String>,
    /// Whether the prompt is too long for the model.
    pub context_length: bool,
}

/// Members beside which an error stands; an object with others may hold what is not for callers.
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

/// What may be shown of an error body: the body as it came where it is an error in a shape that this crate knows and
/// nothing else, the error alone where more stands beside it, and nothing of what is no such error.
pub fn presentable(body: &Bytes) -> Option<Bytes> {
    let value: Value = serde_json::from_slice(body).ok()?;
    // A text alone says something, but nothing says that it is an error.
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
    Some(if known {
        body.clone()
    } else {
        error_body(&message, error.kind.as_deref(), error.code.as_deref())
    })
}

/// An error as OpenAI writes it.
pub fn error_body(message: &str, kind: Option<&str>, code: Option<&str>) -> Bytes {
    let error = serde_json::json!({ "message": message, "type": kind, "code": code, "param": null });
    Bytes::from(serde_json::json!({ "error": error }).to_string())
}

impl UpstreamError {
    /// Reads the shapes that are seen in the field:
    ///
    /// - `{"error": {"message", "type", "code", "param"}}`: OpenAI, vLLM, llama.cpp (its `code` is the status);
    /// - `{"error": "…"}`: Ollama, vLLM's 401;
    /// - `{"object": "error", "message", "type", "code"}`: vLLM before 0.10, Mistral;
    /// - `{"detail": "…" | [{"msg"}] | {"error": …}}`: FastAPI;
    /// - `[{"error": {…}}]`: Gemini's compatible route;
    /// - `{"message": "…"}`: proxies. Anything else says nothing.
    pub fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).map(|value| Self::of(&value)).unwrap_or_default()
    }

    fn of(value: &Value) -> Self {
        let mut error = Self::default();
        error.take(value, 0);
        error.context_length = error.says_context_length();
        error
    }

    fn take(&mut self, value: &Value, depth: u8) {
        // Shapes nest at most list → detail → error → object.
        if depth > 4 {
            return;
        }
        match value {
            Value::String(message) => self.message = Some(message.clone()),
            Value::Array(list) => {
                if let Some(first) = list.first() {
                    self.take(first, depth.saturating_add(1));
                }
            }
            Value::Object(object) => {
                if let Some(inner) = ["error", "detail"].iter().find_map(|name| present(object.get(*name))) {
                    return self.take(inner, depth.saturating_add(1));
                }
                self.message = ["message", "msg"].iter().find_map(|name| text(object.get(*name)));
                self.kind = text(object.get("type"));
                self.code = text(object.get("code"));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Codes and types first, for they are meant for programs; messages where a server has nothing else.
    ///
    /// - OpenAI: code `context_length_exceeded`.
    /// - llama.cpp: type `exceed_context_size_error` (ggml-org/llama.cpp pull request 15780).
    /// - vLLM: "This model's maximum context length is 2048 tokens. However, you requested …" (vllm-project/vllm
    ///   issue 20409) and "The prompt (total length 25938) is too long to fit into the model (context length …)"
    ///   (issue 12165), "… is longer than the maximum model length of …".
    /// - llama-cpp-python: "Requested tokens (…) exceed context window of …" (abetlen/llama-cpp-python issue 416).
    /// - Anthropic: "prompt is too long: 209353 tokens > 199999 maximum", "input length and `max_tokens` exceed
    ///   context limit: …".
    /// - Gemini: "The input token count (…) exceeds the maximum number of tokens allowed (…)" (gemini-cli 12098).
    /// - Ollama: "the input length exceeds the context length"; LM Studio: "Context size has been exceeded".
    fn says_context_length(&self) -> bool {
        let is = |field: &Option<String>, name: &str| field.as_deref() == Some(name);
        if is(&self.code, "context_length_exceeded")
            || is(&self.kind, "context_length_exceeded")
            || is(&self.kind, "exceed_context_size_error")
        {
            return true;
        }
        let Some(message) = self.message.as_deref().map(str::to_ascii_lowercase) else { return false };
        let says = |words: &[&str]| words.iter().all(|word| message.contains(word));
        says(&["maximum context length"])
            || says(&["prompt", "is too long"])
            || says(&["longer than the maximum model length"])
            || says(&["exceed", "context size"])
            || says(&["context size", "exceeded"])
            || says(&["exceed", "context window"])
            || says(&["exceed", "context limit"])
            || says(&["exceeds", "context length"])
            || says(&["input token count", "exceeds the maximum number of tokens"])
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

/// The event that ends a stream which broke after content was delivered, in the shape OpenAI's clients raise
/// as an error.
///
/// INVARIANT 13: it is the last event. No `[DONE]` follows, and no finish reason is invented, so that a
/// stream that did not complete does not look complete.
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    let body = serde_json::json!({
        "error": { "message": one_line(message), "type": kind, "code": code, "param": null }
    });
    Bytes::from(format!("data: {body}\n\n"))
}

/// JSON escapes control characters, so the event stays one line whatever the message holds; a readable one
/// is nicer than one full of `\n`.
fn one_line(message: &str) -> Cow<'_, str> {
    if message.contains(char::is_control) {
        Cow::Owned(
            message.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
        )
    } else {
        Cow::Borrowed(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        openai::chunk::{Chunk, Kind},
        sse::Decoder,
    };

    #[test]
    fn every_shape_gives_its_message() {
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
    fn of_an_error_body_only_an_error_is_shown() {
        for body in [
            r#"{"error":{"message":"boom","type":"server_error","n_ctx":8}}"#,
            r#"{"error":"boom"}"#,
            r#"{"object":"error","message":"boom","code":400}"#,
            r#"{"detail":[{"loc":["body"],"msg":"boom"}]}"#,
            r#"[{"error":{"code":400,"message":"boom"}}]"#,
        ] {
            let body = Bytes::from(body);
            assert_eq!(presentable(&body), Some(body));
        }
        let mixed = Bytes::from(r#"{"message":"boom","code":7,"password":"p"}"#);
        let shown = presentable(&mixed).unwrap();
        assert_eq!(shown, r#"{"error":{"message":"boom","type":null,"code":"7","param":null}}"#);
        for body in
            ["", "internal: user=root", "<html>", "{}", "[]", r#"{"a":"b"}"#, r#""boom""#, r#"["boom"]"#]
        {
            assert_eq!(presentable(&Bytes::from(body)), None, "{body}");
        }
    }

    #[test]
    fn nesting_without_end_is_left_alone() {
        let mut body = r#""boom""#.to_owned();
        for _ in 0..20 {
            body = format!(r#"{{"error":{body}}}"#);
        }
        assert_eq!(UpstreamError::read(body.as_bytes()).message, None);
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_by_code_type_or_message() {
        for body in [
            r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#,
            r#"{"error":{"code":400,"message":"request (4390 tokens) exceeds","type":"exceed_context_size_error"}}"#,
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, you requested 9000"}}"#,
            r#"{"object":"error","message":"The prompt (total length 25938) is too long to fit into the model"}"#,
            r#"{"error":{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8."}}"#,
            r#"{"error":{"message":"Requested tokens (2285) exceed context window of 2048"}}"#,
            r#"{"error":{"message":"prompt is too long: 209353 tokens > 199999 maximum"}}"#,
            r#"{"error":{"message":"input length and `max_tokens` exceed context limit: 1 + 2 > 2"}}"#,
            r#"[{"error":{"message":"The input token count (3) exceeds the maximum number of tokens allowed (2)."}}]"#,
            r#"{"error":"the input length exceeds the context length"}"#,
            r#"{"error":"Context size has been exceeded."}"#,
        ] {
            assert!(UpstreamError::read(body.as_bytes()).context_length, "{body}");
        }
        for body in [
            r#"{"error":{"message":"max_tokens is too large","code":"invalid_request"}}"#,
            r#"{"error":{"message":"rate limit exceeded"}}"#,
            r#"{"error":{"message":"your message was flagged","code":"content_filter"}}"#,
        ] {
            assert!(!UpstreamError::read(body.as_bytes()).context_length, "{body}");
        }
    }

    #[test]
    fn inv_13_the_error_event_is_one_readable_event_and_not_the_end_of_a_complete_stream() {
        let event = error_event("the \"model\" server\n\nwent away", "upstream_error", "broken_stream");
        let mut decoder = Decoder::default();
        decoder.push(&event);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.finish(), Ok(None));
        let Kind::Error(error) = Chunk::read(&frame).kind else { panic!("{frame:?}") };
        assert_eq!(error.message.as_deref(), Some("the \"model\" server went away"));
        assert_eq!(error.code.as_deref(), Some("broken_stream"));
        assert!(!event.windows(6).any(|six| six == b"[DONE]"));
    }
}
