//! Writes errors in Anthropic's shape. [`UpstreamError::read`](crate::error::UpstreamError::read) reads them.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::openai::error::one_line;

/// The types of an error, from Anthropic's documentation ("Errors").
const KINDS: [&str; 10] = [
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
];

/// The type of an error that is answered with this status.
pub fn kind_of_status(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The type itself where it is one of Anthropic's, otherwise the one of the status.
pub fn kind(written: Option<&str>, status: u16) -> &'static str {
    let known = KINDS.into_iter().find(|known| written == Some(*known));
    known.unwrap_or_else(|| kind_of_status(status))
}

/// Writes an error. `code` and `request_id` are left out where they are `None`; Anthropic has no `code`, and its clients ignore
/// it.
pub fn error_body(message: &str, kind: &str, code: Option<&str>, request_id: Option<&str>) -> Bytes {
    let mut error = Map::new();
    error.insert("type".into(), kind.into());
    error.insert("message".into(), message.into());
    if let Some(code) = code {
        error.insert("code".into(), code.into());
    }
    let mut body = Map::new();
    body.insert("type".into(), "error".into());
    body.insert("error".into(), Value::Object(error));
    if let Some(id) = request_id {
        body.insert("request_id".into(), id.into());
    }
    Bytes::from(Value::Object(body).to_string())
}

/// Writes the event that ends a stream which broke after content was delivered.
///
/// INVARIANT 13: this is the last event. No `message_delta` with a stop reason and no `message_stop` follows, so that an
/// incomplete stream does not look complete.
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    let body = error_body(&one_line(message), self::kind(Some(kind), 500), Some(code), None);
    [b"event: error\ndata: ".as_slice(), &body, b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        anthropic::event::EventReader, error::UpstreamError, event::EventMeaning, meaning::ErrorMeaning,
        sse::Decoder,
    };

    #[test]
    fn error_has_the_shape_that_clients_read() {
        assert_eq!(
            error_body("no", kind(Some("upstream_error"), 529), None, Some("req_1")),
            r#"{"type":"error","error":{"type":"overloaded_error","message":"no"},"request_id":"req_1"}"#
        );
        assert_eq!(kind(Some("billing_error"), 400), "billing_error");
        for status in 100..=999 {
            assert!(KINDS.contains(&kind_of_status(status)), "{status}");
        }
    }

    #[test]
    fn inv_13_error_event_does_not_complete_a_stream() {
        let event = error_event("the model server\nwent away", "upstream_error", "broken_stream");
        let mut decoder = Decoder::default();
        decoder.push(&event);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.finish(), Ok(None));
        let EventMeaning::Error(error) = EventReader::default().read(&frame).meaning else {
            panic!("{frame:?}")
        };
        assert_eq!(error.message.as_deref(), Some("the model server went away"));
        assert_eq!(
            (error.kind.as_deref(), error.code.as_deref()),
            (Some("api_error"), Some("broken_stream"))
        );
    }

    #[test]
    fn causes_of_errors_are_recognized() {
        for (expected, kind, message) in [
            (
                Some(ErrorMeaning::ContextLength),
                "invalid_request_error",
                "prompt is too long: 209353 tokens > 200000 maximum",
            ),
            (
                Some(ErrorMeaning::ContextLength),
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again",
            ),
            (
                Some(ErrorMeaning::Credentials),
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
            ),
            (
                Some(ErrorMeaning::Credentials),
                "invalid_request_error",
                "This organization has been disabled.",
            ),
            (Some(ErrorMeaning::Credentials), "billing_error", "There is an issue with your payment."),
            (Some(ErrorMeaning::Credentials), "authentication_error", "invalid x-api-key"),
            (
                Some(ErrorMeaning::QuotaUsedUp),
                "invalid_request_error",
                "You have reached your specified API usage limits. You will regain access on 2026-08-01 at 00:00 UTC.",
            ),
            (
                Some(ErrorMeaning::Content),
                "invalid_request_error",
                "Output blocked by content filtering policy",
            ),
            (Some(ErrorMeaning::ModelUnavailable), "not_found_error", "model: claude-nope"),
            (None, "request_too_large", "Request exceeds the maximum allowed number of bytes."),
            (None, "overloaded_error", "Overloaded"),
            (None, "invalid_request_error", "max_tokens: Field required"),
        ] {
            let body = error_body(message, kind, None, None);
            assert_eq!(UpstreamError::read(&body).meaning, expected, "{message}");
        }
        let limited = br#"{"type":"error","error":{"type":"rate_limit_error","message":"no",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        assert_eq!(UpstreamError::read(limited).meaning, Some(ErrorMeaning::QuotaUsedUp));
    }
}
