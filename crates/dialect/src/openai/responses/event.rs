//! Classifies the events of a Responses stream. There is no `[DONE]`: a stream ends with `response.completed`,
//! `response.incomplete` or `response.failed`.

use serde::Deserialize;

use super::answer::WireResponse;
use crate::{
    error::UpstreamError,
    event::{Event, EventMeaning},
    lenient,
    openai::event::text,
    presence::Presence,
    sse::Frame,
};

/// Classifies a frame of a Responses stream.
pub fn read_event(frame: &Frame) -> Event {
    let data = frame.data.as_deref().map_or(&b""[..], |data| data.trim_ascii());
    if data.is_empty() {
        return Event::bare(EventMeaning::Silent);
    }
    // Not OpenAI's, but some compatible servers end every stream with it.
    if data == b"[DONE]" {
        return Event::bare(EventMeaning::Done);
    }
    let Some(wire) = lenient::object::<WireEvent>(data) else { return Event::bare(EventMeaning::Unreadable) };
    let kind = wire.kind.as_deref().unwrap_or_default();
    if kind == "error" || frame.event.as_deref() == Some(b"error") || (kind.is_empty() && wire.error.0) {
        return Event::bare(EventMeaning::Error(UpstreamError::read(data)));
    }
    let failed = || wire.response.as_ref().and_then(WireResponse::error).unwrap_or_default();
    let (meaning, finished) = match kind {
        "response.failed" => (EventMeaning::Error(failed()), 0),
        "response.completed" | "response.incomplete" => (EventMeaning::Done, 1),
        // What OpenAI sends so that proxies keep the connection.
        "keepalive" => (EventMeaning::StartUp, 0),
        kind if !kind.starts_with("response.") => (EventMeaning::Foreign, 0),
        _ if wire.has_content() => (EventMeaning::Content, 0),
        _ => (EventMeaning::StartUp, 0),
    };
    let usage = wire.response.as_ref().and_then(WireResponse::usage);
    Event { meaning, usage, model: wire.response.and_then(|response| response.model), finished }
}

#[derive(Deserialize)]
struct WireEvent {
    #[serde(rename = "type", default, deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default)]
    response: Option<WireResponse>,
    #[serde(default)]
    item: Option<WireItem>,
    #[serde(default)]
    delta: Presence,
    #[serde(default)]
    error: Presence,
}

#[derive(Deserialize)]
struct WireItem {
    #[serde(rename = "type", default, deserialize_with = "text")]
    kind: Option<String>,
}

impl WireEvent {
    fn has_content(&self) -> bool {
        let kind = self.kind.as_deref().unwrap_or_default();
        match kind {
            "response.created" | "response.queued" | "response.in_progress" => false,
            // The frame of a message or of reasoning is empty until its first delta; a call has its name already.
            "response.output_item.added" => {
                let of_item = self.item.as_ref().and_then(|item| item.kind.as_deref());
                !matches!(of_item, None | Some("message" | "reasoning"))
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => false,
            kind if kind.ends_with(".delta") => self.delta.0,
            // Ends of parts and items, and the progress of tools that the provider runs itself.
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::usage::Usage;

    fn event(data: &str) -> Event {
        read_event(&Frame {
            raw: Bytes::new(),
            data: Some(Bytes::from(data.to_owned())),
            event: None,
            comment: false,
        })
    }

    #[test]
    fn start_up_events_carry_no_content() {
        for data in [
            r#"{"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","output":[]}}"#,
            r#"{"type":"response.in_progress","response":{"model":"m"}}"#,
            r#"{"type":"response.queued"}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
            r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#,
            r#"{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}"#,
            r#"{"type":"response.output_text.delta","delta":""}"#,
            r#"{"type":"keepalive","sequence_number":3}"#,
        ] {
            assert_eq!(event(data).meaning, EventMeaning::StartUp, "{data}");
        }
        assert_eq!(
            event(r#"{"type":"response.created","response":{"model":"m"}}"#).model.as_deref(),
            Some("m")
        );
    }

    #[test]
    fn deltas_of_every_kind_and_finished_items_are_content() {
        for data in [
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"type":"response.reasoning_summary_text.delta","delta":"a"}"#,
            r#"{"type":"response.reasoning_text.delta","delta":"a"}"#,
            r#"{"type":"response.refusal.delta","delta":"a"}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#,
            r#"{"type":"response.custom_tool_call_input.delta","delta":"a"}"#,
            r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","content":[]}}"#,
            r#"{"type":"response.web_search_call.searching","item_id":"ws_1"}"#,
            r#"{"type":"response.output_text.delta","delta":"party \ud83c"}"#,
        ] {
            assert_eq!(event(data).meaning, EventMeaning::Content, "{data}");
        }
    }

    #[test]
    fn a_stream_ends_with_its_usage_or_with_an_error() {
        for kind in ["response.completed", "response.incomplete"] {
            let done = event(&format!(
                r#"{{"type":"{kind}","response":{{"model":"m","object":"response","output":[],"usage":{{"input_tokens":3,"output_tokens":2}}}}}}"#
            ));
            assert_eq!((done.meaning, done.finished), (EventMeaning::Done, 1));
            let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
            assert_eq!((done.usage, done.model.as_deref()), (Some(usage), Some("m")));
        }
        assert_eq!(event("[DONE]").meaning, EventMeaning::Done);
        for (data, message, code) in [
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"boom"}}}"#,
                Some("boom"),
                Some("rate_limit_exceeded"),
            ),
            (
                r#"{"type":"error","code":"server_error","message":"boom","param":null,"sequence_number":1}"#,
                Some("boom"),
                Some("server_error"),
            ),
            (r#"{"type":"error","error":{"type":"x","code":"c","message":"boom"}}"#, Some("boom"), Some("c")),
            (r#"{"error":{"message":"boom"}}"#, Some("boom"), None),
            (r#"{"type":"response.failed","response":{"status":"failed"}}"#, None, None),
        ] {
            let EventMeaning::Error(error) = event(data).meaning else { panic!("{data}") };
            assert_eq!((error.message.as_deref(), error.code.as_deref()), (message, code), "{data}");
        }
    }

    #[test]
    fn foreign_unreadable_and_silent_events_are_recognized() {
        for (data, kind) in [
            (r#"{"choices":[]}"#, EventMeaning::Foreign),
            (r#"{"type":"ping"}"#, EventMeaning::Foreign),
            ("<html>", EventMeaning::Unreadable),
            (" ", EventMeaning::Silent),
        ] {
            assert_eq!(event(data).meaning, kind, "{data}");
        }
    }
}
