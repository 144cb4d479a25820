//! Translation between dialects, for every pair: requests of callers, and what model servers answer, whole and as a stream. What is
//! written is read again, and means what was read at first.

use mcpctl_dialect::{
    EventMeaning, EventReader, Operation,
    sse::Decoder,
    translate::{
        DeltaReader, TranslatedRequest, Translation, chat,
        conversation::Conversation,
        messages,
        reply::{Delta, Reply},
        responses,
    },
};
use serde_json::Value;

use crate::meaning::{Answer, Question};

const CALLERS: [Operation; 3] = [Operation::Chat, Operation::Responses, Operation::Messages];
const UPSTREAMS: [Operation; 2] = [Operation::Chat, Operation::Messages];
const NOW: u64 = 1_700_000_000;
/// What is written is at most so many times as long as what was read, and so much longer.
const MAX_GROWTH: usize = 64;
const MAX_FRAME: usize = 256 * 1024;

/// What is written is readable, bounded by what was read, and of the same meaning.
pub fn run(data: &[u8]) {
    let Some((choice, body)) = crate::choice(data) else { return };
    let caller = CALLERS[usize::from(choice) % 3];
    let upstream = UPSTREAMS[usize::from(choice) / 3 % 2];
    let Ok(Some(translation)) = Translation::between(caller, upstream) else { return };
    let plain: &[u8] = match caller {
        Operation::Responses => br#"{"model":"m","input":"Hi"}"#,
        _ => br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#,
    };
    let plain = translation.request(plain, "m", NOW).expect("a plain request is translated");
    match choice / 6 % 3 {
        0 => {
            if let Ok(request) = translation.request(body, "m", NOW) {
                is_bounded(request.body.len(), body.len());
                let asked = read_request(caller, body).expect("what was translated is read");
                let written = read_request(upstream, &request.body).unwrap_or_else(|| {
                    panic!("what is written is not a request: {}", String::from_utf8_lossy(&request.body))
                });
                Question::of(&asked).is_kept_by(&Question::of(&written), upstream);
            }
        }
        1 => {
            if let Some(answer) = plain.answer.whole(body) {
                is_bounded(answer.len(), body.len());
                let read = read_reply(upstream, body).expect("what was translated is read");
                let text = String::from_utf8_lossy(&answer);
                let written = match caller {
                    Operation::Responses => Answer::of_response(&json(&answer)),
                    _ => Answer::of_reply(
                        &read_reply(caller, &answer).unwrap_or_else(|| panic!("no answer: {text}")),
                    ),
                };
                Answer::of_reply(&read).is_kept_by(&written, caller);
            }
        }
        _ => stream(&plain, caller, upstream, body),
    }
}

fn stream(request: &TranslatedRequest, caller: Operation, upstream: Operation, body: &[u8]) {
    let (mut events, mut translation) = (Decoder::default(), request.answer.stream());
    events.push(body);
    let (mut written, mut deltas) = (Vec::new(), Vec::new());
    let mut meanings = EventReader::new(upstream);
    while let Ok(Some(frame)) = events.next_frame() {
        for delta in translation.read(&frame) {
            written.extend_from_slice(&translation.write(&delta));
            deltas.push(delta);
        }
        // A relay reads nothing after the end.
        let is_last = meanings.read(&frame).meaning == EventMeaning::Done;
        if is_last || translation.exceeds_bounds() || translation.has_failed() {
            break;
        }
    }
    // As a relay does: the proper end is written where the upstream's stream has one, and never after a failure.
    let ended = deltas.iter().any(|delta| matches!(delta, Delta::Finish { choice: 0, .. }));
    let is_complete = ended && !translation.exceeds_bounds() && !translation.has_failed();
    if is_complete {
        written.extend_from_slice(&translation.finish());
    }
    is_bounded(written.len(), body.len());
    let mut frames = Decoder::default();
    frames.push(&written);
    let mut reader = DeltaReader::of(caller);
    let (mut again, mut values) = (Vec::new(), Vec::new());
    while let Some(frame) = frames.next_frame().expect("no event is too large") {
        if let Some(data) = frame.data.as_ref().filter(|data| data.as_ref() != b"[DONE]") {
            values.push(json(data));
        }
        again.extend(reader.as_mut().map(|reader| reader.read(&frame)).unwrap_or_default());
    }
    assert_eq!(frames.finish(), Ok(None), "the last event is whole");
    if is_complete {
        let written = match caller {
            Operation::Responses => Answer::of_response_events(&values),
            _ => Answer::of_deltas(&again),
        };
        Answer::of_deltas(&deltas).is_kept_by(&written, caller);
    }
}

fn read_request(operation: Operation, body: &[u8]) -> Option<Conversation> {
    match operation {
        Operation::Chat => chat::read_request(body).ok(),
        Operation::Messages => messages::read_request(body).ok(),
        _ => responses::read_request(body).ok(),
    }
}

fn read_reply(operation: Operation, body: &[u8]) -> Option<Reply> {
    match operation {
        Operation::Messages => messages::read_reply(body),
        _ => chat::read_reply(body),
    }
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

fn is_bounded(written: usize, read: usize) {
    assert!(written <= MAX_GROWTH * read + MAX_FRAME, "{written} bytes from {read}");
}
