//! Reads whole (not streamed) answers: a message, or a count of tokens.

use serde::Deserialize;
use serde_json::Value;

use super::count::Counts;
use crate::{error::UpstreamError, event::AnswerBody, lenient, presence::Presence};

#[derive(Deserialize)]
struct WireAnswer {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    content: Option<Vec<WireBlock>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Presence,
    #[serde(default)]
    input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct WireBlock {
    #[serde(rename = "type", default)]
    kind: Presence,
}

/// Reads a message. `None` for a body that is neither a message nor an error: other JSON may be another service's answer, which
/// callers must not see.
pub fn read(body: &[u8]) -> Option<AnswerBody> {
    let wire: WireAnswer = lenient::object(body)?;
    if let Some(error) = error(&wire, body) {
        return Some(error);
    }
    let is_message = wire.kind.as_deref() == Some("message")
        && wire.content.is_some_and(|blocks| blocks.iter().all(|block| block.kind.0));
    let usage = Counts::default().take(wire.usage);
    is_message.then_some(AnswerBody { model: wire.model, usage, error: None })
}

/// Reads a count of tokens. `None` as in [`read`]. Counting costs nothing, so the answer has no usage.
pub fn read_count(body: &[u8]) -> Option<AnswerBody> {
    let wire: WireAnswer = lenient::object(body)?;
    let counted = || wire.input_tokens.map(|_| AnswerBody { model: None, usage: None, error: None });
    error(&wire, body).or_else(counted)
}

fn error(wire: &WireAnswer, body: &[u8]) -> Option<AnswerBody> {
    let is_error = wire.error.0 || wire.kind.as_deref() == Some("error");
    is_error.then(|| AnswerBody { model: None, usage: None, error: Some(UpstreamError::read(body)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn message_has_model_and_usage() {
        let body = br#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi"}],
            "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":3,
            "cache_read_input_tokens":100,"output_tokens":7,"output_tokens_details":{"thinking_tokens":2}}}"#;
        let usage = Usage {
            input_tokens: 108,
            output_tokens: 7,
            cached_input_tokens: 100,
            cache_write_input_tokens: 3,
            reasoning_tokens: 2,
        };
        assert_eq!(
            read(body),
            Some(AnswerBody { model: Some("claude-x".into()), usage: Some(usage), error: None })
        );
        assert_eq!(
            read(br#"{"type":"message","content":[],"usage":{"input_tokens":"x"}}"#).unwrap().usage,
            None
        );
    }

    #[test]
    fn errors_under_status_200_are_recognized() {
        let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
        for answer in [read(body), read_count(body)] {
            let error = answer.unwrap().error.unwrap();
            assert_eq!(
                (error.kind.as_deref(), error.message.as_deref()),
                (Some("overloaded_error"), Some("Overloaded"))
            );
        }
    }

    #[test]
    fn json_of_another_service_is_not_an_answer() {
        for body in [
            "{}",
            "[]",
            "<html>",
            r#"{"type":"message"}"#,
            r#"{"content":[]}"#,
            r#"{"type":"message","content":["a"]}"#,
            r#"{"type":"message","content":[{}]}"#,
            r#"{"choices":[],"object":"chat.completion"}"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
            assert_eq!(read_count(body.as_bytes()), None, "{body}");
        }
        assert!(read_count(br#"{"input_tokens":14}"#).is_some());
        assert_eq!(read(br#"{"input_tokens":14}"#), None);
    }
}
