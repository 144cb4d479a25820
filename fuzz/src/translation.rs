//! Translation between dialects, for every pair: requests of callers, and what model servers answer, whole and as a stream.

use mcpctl_dialect::{
    Operation,
    sse::Decoder,
    translate::{TranslatedRequest, Translation},
};

const CALLERS: [Operation; 3] = [Operation::Chat, Operation::Responses, Operation::Messages];
const UPSTREAMS: [Operation; 2] = [Operation::Chat, Operation::Messages];
const NOW: u64 = 1_700_000_000;
/// What is written is at most so many times as long as what was read, and so much longer.
const MAX_GROWTH: usize = 64;
const MAX_FRAME: usize = 256 * 1024;

/// What is written is readable, and bounded by what was read.
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
                is_json(&request.body);
                is_bounded(request.body.len(), body.len());
            }
        }
        1 => {
            if let Some(answer) = plain.answer.whole(body) {
                is_json(&answer);
                is_bounded(answer.len(), body.len());
            }
        }
        _ => stream(&plain, body),
    }
}

fn stream(request: &TranslatedRequest, body: &[u8]) {
    let (mut events, mut translation) = (Decoder::default(), request.answer.stream());
    events.push(body);
    let mut written = Vec::new();
    while let Ok(Some(frame)) = events.next_frame() {
        written.extend_from_slice(&translation.push(&frame));
        if translation.exceeds_bounds() {
            break;
        }
    }
    written.extend_from_slice(&translation.finish());
    is_bounded(written.len(), body.len());
    let mut reader = Decoder::default();
    reader.push(&written);
    while let Some(frame) = reader.next_frame().expect("no event is too large") {
        match frame.data {
            Some(data) if data.as_ref() != b"[DONE]" => is_json(&data),
            _ => {}
        }
    }
    assert_eq!(reader.finish(), Ok(None), "the last event is whole");
}

fn is_json(body: &[u8]) {
    let read = serde_json::from_slice::<serde_json::Value>(body);
    assert!(read.is_ok(), "{read:?} of {}", String::from_utf8_lossy(body));
}

fn is_bounded(written: usize, read: usize) {
    assert!(written <= MAX_GROWTH * read + MAX_FRAME, "{written} bytes from {read}");
}
