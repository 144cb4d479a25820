//! The events of a stream, as a client accumulates them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    event::EventMeaning,
    openai::responses::event::read_event,
    sse::{Decoder, Frame},
    translate::conversation::CallForm,
};

fn options() -> WriterOptions {
    let form = |function: &str, name: &str, namespace: Option<&str>, kind| CallForm {
        function: function.into(),
        name: name.into(),
        namespace: namespace.map(str::to_owned),
        kind,
    };
    let call_forms = vec![
        form("apply_patch", "apply_patch", None, CallKind::Custom),
        form("agents__send", "send", Some("agents"), CallKind::Function),
        form("tool_search", "tool_search", None, CallKind::ToolSearch),
    ];
    WriterOptions { now: 7, call_forms, ..WriterOptions::default() }
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn written(deltas: &[Delta]) -> Vec<Frame> {
    let mut writer = StreamWriter::new(&options());
    let mut out = Vec::new();
    for delta in deltas {
        out.extend_from_slice(&writer.write(delta));
    }
    out.extend_from_slice(&writer.finish());
    frames(&out)
}

/// Accumulates events as `openai-node` does: deltas are appended, and what an item or a part ends with has to equal them. As
/// LangChain does, it takes every event for one of the item that was added last.
fn accumulated(frames: &[Frame]) -> (Vec<String>, Value) {
    let (mut kinds, mut output, mut last) = (Vec::new(), Vec::<Value>::new(), Value::Null);
    let mut ended = 0;
    for (number, frame) in frames.iter().enumerate() {
        let event: Value = serde_json::from_slice(frame.data.as_deref().unwrap()).unwrap();
        let kind = event["type"].as_str().unwrap().to_owned();
        assert_eq!(frame.event.as_deref(), Some(kind.as_bytes()));
        assert_eq!(event["sequence_number"], number, "{event}");
        let at = |name: &str| usize::try_from(event[name].as_u64().unwrap()).unwrap();
        let append = |to: &mut Value| {
            *to = format!("{}{}", to.as_str().unwrap(), event["delta"].as_str().unwrap()).into()
        };
        if let Some(item) = event.get("item_id") {
            assert_eq!(output[at("output_index")]["id"], *item, "{event}");
            assert_eq!((output.len(), ended), (at("output_index") + 1, at("output_index")), "{event}");
        }
        match kind.as_str() {
            "response.output_item.added" => {
                assert_eq!((output.len(), ended), (at("output_index"), at("output_index")), "{event}");
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                output[at("output_index")]["content"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.output_text.delta" => {
                append(&mut output[at("output_index")]["content"][at("content_index")]["text"])
            }
            "response.refusal.delta" => {
                append(&mut output[at("output_index")]["content"][at("content_index")]["refusal"])
            }
            "response.output_text.done" => {
                assert_eq!(output[at("output_index")]["content"][at("content_index")]["text"], event["text"]);
            }
            "response.refusal.done" => {
                assert_eq!(
                    output[at("output_index")]["content"][at("content_index")]["refusal"],
                    event["refusal"]
                );
            }
            "response.content_part.done" => {
                output[at("output_index")]["content"][at("content_index")] = event["part"].clone();
            }
            "response.reasoning_summary_part.added" => {
                output[at("output_index")]["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.reasoning_summary_text.delta" => {
                append(&mut output[at("output_index")]["summary"][at("summary_index")]["text"]);
            }
            "response.reasoning_summary_text.done" => {
                assert_eq!(output[at("output_index")]["summary"][at("summary_index")]["text"], event["text"]);
            }
            "response.function_call_arguments.delta" => append(&mut output[at("output_index")]["arguments"]),
            "response.function_call_arguments.done" => {
                assert_eq!(output[at("output_index")]["arguments"], event["arguments"]);
                assert_eq!(output[at("output_index")]["name"], event["name"]);
            }
            "response.custom_tool_call_input.delta" => append(&mut output[at("output_index")]["input"]),
            "response.custom_tool_call_input.done" => {
                assert_eq!(output[at("output_index")]["input"], event["input"])
            }
            "response.output_item.done" => {
                output[at("output_index")] = event["item"].clone();
                ended += 1;
            }
            "response.completed" | "response.incomplete" => {
                last = event["response"].clone();
                assert_eq!(
                    last["output"],
                    Value::Array(output.clone()),
                    "the end repeats what the events were"
                );
            }
            _ => {}
        }
        kinds.push(kind);
    }
    (kinds, last)
}

fn start() -> Delta {
    Delta::Start { id: Some("chatcmpl-1".into()), model: Some("m".into()), created: Some(5) }
}

fn text(text: &str) -> Delta {
    Delta::Text { choice: 0, text: text.into(), logprobs: None }
}

fn call(call: u64, id: &str, name: &str) -> Delta {
    Delta::ToolCall { choice: 0, call, id: id.into(), name: name.into() }
}

fn arguments(call: u64, json: &str) -> Delta {
    Delta::ToolArguments { choice: 0, call, json: json.into() }
}

fn finish(finish: Finish) -> Delta {
    Delta::Finish { choice: 0, finish }
}

#[test]
fn text_has_the_whole_sequence_of_events() {
    let usage = Usage { input_tokens: 3, output_tokens: 2, cached_input_tokens: 1, ..Usage::default() };
    let frames = written(&[start(), text("Hel"), text("lo"), finish(Finish::Stop), Delta::Usage(usage)]);
    let (kinds, response) = accumulated(&frames);
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(response["id"], "resp_1");
    assert_eq!(
        (&response["status"], &response["store"], &response["created_at"]),
        (&json!("completed"), &json!(false), &json!(5))
    );
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
    let counted = json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 5});
    assert_eq!(response["usage"], counted);
    assert_eq!(read_event(frames.last().unwrap()).usage, Some(usage), "the facts read what is written");
}

#[test]
fn reasoning_and_calls_of_every_kind_are_items() {
    let (kinds, response) = accumulated(&written(&[
        start(),
        Delta::Reasoning { choice: 0, text: "hm".into() },
        Delta::ReasoningSignature { choice: 0, signature: "s".into() },
        Delta::EncryptedReasoning { choice: 0, data: "e".into() },
        text("I act."),
        call(0, "a", "f"),
        call(1, "b", "agents__send"),
        arguments(1, "{\"x\":"),
        arguments(0, "{}"),
        arguments(1, "1}"),
        call(2, "c", "apply_patch"),
        arguments(2, "{\"input\":\"*** Be"),
        arguments(2, "gin\\n\"}"),
        call(3, "d", "tool_search"),
        arguments(3, "{\"query\":\"q\"}"),
        call(4, "e", "g"),
        finish(Finish::ToolCalls),
    ]));
    assert_eq!(kinds.last().map(String::as_str), Some("response.completed"));
    assert_eq!(
        response["output"],
        json!([
            {"type": "reasoning", "id": "rs_1_0", "status": "completed", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "mcpctl:signature:s"},
            {"type": "reasoning", "id": "rs_1_1", "status": "completed", "summary": [], "encrypted_content": "mcpctl:encrypted:e"},
            {"type": "message", "id": "msg_1_2", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "I act.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1_3", "status": "completed", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call", "id": "fc_1_4", "status": "completed", "call_id": "b", "name": "send", "arguments": "{\"x\":1}", "namespace": "agents"},
            {"type": "custom_tool_call", "id": "ctc_1_5", "status": "completed", "call_id": "c", "name": "apply_patch", "input": "*** Begin\n"},
            {"type": "tool_search_call", "id": "tsc_1_6", "status": "completed", "call_id": "d", "execution": "client", "arguments": {"query": "q"}},
            {"type": "function_call", "id": "fc_1_7", "status": "completed", "call_id": "e", "name": "g", "arguments": "{}"},
        ])
    );
}

#[test]
fn cut_and_refused_answers_are_incomplete() {
    let (_, cut) = accumulated(&written(&[start(), text("Hel"), finish(Finish::Length)]));
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]),
        (&json!("incomplete"), &json!({"reason": "max_output_tokens"}))
    );
    assert_eq!(cut["output"][0]["status"], "incomplete");
    let (_, refused) = accumulated(&written(&[
        start(),
        text("Well"),
        Delta::Refusal { choice: 0, text: "no".into() },
        finish(Finish::Refused),
    ]));
    assert_eq!(refused["incomplete_details"]["reason"], "content_filter");
    assert_eq!(refused["output"][0]["content"][1], json!({"type": "refusal", "refusal": "no"}));
}

#[test]
fn inv_13_an_answer_beyond_the_bound_ends_with_an_error() {
    let mut writer = StreamWriter::new(&options());
    let big = text(&"x".repeat(MAX_KEPT_BYTES));
    writer.write(&start());
    let event = writer.write(&big);
    let EventMeaning::Error(error) = read_event(&frames(&event)[0]).meaning else { panic!("{event:?}") };
    assert_eq!(error.code.as_deref(), Some("answer_too_large"));
    assert!(writer.write(&text("a")).is_empty() && writer.finish().is_empty() && writer.has_failed());
    // The last event fits into one, whatever has to be escaped in it.
    let mut writer = StreamWriter::new(&options());
    writer.write(&text(&"\u{1}".repeat(MAX_KEPT_BYTES / 6 - ITEM_BYTES)));
    let last = writer.finish();
    assert!(!writer.has_failed() && last.len() > MAX_KEPT_BYTES / 2, "{}", last.len());
    assert!(frames(&last).iter().all(|frame| frame.raw.len() < crate::sse::DEFAULT_MAX_EVENT));
    let mut writer = StreamWriter::new(&options());
    writer.write(&text(&"\"".repeat(MAX_KEPT_BYTES / 2)));
    assert!(writer.has_failed(), "quotes take two bytes");
}

fn delta() -> impl Strategy<Value = Delta> {
    let words = "\\PC{0,3}";
    prop_oneof![
        words.prop_map(|words| text(&words)),
        words.prop_map(|text| Delta::Refusal { choice: 0, text }),
        words.prop_map(|text| Delta::Reasoning { choice: 0, text }),
        words.prop_map(|signature| Delta::ReasoningSignature { choice: 0, signature }),
        words.prop_map(|data| Delta::EncryptedReasoning { choice: 0, data }),
        (0_u64..3, prop_oneof![Just("f"), Just("apply_patch"), Just("agents__send"), Just("tool_search")])
            .prop_map(|(place, name)| call(place, &format!("c{place}"), name)),
        (0_u64..3, words).prop_map(|(place, json)| arguments(place, &json)),
        Just(Delta::Text { choice: 1, text: "other".into(), logprobs: None }),
    ]
}

proptest! {
    #[test]
    fn any_deltas_accumulate_to_the_answer_at_the_end(deltas in prop::collection::vec(delta(), 0..20), began in any::<bool>()) {
        let mut all = if began { vec![start()] } else { Vec::new() };
        all.extend(deltas);
        let (kinds, response) = accumulated(&written(&all));
        prop_assert_eq!(kinds.first().map(String::as_str), Some("response.created"));
        prop_assert_eq!(kinds.last().map(String::as_str), Some("response.completed"));
        prop_assert!(response["output"].as_array().unwrap().iter().all(Value::is_object));
    }
}
