//! The framing of event streams.

use mcpctl_dialect::sse::{Decoder, EventTooLarge, Frame};

const MAX_EVENT: usize = 1024;

/// However a stream is cut into pieces, its events are the same, and no event is larger than the bound.
pub fn run(data: &[u8]) {
    let Some((choice, stream)) = crate::choice(data) else { return };
    let (whole, ended) = frames(stream, stream.len().max(1));
    let (pieces, pieces_ended) = frames(stream, usize::from(choice % 16) + 1);
    assert!(whole.iter().chain(&pieces).all(|frame| frame.raw.len() <= MAX_EVENT));
    if ended.is_ok() && pieces_ended.is_ok() {
        let raw = |frames: &[Frame]| frames.iter().map(|frame| frame.raw.clone()).collect::<Vec<_>>();
        let data = |frames: &[Frame]| frames.iter().map(|frame| frame.data.clone()).collect::<Vec<_>>();
        assert_eq!(data(&whole), data(&pieces));
        assert_eq!(raw(&whole).concat(), raw(&pieces).concat());
        assert_eq!(raw(&whole).concat(), stream, "every byte is in an event");
    }
}

fn frames(stream: &[u8], size: usize) -> (Vec<Frame>, Result<(), EventTooLarge>) {
    let (mut decoder, mut frames) = (Decoder::new(MAX_EVENT), Vec::new());
    for piece in stream.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    let ended = decoder.finish().map(|frame| frames.extend(frame));
    (frames, ended)
}
