//! Streams that break and go on with another attempt, in every pair of dialects. The events are those that servers write; the
//! attempts come from a list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::{
    EventReader, Operation,
    sse::{Decoder, Frame},
    translate::{
        DeltaReader, StreamTranslation,
        reply::{Delta, WriterOptions},
    },
};
use mcpctl_failover::class::FailureClass;
use mcpctl_relay::{Broken, NextAttempt, Recovery, StreamAccount, StreamOutcome, body::StreamBody};
use mcpctl_upstream::{Failure, StreamAnswer, StreamEvent, StreamEvents};
use serde_json::{Value, json};

/// How a scripted stream ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Done,
    /// With its finish reason, and without the dialect's last event.
    Finish,
    Cut,
}

/// The events of an answer in a dialect: its text in pieces, and perhaps a call.
fn events(operation: Operation, id: &str, pieces: &[&str], call: Option<&str>, end: End) -> String {
    let data = |value: Value| format!("data: {value}\n\n");
    let typed = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let mut out = String::new();
    if operation == Operation::Chat {
        let chunk = |delta: Value, finish: Value| {
            data(json!({ "id": id, "object": "chat.completion.chunk", "created": 7, "model": "m",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }))
        };
        out += &chunk(json!({ "role": "assistant", "content": "" }), Value::Null);
        for piece in pieces {
            out += &chunk(json!({ "content": piece }), Value::Null);
        }
        if let Some(arguments) = call {
            let function = json!({ "name": "look", "arguments": arguments });
            let call =
                json!({ "index": 0, "id": format!("call_{id}"), "type": "function", "function": function });
            out += &chunk(json!({ "tool_calls": [call] }), Value::Null);
        }
        if end != End::Cut {
            out += &chunk(json!({}), if call.is_some() { "tool_calls" } else { "stop" }.into());
        }
        if end == End::Done {
            out += "data: [DONE]\n\n";
        }
        return out;
    }
    out += &typed(
        json!({ "type": "message_start", "message": { "id": id, "type": "message", "role": "assistant",
        "model": "m", "content": [], "usage": { "input_tokens": 3, "output_tokens": 1 } } }),
    );
    out += &typed(
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    );
    for piece in pieces {
        let delta = json!({ "type": "text_delta", "text": piece });
        out += &typed(json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
    }
    if end != End::Cut {
        out += &typed(json!({ "type": "content_block_stop", "index": 0 }));
        out += &typed(json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
            "usage": { "output_tokens": 2 } }));
    }
    if end == End::Done {
        out += &typed(json!({ "type": "message_stop" }));
    }
    out
}

fn answer(operation: Operation, text: &str, failure: Option<Failure>) -> StreamAnswer {
    let (mut decoder, mut reader) = (Decoder::default(), EventReader::new(operation));
    decoder.push(text.as_bytes());
    let mut events = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let event = reader.read(&frame);
        events.push(Ok(StreamEvent { frame, event }));
    }
    events.extend(failure.map(Err));
    let rest = StreamEvents::new(stream::iter(events));
    StreamAnswer { status: StatusCode::OK, headers: HeaderMap::new(), held: Vec::new(), rest }
}

fn cut() -> Option<Failure> {
    Some(Failure::new(FailureClass::BrokenStream, "for a test"))
}

type Ends = Arc<Mutex<Vec<StreamOutcome>>>;

fn account(ends: &Ends) -> impl FnOnce(mcpctl_relay::StreamEnd) + Send + 'static {
    let ends = Arc::clone(ends);
    move |end| ends.lock().unwrap().push(end.outcome)
}

/// What the caller receives, how each attempt ended, and what each next attempt was offered.
struct Relayed {
    stream: String,
    ends: Vec<StreamOutcome>,
    offered: Vec<Broken>,
}

/// Relays the first answer, and the others after it breaks.
async fn relay(
    caller: Operation,
    first: (Operation, String, End),
    others: Vec<(Operation, String, End, bool)>,
) -> Relayed {
    let ends = Ends::default();
    let offered = Arc::new(Mutex::new(Vec::new()));
    let (operation, text, end) = first;
    let mut others = others.into_iter();
    let (seen, accounts) = (Arc::clone(&offered), Arc::clone(&ends));
    let next = Box::new(move |broken: Broken| {
        let prefix = broken.prefix.as_deref().map(|prefix| prefix.trim_end().len());
        seen.lock().unwrap().push(broken);
        let next = others.next().map(|(operation, text, end, continues)| NextAttempt {
            answer: answer(operation, &text, cut().filter(|_| end == End::Cut)),
            operation,
            continues: prefix.filter(|_| continues),
            account: StreamAccount::new(account(&accounts)),
        });
        async move { next }.boxed()
    });
    let options = WriterOptions::default();
    let recovery = Recovery::new(caller, operation, options.clone(), next);
    let first = answer(operation, &text, cut().filter(|_| end == End::Cut));
    let mut body = StreamBody::new(first, true, account(&ends)).for_caller(caller).recovered_by(recovery);
    if caller != operation {
        body = body.translated(StreamTranslation::resumed(caller, operation, &options, &[]).unwrap());
    }
    let pieces: Vec<Bytes> = body.map(|piece| piece.unwrap()).collect().await;
    let ends = ends.lock().unwrap().clone();
    let offered = offered.lock().unwrap().clone();
    Relayed { stream: String::from_utf8(pieces.concat()).unwrap(), ends, offered }
}

fn frames(stream: &str) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(stream.as_bytes());
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

/// The texts and the arguments that a caller reads.
fn read(caller: Operation, stream: &str) -> (String, String, usize) {
    let (mut text, mut arguments, mut calls) = (String::new(), String::new(), 0);
    let Some(mut reader) = DeltaReader::of(caller) else {
        // Responses: no reader, so the deltas are read from the events.
        for frame in frames(stream) {
            let data: Value = frame.data.map_or(Value::Null, |data| serde_json::from_slice(&data).unwrap());
            if data["type"] == "response.output_text.delta" {
                text += data["delta"].as_str().unwrap();
            }
        }
        return (text, arguments, calls);
    };
    for delta in frames(stream).iter().flat_map(|frame| reader.read(frame)) {
        match delta {
            Delta::Text { text: more, .. } => text += &more,
            Delta::ToolArguments { json, .. } => arguments += &json,
            Delta::ToolCall { .. } => calls += 1,
            _ => {}
        }
    }
    (text, arguments, calls)
}

const BROKEN: StreamOutcome = StreamOutcome::Broken(FailureClass::BrokenStream);

/// The last event of a complete stream.
fn proper_end(caller: Operation) -> &'static str {
    match caller {
        Operation::Chat => "data: [DONE]",
        Operation::Messages => "\"type\":\"message_stop\"",
        _ => "\"type\":\"response.completed\"",
    }
}

#[tokio::test]
async fn restarted_answer_goes_on_in_every_dialect() {
    for caller in [Operation::Chat, Operation::Messages, Operation::Responses] {
        for first in [Operation::Chat, Operation::Messages] {
            for second in [Operation::Chat, Operation::Messages] {
                for end in [End::Done, End::Finish] {
                    let whole = ["Gr", "üße, ", "wor", "ld \u{1f980}"];
                    let first_part = events(first, "a", &["Grü", "ße, w"], None, End::Cut);
                    let again = (second, events(second, "b", &whole, None, end), end, false);
                    let relayed = relay(caller, (first, first_part, End::Cut), vec![again]).await;
                    let name = format!("{caller:?} over {first:?}, then {second:?}:\n{}", relayed.stream);
                    assert_eq!(read(caller, &relayed.stream).0, whole.concat(), "{name}");
                    assert_eq!(relayed.stream.matches(proper_end(caller)).count(), 1, "{name}");
                    assert!(!relayed.stream.contains("\"error\":{"), "{name}");
                    assert_eq!(relayed.ends, [BROKEN, StreamOutcome::Completed], "{name}");
                    assert_eq!(relayed.offered, [Broken { prefix: Some("Grüße, w".into()) }], "{name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn inv_13_another_answer_ends_with_the_original_error() {
    for caller in [Operation::Chat, Operation::Messages, Operation::Responses] {
        for others in [
            vec![],
            vec![(
                Operation::Chat,
                events(Operation::Chat, "b", &["Hallo"], None, End::Done),
                End::Done,
                false,
            )],
            // Shorter than what was delivered.
            vec![(
                Operation::Chat,
                events(Operation::Chat, "b", &["Hel"], None, End::Done),
                End::Done,
                false,
            )],
        ] {
            let count = others.len();
            let first = (Operation::Chat, events(Operation::Chat, "a", &["Hello"], None, End::Cut), End::Cut);
            let relayed = relay(caller, first, others).await;
            assert_eq!(read(caller, &relayed.stream).0, "Hello");
            assert!(!relayed.stream.contains(proper_end(caller)), "{}", relayed.stream);
            assert!(relayed.stream.contains("broke off before its end"), "{}", relayed.stream);
            assert_eq!(relayed.ends, vec![BROKEN; count + 1]);
        }
    }
}

#[tokio::test]
async fn attempts_that_break_again_are_followed_by_the_next() {
    let chat = |id, pieces: &[&str], end| {
        (Operation::Chat, events(Operation::Chat, id, pieces, None, end), end, false)
    };
    let first = (Operation::Chat, events(Operation::Chat, "a", &["one "], None, End::Cut), End::Cut);
    let others = vec![
        // Breaks while it catches up, and after it went on.
        chat("b", &["on"], End::Cut),
        chat("c", &["one two "], End::Cut),
        chat("d", &["one two three"], End::Done),
    ];
    let relayed = relay(Operation::Chat, first, others).await;
    assert_eq!(read(Operation::Chat, &relayed.stream).0, "one two three");
    assert_eq!(relayed.ends, [BROKEN, BROKEN, BROKEN, StreamOutcome::Completed]);
    let prefixes: Vec<_> = relayed.offered.iter().map(|broken| broken.prefix.as_deref().unwrap()).collect();
    assert_eq!(prefixes, ["one ", "one ", "one two "]);
}

#[tokio::test]
async fn continued_answer_is_forwarded_from_its_start() {
    let first = (Operation::Chat, events(Operation::Chat, "a", &["Once "], None, End::Cut), End::Cut);
    // The white space at its end was not part of what the next attempt continued.
    let rest = events(Operation::Messages, "b", &[" upon", " a time"], None, End::Done);
    let relayed = relay(Operation::Chat, first, vec![(Operation::Messages, rest, End::Done, true)]).await;
    assert_eq!(read(Operation::Chat, &relayed.stream).0, "Once upon a time");
    assert!(
        frames(&relayed.stream).iter().all(|frame| !frame.raw.windows(3).any(|id| id == b"\"b\"")),
        "one id"
    );
}

#[tokio::test]
async fn call_is_delivered_once() {
    let first = events(Operation::Chat, "a", &[], Some("{\"x\""), End::Cut);
    let again = events(Operation::Chat, "b", &[], Some("{\"x\":1}"), End::Done);
    let first = (Operation::Chat, first, End::Cut);
    let relayed =
        relay(Operation::Chat, first.clone(), vec![(Operation::Chat, again, End::Done, false)]).await;
    assert_eq!(read(Operation::Chat, &relayed.stream), (String::new(), "{\"x\":1}".into(), 1));
    assert_eq!(relayed.offered, [Broken { prefix: None }], "no model continues a call");
    assert!(!relayed.stream.contains("call_b"), "{}", relayed.stream);

    let other = events(Operation::Chat, "b", &[], Some("{\"y\":1}"), End::Done);
    let relayed = relay(Operation::Chat, first, vec![(Operation::Chat, other, End::Done, false)]).await;
    assert_eq!(read(Operation::Chat, &relayed.stream), (String::new(), "{\"x\"".into(), 1));
    assert!(!relayed.stream.contains("[DONE]"), "{}", relayed.stream);
}

/// A caller who got an untouched stream may have more than its pieces show.
#[tokio::test]
async fn call_without_arguments_is_delivered_once_and_what_is_unknown_ends() {
    let chunk = |delta: Value| {
        format!(
            "data: {}\n\n",
            json!({ "id": "a", "model": "m", "choices": [{ "index": 0, "delta": delta }] })
        )
    };
    let call = |fields: Value| chunk(json!({ "tool_calls": [fields] }));
    let begun = call(json!({ "index": 0, "id": "call_a", "function": { "name": "look", "arguments": "" } }));
    let again = events(Operation::Chat, "b", &[], Some("{\"x\":1}"), End::Done);
    let others = || vec![(Operation::Chat, again.clone(), End::Done, false)];
    let relayed = relay(Operation::Chat, (Operation::Chat, begun, End::Cut), others()).await;
    assert_eq!(read(Operation::Chat, &relayed.stream), (String::new(), "{\"x\":1}".into(), 1));
    assert_eq!(relayed.stream.matches("\"look\"").count(), 1, "{}", relayed.stream);

    for unknown in [
        chunk(json!({ "audio": { "data": "AAAA" } })),
        chunk(json!({ "function_call": { "name": "look", "arguments": "{" } })),
        call(
            json!({ "index": 0, "id": "call_a", "type": "custom", "custom": { "name": "f", "input": "x" } }),
        ),
    ] {
        let relayed = relay(Operation::Chat, (Operation::Chat, unknown.clone(), End::Cut), others()).await;
        assert_eq!((relayed.offered.len(), relayed.ends.as_slice()), (0, &[BROKEN][..]), "{unknown}");
    }

    // Behind a signature, the caller's block is open and a writer's is not. Between two blocks, no writer could know which of them are open.
    let typed = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let signature = json!({ "type": "signature_delta", "signature": "s" });
    for last in [
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_delta", "index": 0, "delta": signature }),
    ] {
        let mut blocks = events(Operation::Messages, "a", &["Hi"], None, End::Cut);
        blocks += &typed(last.clone());
        let again = events(Operation::Messages, "b", &["Hi", "!"], None, End::Done);
        let others = vec![(Operation::Messages, again, End::Done, false)];
        let relayed = relay(Operation::Messages, (Operation::Messages, blocks, End::Cut), others).await;
        assert_eq!((relayed.offered.len(), relayed.ends.as_slice()), (0, &[BROKEN][..]), "{last}");
    }
}

#[tokio::test]
async fn more_than_can_be_remembered_is_not_resumed() {
    let long = "x".repeat(2 * 1024 * 1024);
    let first = (Operation::Chat, events(Operation::Chat, "a", &[&long], None, End::Cut), End::Cut);
    let again = events(Operation::Chat, "b", &[&long, "y"], None, End::Done);
    let relayed = relay(Operation::Chat, first, vec![(Operation::Chat, again, End::Done, false)]).await;
    assert_eq!((relayed.offered.len(), relayed.ends.as_slice()), (0, &[BROKEN][..]));
}

#[tokio::test]
async fn inv_13_more_calls_than_are_translated_end_with_an_error() {
    let calls: String = (0..300)
        .map(|index| {
            let call = json!({ "index": index, "id": format!("c{index}"), "type": "function",
                "function": { "name": "f", "arguments": "{}" } });
            let delta = json!({ "tool_calls": [call] });
            let chunk = json!({ "id": "a", "object": "chat.completion.chunk", "model": "m",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
            format!("data: {chunk}\n\n")
        })
        .collect();
    let calls = calls + &events(Operation::Chat, "a", &[], None, End::Done);
    for caller in [Operation::Messages, Operation::Responses] {
        let relayed = relay(caller, (Operation::Chat, calls.clone(), End::Done), Vec::new()).await;
        assert_eq!(relayed.ends.as_slice(), &[BROKEN], "{caller:?}");
        assert!(relayed.stream.contains("answer_too_large"), "{caller:?}");
        assert!(!relayed.stream.contains("message_stop") && !relayed.stream.contains("response.completed"));
    }
}

/// The answer fits into no other attempt either, and what the upstream still writes is not read.
#[tokio::test]
async fn inv_13_too_large_an_answer_is_not_resumed() {
    let long = "x".repeat(5 * 1024 * 1024);
    let first = (Operation::Chat, events(Operation::Chat, "a", &["y", &long, "z"], None, End::Cut), End::Cut);
    let again = events(Operation::Chat, "b", &["y"], None, End::Done);
    let relayed = relay(Operation::Responses, first, vec![(Operation::Chat, again, End::Done, false)]).await;
    assert_eq!((relayed.offered.len(), relayed.ends.as_slice()), (0, &[BROKEN][..]));
    assert_eq!(read(Operation::Responses, &relayed.stream).0, "y");
    assert!(relayed.stream.contains("answer_too_large") && !relayed.stream.contains("broke off"));
}

#[tokio::test(start_paused = true)]
async fn comments_are_sent_while_the_next_attempt_is_on_its_way() {
    let next = Box::new(|_| {
        let late = async {
            tokio::time::sleep(std::time::Duration::from_secs(12)).await;
            None
        };
        late.boxed()
    });
    let options = WriterOptions::default();
    let recovery = Recovery::new(Operation::Chat, Operation::Chat, options, next);
    let first = answer(Operation::Chat, &events(Operation::Chat, "a", &["x"], None, End::Cut), cut());
    let body = StreamBody::new(first, true, |_| {}).recovered_by(recovery);
    let pieces: Vec<Bytes> = body.map(|piece| piece.unwrap()).collect().await;
    assert_eq!(pieces.iter().filter(|piece| piece.as_ref() == b":\n\n").count(), 2);
    assert!(pieces.last().unwrap().windows(7).any(|seven| seven == b"\"error\""));
}
