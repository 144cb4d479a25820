//! What an event of a stream, or a whole answer, means for its relay, in every dialect alike.

use serde::Deserialize;
use serde_json::Value;

use crate::{error::UpstreamError, lenient, usage::Usage};

/// What an event of a stream means for its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventMeaning {
    /// No data: a keep-alive comment or a blank line, or Anthropic's `ping`.
    Silent,
    /// An event without content: the role, an empty delta, Azure's filter results.
    StartUp,
    /// Text, reasoning, a tool call, a refusal, audio, or a finish reason.
    Content,
    /// Only usage: the event that `stream_options.include_usage` requests.
    UsageOnly,
    /// The stream is complete: `[DONE]`, or the last event of a dialect that has another.
    Done,
    /// An error that the server reports inside a stream with status 200.
    Error(UpstreamError),
    /// A JSON object that belongs to no answer of the dialect.
    Foreign,
    /// Not a JSON object, or one whose known fields have other types.
    Unreadable,
}

/// One classified event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What the event is.
    pub meaning: EventMeaning,
    /// The model that answers, as the server names it.
    pub model: Option<String>,
    /// Usage, where the event carries it; the last one of a stream counts.
    pub usage: Option<Usage>,
    /// How many choices finish with this event; the stream is complete when all have.
    pub finished: usize,
}

impl Event {
    /// An event that carries nothing.
    pub(crate) const fn bare(meaning: EventMeaning) -> Self {
        Self { meaning, model: None, usage: None, finished: 0 }
    }
}

/// What a whole (not streamed) answer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBody {
    /// The model that answered.
    pub model: Option<String>,
    /// The tokens that it counted.
    pub usage: Option<Usage>,
    /// The error that some gateways report under status 200.
    pub error: Option<UpstreamError>,
}

/// The text that an event adds to each choice, by the choice's index: all strings of its delta, concatenated. Empty for data
/// that adds none. An event of Anthropic's or of responses adds to one block or item, which counts as the choice.
pub(crate) fn added_texts(data: &[u8]) -> Vec<(u64, String)> {
    #[derive(Deserialize)]
    struct Added {
        #[serde(default)]
        choices: Option<Vec<Piece>>,
        #[serde(flatten)]
        alone: Piece,
    }

    #[derive(Deserialize)]
    struct Piece {
        #[serde(default, alias = "output_index")]
        index: u64,
        #[serde(default)]
        delta: Value,
        #[serde(default)]
        text: Value,
        #[serde(default)]
        content_block: Value,
    }

    fn collect(value: &Value, into: &mut String) {
        match value {
            Value::String(text) => into.push_str(text),
            Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
            // Some servers repeat the role with each piece.
            Value::Object(object) => object
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "role" | "type" | "id"))
                .for_each(|(_, value)| collect(value, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    let Some(Added { choices, alone }) = lenient::object(data) else { return Vec::new() };
    let texts = choices.unwrap_or_default().into_iter().chain([alone]).map(|piece| {
        let mut text = String::new();
        [&piece.delta, &piece.text, &piece.content_block]
            .into_iter()
            .for_each(|value| collect(value, &mut text));
        (piece.index, text)
    });
    texts.filter(|(_, text)| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_texts_are_listed_by_choice() {
        let texts = added_texts(
            br#"{"choices":[{"delta":{"role":"assistant","content":"a"}},
            {"index":1,"delta":{"tool_calls":[{"id":"x","type":"function","function":{"arguments":"b"}}]}},
            {"index":2,"text":"c","finish_reason":"stop"}]}"#,
        );
        assert_eq!(texts, [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
        assert_eq!(added_texts(b"[DONE]"), []);
        let block = br#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"a"}}"#;
        assert_eq!(added_texts(block), [(3, "a".to_owned())]);
        let item = br#"{"type":"response.output_text.delta","output_index":2,"content_index":0,"delta":"b"}"#;
        assert_eq!(added_texts(item), [(2, "b".to_owned())]);
    }
}
