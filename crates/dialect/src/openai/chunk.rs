//! Classifies the events of a stream and reads whole answers: whether there is content, which model answered, how many tokens
//! it used, how the answer ended. It reads chat completions, completions and embeddings, tolerates what compatible servers
//! add or leave out, and keeps no text.

use serde::Deserialize;
use serde_json::Value;

use super::{error::UpstreamError, presence::Presence};
use crate::{lenient, sse::Frame, usage::Usage};

/// What an event of a stream means for its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkKind {
    /// No data: a keep-alive comment or a blank line.
    Silent,
    /// A chunk without content: the role, an empty delta, Azure's filter results.
    StartUp,
    /// Text, reasoning, a tool call, a refusal, audio, or a finish reason.
    Content,
    /// No choices, only usage: the event that `stream_options.include_usage` requests.
    UsageOnly,
    /// `[DONE]`: the stream is complete.
    Done,
    /// An error that the server reports inside a stream with status 200.
    Error(UpstreamError),
    /// A JSON object that is not a completion's: it has no choices, no usage and no known `object`.
    Foreign,
    /// Not a JSON object, or one whose known fields have other types.
    Unreadable,
}

/// One classified event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What the event is.
    pub kind: ChunkKind,
    /// The model that answers, as the server names it.
    pub model: Option<String>,
    /// Usage, where the chunk carries it; the last one of a stream counts.
    pub usage: Option<Usage>,
    /// How many choices finish with this chunk (`finish_reason`); the stream is complete when all `n` have.
    pub finished_choices: usize,
}

impl Chunk {
    /// Classifies a frame of a chat completions or completions stream.
    pub fn read(frame: &Frame) -> Self {
        let Some(data) = frame.data.as_deref() else { return Self::bare(ChunkKind::Silent) };
        let text = data.trim_ascii();
        if text == b"[DONE]" {
            return Self::bare(ChunkKind::Done);
        }
        if text.is_empty() {
            return Self::bare(ChunkKind::Silent);
        }
        let Some(wire) = lenient::object::<WireChunk>(text) else { return Self::bare(ChunkKind::Unreadable) };
        if wire.error.0 || wire.object.as_deref() == Some("error") || frame.event.as_deref() == Some(b"error")
        {
            return Self::bare(ChunkKind::Error(UpstreamError::read(text)));
        }
        let usage = read_usage(wire.usage);
        let is_chunk = wire.object.as_deref().is_some_and(|object| CHUNKS.contains(&object));
        if wire.choices.is_none() && usage.is_none() && !is_chunk {
            return Self::bare(ChunkKind::Foreign);
        }
        let choices = wire.choices.flatten().unwrap_or_default();
        // OpenRouter reports an error of one choice in that choice.
        if choices.iter().any(|choice| choice.error.0) {
            return Self::bare(ChunkKind::Error(UpstreamError::read(text)));
        }
        let finished_choices = choices.iter().filter(|choice| choice.finish_reason.0).count();
        let kind = if finished_choices > 0 || choices.iter().any(WireChoice::has_content) {
            ChunkKind::Content
        } else if choices.is_empty() && usage.is_some() {
            ChunkKind::UsageOnly
        } else {
            ChunkKind::StartUp
        };
        Self { kind, model: wire.model, usage, finished_choices }
    }

    pub(super) fn bare(kind: ChunkKind) -> Self {
        Self { kind, model: None, usage: None, finished_choices: 0 }
    }
}

/// The text that an event adds to each choice, by the choice's index: all strings of its delta, concatenated. Empty for data
/// that is not a chunk.
pub fn added_texts(data: &[u8]) -> Vec<(u64, String)> {
    #[derive(Deserialize)]
    struct Added {
        #[serde(default)]
        choices: Vec<AddedChoice>,
    }

    #[derive(Deserialize)]
    struct AddedChoice {
        #[serde(default)]
        index: u64,
        #[serde(default)]
        delta: Value,
        #[serde(default)]
        text: Value,
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

    let Some(Added { choices }) = lenient::object(data) else { return Vec::new() };
    let texts = choices.into_iter().map(|choice| {
        let mut text = String::new();
        collect(&choice.delta, &mut text);
        collect(&choice.text, &mut text);
        (choice.index, text)
    });
    texts.collect()
}

/// The values of `object` that mark an event as a completion's.
const CHUNKS: [&str; 4] =
    ["chat.completion.chunk", "text_completion", "text_completion.chunk", "chat.completion"];

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

impl AnswerBody {
    /// Reads a whole answer. `None` for a body that is neither a completion nor embeddings nor an error: other JSON may be
    /// another service's answer, which callers must not see.
    pub fn read(body: &[u8]) -> Option<Self> {
        let wire: WireAnswer = lenient::object(body)?;
        let of_choice =
            wire.choices.as_ref().is_some_and(|choices| choices.iter().any(|choice| choice.error.0));
        let error = wire.error.0 || of_choice || wire.object.as_deref() == Some("error");
        let embeddings = wire.data.is_some_and(|data| data.iter().all(|entry| entry.embedding.0));
        if !error && wire.choices.is_none() && !embeddings {
            return None;
        }
        Some(Self {
            model: wire.model,
            usage: read_usage(wire.usage),
            error: error.then(|| UpstreamError::read(body)),
        })
    }
}

#[derive(Deserialize)]
struct WireChunk {
    #[serde(default, deserialize_with = "text")]
    object: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    /// `Some(None)` for `null`, `None` for an absent field.
    #[serde(default, deserialize_with = "present")]
    choices: Option<Option<Vec<WireChoice>>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Presence,
}

/// Reads a string; a value of another type counts as absent.
pub(super) fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct WireAnswer {
    #[serde(default, deserialize_with = "text")]
    object: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<WireChoice>>,
    #[serde(default)]
    data: Option<Vec<WireEmbedding>>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Presence,
}

#[derive(Deserialize)]
struct WireEmbedding {
    #[serde(default)]
    embedding: Presence,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    delta: Option<WireDelta>,
    /// Of the older route, `/completions`.
    #[serde(default)]
    text: Presence,
    #[serde(default)]
    finish_reason: Presence,
    #[serde(default)]
    error: Presence,
}

impl WireChoice {
    fn has_content(&self) -> bool {
        self.text.0 || self.delta.as_ref().is_some_and(WireDelta::has_content)
    }
}

#[derive(Deserialize)]
struct WireDelta {
    #[serde(default)]
    content: Presence,
    /// vLLM since 0.12 and OpenRouter.
    #[serde(default)]
    reasoning: Presence,
    /// DeepSeek, llama.cpp, earlier vLLM.
    #[serde(default)]
    reasoning_content: Presence,
    /// OpenRouter's structured form.
    #[serde(default)]
    reasoning_details: Presence,
    #[serde(default)]
    tool_calls: Presence,
    #[serde(default)]
    function_call: Presence,
    #[serde(default)]
    refusal: Presence,
    #[serde(default)]
    audio: Presence,
}

impl WireDelta {
    fn has_content(&self) -> bool {
        self.content.0
            || self.reasoning.0
            || self.reasoning_content.0
            || self.reasoning_details.0
            || self.tool_calls.0
            || self.function_call.0
            || self.refusal.0
            || self.audio.0
    }
}

/// Reads usage; `None` for usage in an unknown form, because no answer is rejected for its token counts.
/// Reads `usage`; `None` where it is absent or malformed.
pub(crate) fn read_usage(value: Option<Value>) -> Option<Usage> {
    #[derive(Deserialize)]
    struct WireUsage {
        prompt_tokens: u64,
        #[serde(default)]
        completion_tokens: Option<u64>,
        #[serde(default)]
        prompt_tokens_details: Option<InputDetails>,
        #[serde(default)]
        completion_tokens_details: Option<OutputDetails>,
    }

    #[derive(Deserialize)]
    struct InputDetails {
        #[serde(default)]
        cached_tokens: Option<u64>,
    }

    #[derive(Deserialize)]
    struct OutputDetails {
        #[serde(default)]
        reasoning_tokens: Option<u64>,
    }

    let usage: WireUsage = serde_json::from_value(value?).ok()?;
    Some(Usage {
        input_tokens: usage.prompt_tokens,
        output_tokens: usage.completion_tokens.unwrap_or(0),
        cached_input_tokens: usage.prompt_tokens_details.and_then(|of| of.cached_tokens).unwrap_or(0),
        cache_write_input_tokens: 0,
        reasoning_tokens: usage.completion_tokens_details.and_then(|of| of.reasoning_tokens).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(data: &str) -> Chunk {
        Chunk::read(&frame(data))
    }

    fn frame(data: &str) -> Frame {
        Frame { raw: Bytes::new(), data: Some(Bytes::from(data.to_owned())), event: None, comment: false }
    }

    #[test]
    fn start_up_chunks_of_all_servers_carry_no_content() {
        for data in [
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            // The first delta of llama.cpp.
            r#"{"choices":[{"delta":{"role":"assistant","content":null}}],"model":"m"}"#,
            r#"{"choices":[{"delta":{}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[],"reasoning":"","refusal":null}}]}"#,
            r#"{"choices":[{"text":"","finish_reason":""}]}"#,
            // Azure's prompt filter results.
            r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}"#,
            r#"{"choices":null,"error":null}"#,
            r#"{"choices":[{"delta":{"role":"assistant"}}],"error":false}"#,
            r#"{"choices":[{"delta":{}}],"error":{}}"#,
            r#"{"choices":[{"delta":{"content":""}}],"error":""}"#,
        ] {
            assert_eq!(chunk(data).kind, ChunkKind::StartUp, "{data}");
        }
    }

    #[test]
    fn text_reasoning_tool_calls_refusals_and_ends_are_content() {
        for (data, finished) in [
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"","reasoning":"a"}}]}"#, false),
            (r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#, false),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, false),
            (r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, false),
            (r#"{"choices":[{"delta":{"refusal":"no"}}]}"#, false),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, true),
            (r#"{"choices":[{"text":"a"}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"party \ud83c"}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"a","content":"a"}}],"model":"m","model":"m"}"#, false),
            (
                r#"{"choices":[{"finish_reason":null,"delta":{"content":"a"},"finish_reason":"stop","logprobs":NaN}]}"#,
                true,
            ),
            (r#"{"choices":[{"delta":{"content":"a"}}],"model":7,"object":false}"#, false),
            (r#"{"choices":[{"delta":{}},{"delta":{"content":"b"},"index":1}]}"#, false),
        ] {
            let chunk = chunk(data);
            assert_eq!(
                (chunk.kind, chunk.finished_choices),
                (ChunkKind::Content, usize::from(finished)),
                "{data}"
            );
        }
    }

    #[test]
    fn usage_is_read_alone_and_beside_content() {
        let alone = chunk(
            r#"{"choices":[],"model":"m-1","usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,
            "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        );
        let usage = Usage {
            input_tokens: 7,
            output_tokens: 3,
            cached_input_tokens: 4,
            reasoning_tokens: 2,
            ..Usage::default()
        };
        assert_eq!(alone.kind, ChunkKind::UsageOnly);
        assert_eq!((alone.usage, alone.model.as_deref()), (Some(usage), Some("m-1")));

        let beside = chunk(
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"prompt_tokens_details":null}}"#,
        );
        assert_eq!(beside.kind, ChunkKind::Content);
        assert_eq!(beside.usage, Some(Usage { input_tokens: 7, ..Usage::default() }));

        let wrong = chunk(r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":-1}}"#);
        assert_eq!((wrong.kind, wrong.usage), (ChunkKind::Content, None));
    }

    #[test]
    fn added_texts_are_listed_by_choice() {
        let texts = added_texts(
            br#"{"choices":[{"delta":{"role":"assistant","content":"a"}},
            {"index":1,"delta":{"tool_calls":[{"id":"x","type":"function","function":{"arguments":"b"}}]}},
            {"index":2,"text":"c","finish_reason":"stop"}]}"#,
        );
        assert_eq!(texts, [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
        assert_eq!(added_texts(b"[DONE]"), []);
    }

    #[test]
    fn done_silent_unreadable_and_foreign_events_are_recognized() {
        assert_eq!(chunk("[DONE]").kind, ChunkKind::Done);
        assert_eq!(chunk(" [DONE] ").kind, ChunkKind::Done);
        assert_eq!(chunk("").kind, ChunkKind::Silent);
        assert_eq!(Chunk::read(&Frame { data: None, ..frame("") }).kind, ChunkKind::Silent);
        for data in ["nonsense", "[]", "7", r#"{"choices":[{"delta""#, r#"{"choices":{}}"#, "<html>"] {
            assert_eq!(chunk(data).kind, ChunkKind::Unreadable, "{data}");
        }
        for data in
            ["{}", r#"{"AccessKeyId":"AKIA"}"#, r#"{"object":"list","data":[]}"#, r#"{"type":"ping"}"#]
        {
            assert_eq!(chunk(data).kind, ChunkKind::Foreign, "{data}");
        }
    }

    #[test]
    fn in_band_errors_are_recognized_by_field_object_or_event() {
        let message = |chunk: Chunk| match chunk.kind {
            ChunkKind::Error(error) => error.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message(chunk(r#"{"error":{"message":"boom"}}"#)).as_deref(), Some("boom"));
        assert_eq!(message(chunk(r#"{"error":"boom"}"#)).as_deref(), Some("boom"));
        assert_eq!(message(chunk(r#"{"object":"error","message":"boom"}"#)).as_deref(), Some("boom"));
        let of_choice = r#"{"choices":[{"index":0,"delta":{},"error":{"message":"boom","code":502},"finish_reason":"error"}]}"#;
        assert_eq!(message(chunk(of_choice)).as_deref(), Some("boom"));
        let named = Frame { event: Some(Bytes::from_static(b"error")), ..frame(r#"{"message":"boom"}"#) };
        assert_eq!(message(Chunk::read(&named)).as_deref(), Some("boom"));
    }

    #[test]
    fn whole_answer_has_model_usage_and_in_band_error() {
        let whole = AnswerBody::read(br#"{"model":"m","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        let whole = whole.unwrap();
        assert_eq!(whole.model.as_deref(), Some("m"));
        assert_eq!(whole.usage.unwrap().output_tokens, 2);
        assert_eq!(whole.error, None);
        assert!(AnswerBody::read(br#"{"error":{"message":"x"}}"#).unwrap().error.is_some());
        assert_eq!(AnswerBody::read(b"<html>"), None);
        assert_eq!(AnswerBody::read(b"[1]"), None);
    }

    #[test]
    fn json_of_another_service_is_not_an_answer() {
        for body in [
            "{}",
            r#"{"AccessKeyId":"AKIA","SecretAccessKey":"s"}"#,
            r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#,
            r#"{"data":{"user":"root"}}"#,
            r#"{"choices":["a"]}"#,
            r#"{"choices":null}"#,
            r#"{"message":"no such path"}"#,
        ] {
            assert_eq!(AnswerBody::read(body.as_bytes()), None, "{body}");
        }
        for body in [
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m"}"#,
            r#"{"data":[{"embedding":"AAAA"}]}"#,
            r#"{"choices":[{"text":"x"}]}"#,
            r#"{"choices":[]}"#,
        ] {
            assert!(AnswerBody::read(body.as_bytes()).is_some_and(|whole| whole.error.is_none()), "{body}");
        }
    }
}
