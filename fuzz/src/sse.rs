//! The framing of event streams, against the standard's own steps over the whole stream (WHATWG HTML, "Server-sent events").

use bytes::Bytes;
use mcpctl_dialect::sse::{Decoder, EventTooLarge, Frame};

const MAX_EVENT: usize = 1024;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// However a stream is cut into pieces, its frames are those of the reference, and so is where it fails.
pub fn run(data: &[u8]) {
    let Some((choice, stream)) = crate::choice(data) else { return };
    let expected = reference(stream);
    let chosen = usize::from(choice);
    let sizes = [1, 2, 3, chosen % 64 + 4, stream.len().max(1)];
    for size in sizes {
        assert_eq!(frames(stream.chunks(size)), expected, "in pieces of {size}");
    }
    let (head, tail) = stream.split_at(chosen.min(stream.len()));
    assert_eq!(frames([head, &[], tail].into_iter()), expected, "cut at {chosen}");
    let (frames, ended) = expected;
    if ended.is_ok() {
        let raw: Vec<u8> = frames.iter().flat_map(|frame| frame.raw.to_vec()).collect();
        assert_eq!(raw, stream, "every byte is in a frame");
    }
    frames.into_iter().for_each(screened);
}

/// What is forwarded of a frame has the same data, and nothing else that a server wrote.
fn screened(frame: Frame) {
    let only = frame.clone().data_only();
    let (read, ended) = frames([&*only.raw].into_iter());
    assert_eq!((read.len(), ended), (1, Ok(())), "{only:?} is one frame");
    assert_eq!((&read[0].data, &only.data), (&frame.data, &frame.data));
    assert!(read[0].event.is_none());
    let without: Vec<_> = [only.raw.as_ref(), frame.without_data().raw.as_ref()].concat();
    let text = without.strip_prefix(BOM).unwrap_or(&without);
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let is_kept = line.is_empty() || line == b":" || line == b"data" || line.starts_with(b"data:");
        assert!(is_kept, "{} goes on", String::from_utf8_lossy(line));
    }
}

/// The frames of a stream, which are the same where its pieces are copied and where they are not.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone) -> (Vec<Frame>, Result<(), EventTooLarge>) {
    let copied = decoded(pieces.clone(), Decoder::push);
    let sliced = decoded(pieces, |decoder, piece| decoder.push_piece(Bytes::copy_from_slice(piece)));
    assert_eq!(copied, sliced);
    copied
}

fn decoded<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    push: impl Fn(&mut Decoder, &[u8]),
) -> (Vec<Frame>, Result<(), EventTooLarge>) {
    let (mut decoder, mut frames) = (Decoder::new(MAX_EVENT), Vec::new());
    for piece in pieces {
        push(&mut decoder, piece);
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

/// The lines of a whole stream, each with its end.
fn lines(stream: &[u8]) -> Vec<(&[u8], &[u8])> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let mut end = at;
        while end < stream.len() && !matches!(stream[end], b'\n' | b'\r') {
            end += 1;
        }
        let mut next = (end + 1).min(stream.len());
        if stream[end..].starts_with(b"\r\n") {
            next = end + 2;
        }
        lines.push((&stream[at..end], &stream[at..next]));
        at = next;
    }
    lines
}

/// Reads line by line, with the whole stream at hand.
fn reference(stream: &[u8]) -> (Vec<Frame>, Result<(), EventTooLarge>) {
    let (mut frames, mut block, mut raw) = (Vec::new(), Block::default(), Vec::new());
    let lines = lines(stream);
    for (number, (line, with_end)) in lines.iter().enumerate() {
        raw.extend_from_slice(with_end);
        let line = if number == 0 { line.strip_prefix(BOM).unwrap_or(line) } else { line };
        block.add(line);
        let is_blank = line.is_empty() && matches!(with_end.last(), Some(b'\n' | b'\r'));
        if raw.len() > MAX_EVENT {
            return (frames, Err(EventTooLarge { max: MAX_EVENT }));
        }
        if is_blank || number + 1 == lines.len() {
            frames.push(std::mem::take(&mut block).frame(std::mem::take(&mut raw)));
        }
    }
    (frames, Ok(()))
}

#[derive(Default)]
struct Block {
    data: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
    comment: bool,
}

impl Block {
    fn add(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(0) => {
                self.comment = true;
                return;
            }
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"event" => self.event = Some(value.to_vec()),
            _ => {}
        }
    }

    fn frame(self, raw: Vec<u8>) -> Frame {
        let Self { data, event, comment } = self;
        Frame { raw: raw.into(), data: data.map(Bytes::from), event: event.map(Bytes::from), comment }
    }
}
