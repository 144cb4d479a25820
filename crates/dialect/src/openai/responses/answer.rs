//! Reads whole answers of the Responses API, and its usage.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    error::UpstreamError, event::AnswerBody, lenient, openai::event::text, presence::Presence, usage::Usage,
};

/// A response, as far as it is read: of a whole answer, and in the events that begin and end a stream.
#[derive(Deserialize)]
pub(super) struct WireResponse {
    #[serde(default, deserialize_with = "text")]
    object: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) model: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default)]
    output: Option<Vec<Presence>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

impl WireResponse {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.as_ref().and_then(read_usage)
    }

    /// The error of a response that failed or was cancelled. Only its `error` is read: the rest repeats the prompt, whose words
    /// must not decide what the error means.
    pub(super) fn error(&self) -> Option<UpstreamError> {
        let failed = matches!(self.status.as_deref(), Some("failed" | "cancelled"));
        match &self.error {
            Some(error) if !is_empty(error) => Some(UpstreamError::of(&json!({ "error": error }))),
            _ => failed.then(UpstreamError::default),
        }
    }
}

fn is_empty(error: &Value) -> bool {
    matches!(error, Value::Null | Value::Bool(false)) || *error == json!("") || *error == json!({})
}

/// Reads a whole answer of the Responses API. `None` for a body that is neither a response nor an error: other JSON may be
/// another service's answer, which callers must not see.
pub fn read_answer(body: &[u8]) -> Option<AnswerBody> {
    let wire: WireResponse = lenient::object(body)?;
    if wire.object.as_deref() == Some("error") {
        return Some(AnswerBody { model: None, usage: None, error: Some(UpstreamError::read(body)) });
    }
    let error = wire.error();
    if error.is_none() && (wire.object.as_deref() != Some("response") || wire.output.is_none()) {
        return None;
    }
    Some(AnswerBody { usage: wire.usage(), error, model: wire.model })
}

/// Reads usage; `None` for usage in an unknown form, because no answer is rejected for its token counts.
pub fn read_usage(value: &Value) -> Option<Usage> {
    let count = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
    let detail = |details: &str, name: &str| value.get(details).and_then(|of| count(of, name)).unwrap_or(0);
    Some(Usage {
        input_tokens: count(value, "input_tokens")?,
        output_tokens: count(value, "output_tokens").unwrap_or(0),
        cached_input_tokens: detail("input_tokens_details", "cached_tokens"),
        cache_write_input_tokens: detail("input_tokens_details", "cache_write_tokens"),
        reasoning_tokens: detail("output_tokens_details", "reasoning_tokens"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answer_has_model_usage_and_error() {
        let whole = read_answer(
            br#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"m","output":[{"type":"message"}],
            "usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":1},"output_tokens":5,
            "output_tokens_details":{"reasoning_tokens":2},"total_tokens":14}}"#,
        );
        let usage = Usage {
            input_tokens: 9,
            output_tokens: 5,
            cached_input_tokens: 4,
            cache_write_input_tokens: 1,
            reasoning_tokens: 2,
        };
        assert_eq!(whole, Some(AnswerBody { model: Some("m".into()), usage: Some(usage), error: None }));

        for (body, message) in [
            (
                r#"{"object":"response","status":"failed","output":[],"error":{"code":"server_error","message":"boom"}}"#,
                Some("boom"),
            ),
            (r#"{"object":"response","status":"failed","output":[],"error":null}"#, None),
            (r#"{"error":{"message":"boom"}}"#, Some("boom")),
            (r#"{"object":"error","message":"boom"}"#, Some("boom")),
        ] {
            let error = read_answer(body.as_bytes()).unwrap().error.unwrap();
            assert_eq!(error.message.as_deref(), message, "{body}");
        }
    }

    #[test]
    fn the_words_of_a_prompt_do_not_decide_what_an_error_means() {
        let body = br#"{"object":"response","status":"failed","instructions":"explain the content policy","output":[],
            "error":{"code":"rate_limit_exceeded","message":"slow down"}}"#;
        assert_eq!(read_answer(body).unwrap().error.unwrap().meaning, None);
    }

    #[test]
    fn json_of_another_service_is_not_an_answer() {
        for body in
            ["{}", "[1]", "<html>", r#"{"object":"response"}"#, r#"{"output":[]}"#, r#"{"choices":[]}"#]
        {
            assert_eq!(read_answer(body.as_bytes()), None, "{body}");
        }
    }
}
