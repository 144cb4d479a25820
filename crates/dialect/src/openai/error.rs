//! Writes errors in OpenAI's shape.

use std::borrow::Cow;

use bytes::Bytes;

/// Writes an error in OpenAI's shape.
pub fn error_body(message: &str, kind: Option<&str>, code: Option<&str>) -> Bytes {
    let error = serde_json::json!({ "message": message, "type": kind, "code": code, "param": null });
    Bytes::from(serde_json::json!({ "error": error }).to_string())
}

/// Writes the event that ends a stream which broke after content was delivered, in the shape that OpenAI's clients raise as
/// an error.
///
/// INVARIANT 13: this is the last event. No `[DONE]` and no finish reason follows, so that an incomplete stream does not look
/// complete.
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    let body = serde_json::json!({
        "error": { "message": one_line(message), "type": kind, "code": code, "param": null }
    });
    Bytes::from(format!("data: {body}\n\n"))
}

/// Replaces control characters by spaces. JSON would escape them, but a message without `\n` is easier to read.
pub(crate) fn one_line(message: &str) -> Cow<'_, str> {
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
    use crate::{event::EventMeaning, openai::event, sse::Decoder};

    #[test]
    fn inv_13_error_event_does_not_complete_a_stream() {
        let event = error_event("the \"model\" server\n\nwent away", "upstream_error", "broken_stream");
        let mut decoder = Decoder::default();
        decoder.push(&event);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.finish(), Ok(None));
        let EventMeaning::Error(error) = event::read(&frame).meaning else { panic!("{frame:?}") };
        assert_eq!(error.message.as_deref(), Some("the \"model\" server went away"));
        assert_eq!(error.code.as_deref(), Some("broken_stream"));
        assert!(!event.windows(6).any(|six| six == b"[DONE]"));
    }
}
