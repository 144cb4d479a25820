//! Classifies the events of a stream and reads whole answers: whether there is content, which model answered, how many tokens
//! it used, how the answer ended. It reads chat completions, completions and embeddings, tolerates what compatible servers
//! add or leave out, and keeps no text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    chunk::{Choices, Chunk},
    usage::ReportedUsage,
};
use crate::{
    error::UpstreamError,
    event::{AnswerBody, Event, EventMeaning, added_texts},
    lenient,
    presence::Presence,
    sse::Frame,
    texts::Text,
};

/// Classifies a frame of a chat completions or completions stream.
pub(crate) fn read(frame: &Frame) -> Event {
    read_chunk::<false>(frame).0
}

/// As [`read`], with the text that the event adds to each choice.
pub(crate) fn read_with_texts(frame: &Frame) -> (Event, Vec<(u64, String)>) {
    read_chunk::<true>(frame)
}

fn read_chunk<const TEXTS: bool>(frame: &Frame) -> (Event, Vec<(u64, String)>) {
    let bare = |meaning| (Event::bare(meaning), Vec::new());
    let Some(data) = frame.data.as_deref() else { return bare(EventMeaning::Silent) };
    let text = data.trim_ascii();
    if text == b"[DONE]" {
        return bare(EventMeaning::Done);
    }
    if text.is_empty() {
        return bare(EventMeaning::Silent);
    }
    let Some(chunk) = lenient::object::<Chunk<'_, TEXTS>>(text) else {
        let texts = if TEXTS { added_texts(text) } else { Vec::new() };
        return (Event::bare(EventMeaning::Unreadable), texts);
    };
    let object = chunk.object.0.as_deref();
    if chunk.error.0 || object == Some("error") || frame.event.as_deref() == Some(b"error") {
        return bare(EventMeaning::Error(UpstreamError::read(text)));
    }
    let usage = chunk.usage.and_then(|usage| usage.0);
    let is_chunk = object.is_some_and(|object| CHUNKS.contains(&object));
    if chunk.choices.is_none() && usage.is_none() && !is_chunk {
        return bare(EventMeaning::Foreign);
    }
    let Choices { count, finished, has_content, failed, texts } = chunk.choices.flatten().unwrap_or_default();
    // OpenRouter reports an error of one choice in that choice.
    if failed {
        return bare(EventMeaning::Error(UpstreamError::read(text)));
    }
    let meaning = if finished > 0 || has_content {
        EventMeaning::Content
    } else if count == 0 && usage.is_some() {
        EventMeaning::UsageOnly
    } else {
        EventMeaning::StartUp
    };
    (Event { meaning, model: chunk.model.0.map(Cow::into_owned), usage, finished }, texts)
}

/// The values of `object` that mark an event as a completion's.
const CHUNKS: [&str; 4] =
    ["chat.completion.chunk", "text_completion", "text_completion.chunk", "chat.completion"];

/// Reads a whole answer. `None` for a body that is neither a completion nor embeddings nor an error: other JSON may be another
/// service's answer, which callers must not see.
pub(crate) fn read_answer(body: &[u8]) -> Option<AnswerBody> {
    let wire: WireAnswer = lenient::object(body)?;
    let of_choice = wire.choices.as_ref().is_some_and(|choices| choices.iter().any(|choice| choice.error.0));
    let error = wire.error.0 || of_choice || wire.object.0.as_deref() == Some("error");
    let embeddings = wire.data.is_some_and(|data| data.iter().all(|entry| entry.embedding.0));
    if !error && wire.choices.is_none() && !embeddings {
        return None;
    }
    Some(AnswerBody {
        model: wire.model.0.map(Cow::into_owned),
        usage: wire.usage.and_then(|usage| usage.0),
        error: error.then(|| UpstreamError::read(body)),
    })
}

/// Reads a string; a value of another type counts as absent.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow, default)]
    object: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(default)]
    choices: Option<Vec<WireChoice>>,
    #[serde(default)]
    data: Option<Vec<WireEmbedding>>,
    #[serde(default)]
    usage: Option<ReportedUsage>,
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
    error: Presence,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::usage::Usage;

    fn chunk(data: &str) -> Event {
        read(&frame(data))
    }

    fn frame(data: &str) -> Frame {
        Frame { raw: Bytes::new(), data: Some(Bytes::from(data.to_owned())), event: None, comment: false }
    }

    #[test]
    fn texts_are_read_in_the_same_pass_as_in_one_of_their_own() {
        for data in [
            r#"{"choices":[{"delta":{"role":"assistant","content":"a\n\u00e9"},"index":1},{"delta":{"x":["b",{"id":"no","y":"c"}]}}]}"#,
            r#"{"choices":[{"index":2,"delta":{"tool_calls":[{"id":"x","type":"function","function":{"name":"n","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"text":"a","finish_reason":"stop"}],"model":"m","usage":null}"#,
            r#"{"choices":[{"delta":{"content":"half \ud83c"}}]}"#,
            r#"{"choices":[{"delta":null}],"object":7}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
        ] {
            let (event, texts) = read_with_texts(&frame(data));
            assert_eq!((event, texts), (chunk(data), added_texts(data.as_bytes())), "{data}");
        }
        let unreadable =
            r#"{"choices":[{"delta":{"content":"a"},"text":"b"}],"choices":7,"delta":{"x":"c"}}"#;
        assert_eq!(chunk(unreadable).meaning, EventMeaning::Unreadable);
    }

    #[test]
    fn usage_in_odd_forms_rejects_no_answer() {
        let usage = |usage: &str| {
            let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
            read_answer(body.as_bytes()).unwrap().usage.map(|usage| (usage.input_tokens, usage.output_tokens))
        };
        assert_eq!(usage(r#"{"prompt_tokens":1,"completion_tokens":2}"#), Some((1, 2)));
        // Of equal keys the last one counts, and numbers that JSON does not have are `null`.
        assert_eq!(usage(r#"{"prompt_tokens":1,"prompt_tokens":3}"#), Some((3, 0)));
        assert_eq!(usage(r#"{"prompt_tokens":1,"completion_tokens":NaN}"#), Some((1, 0)));
        for other in
            ["null", "7", "[1,2]", "\"a\"", "{}", r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":1.5}"#]
        {
            assert_eq!(usage(other), None, "{other}");
        }
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
            assert_eq!(chunk(data).meaning, EventMeaning::StartUp, "{data}");
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
                (chunk.meaning, chunk.finished),
                (EventMeaning::Content, usize::from(finished)),
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
        assert_eq!(alone.meaning, EventMeaning::UsageOnly);
        assert_eq!((alone.usage, alone.model.as_deref()), (Some(usage), Some("m-1")));

        let beside = chunk(
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"prompt_tokens_details":null}}"#,
        );
        assert_eq!(beside.meaning, EventMeaning::Content);
        assert_eq!(beside.usage, Some(Usage { input_tokens: 7, ..Usage::default() }));

        let wrong = chunk(r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":-1}}"#);
        assert_eq!((wrong.meaning, wrong.usage), (EventMeaning::Content, None));
    }

    #[test]
    fn done_silent_unreadable_and_foreign_events_are_recognized() {
        assert_eq!(chunk("[DONE]").meaning, EventMeaning::Done);
        assert_eq!(chunk(" [DONE] ").meaning, EventMeaning::Done);
        assert_eq!(chunk("").meaning, EventMeaning::Silent);
        assert_eq!(read(&Frame { data: None, ..frame("") }).meaning, EventMeaning::Silent);
        for data in ["nonsense", "[]", "7", r#"{"choices":[{"delta""#, r#"{"choices":{}}"#, "<html>"] {
            assert_eq!(chunk(data).meaning, EventMeaning::Unreadable, "{data}");
        }
        for data in
            ["{}", r#"{"AccessKeyId":"AKIA"}"#, r#"{"object":"list","data":[]}"#, r#"{"type":"ping"}"#]
        {
            assert_eq!(chunk(data).meaning, EventMeaning::Foreign, "{data}");
        }
    }

    #[test]
    fn in_band_errors_are_recognized_by_field_object_or_event() {
        let message = |chunk: Event| match chunk.meaning {
            EventMeaning::Error(error) => error.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message(chunk(r#"{"error":{"message":"boom"}}"#)).as_deref(), Some("boom"));
        assert_eq!(message(chunk(r#"{"error":"boom"}"#)).as_deref(), Some("boom"));
        assert_eq!(message(chunk(r#"{"object":"error","message":"boom"}"#)).as_deref(), Some("boom"));
        let of_choice = r#"{"choices":[{"index":0,"delta":{},"error":{"message":"boom","code":502},"finish_reason":"error"}]}"#;
        assert_eq!(message(chunk(of_choice)).as_deref(), Some("boom"));
        let named = Frame { event: Some(Bytes::from_static(b"error")), ..frame(r#"{"message":"boom"}"#) };
        assert_eq!(message(read(&named)).as_deref(), Some("boom"));
    }

    #[test]
    fn whole_answer_has_model_usage_and_in_band_error() {
        let whole = read_answer(br#"{"model":"m","choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        let whole = whole.unwrap();
        assert_eq!(whole.model.as_deref(), Some("m"));
        assert_eq!(whole.usage.unwrap().output_tokens, 2);
        assert_eq!(whole.error, None);
        assert!(read_answer(br#"{"error":{"message":"x"}}"#).unwrap().error.is_some());
        assert_eq!(read_answer(b"<html>"), None);
        assert_eq!(read_answer(b"[1]"), None);
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
            assert_eq!(read_answer(body.as_bytes()), None, "{body}");
        }
        for body in [
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m"}"#,
            r#"{"data":[{"embedding":"AAAA"}]}"#,
            r#"{"choices":[{"text":"x"}]}"#,
            r#"{"choices":[]}"#,
        ] {
            assert!(read_answer(body.as_bytes()).is_some_and(|whole| whole.error.is_none()), "{body}");
        }
    }
}
