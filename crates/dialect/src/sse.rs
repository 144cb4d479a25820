//! Cuts a stream of server-sent events into frames. Each frame keeps the exact bytes that it was read from, so that forwarding
//! a frame forwards those bytes, wherever the network cut the stream. It implements the framing (WHATWG HTML, "Server-sent
//! events") and does not interpret the data.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// The default limit of one event, in bytes: far above any text delta, with room for one image or audio part in base64.
pub const DEFAULT_MAX_EVENT: usize = 8 * 1024 * 1024;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A block of a stream, up to and including the blank line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they came, line ends and blank line included. The frames of a stream, concatenated, are the stream.
    pub raw: Bytes,
    /// The `data` lines joined with line feeds; `None` where there is none (a comment, a lone blank line).
    pub data: Option<Bytes>,
    /// The value of the last `event` line.
    pub event: Option<Bytes>,
    /// Whether the block has a comment line, which servers send as a keep-alive.
    pub comment: bool,
}

impl Frame {
    /// Removes comments and all fields but `data`, because a server may write anything in them. A frame that has nothing else
    /// keeps its bytes; a frame without data becomes a keep-alive comment.
    #[must_use]
    pub fn data_only(self) -> Self {
        if lines(&self.raw).all(|line| line.is_empty() || is_field(line, b"data")) {
            return self;
        }
        let raw = match &self.data {
            None => Bytes::from_static(b":\n\n"),
            Some(data) => written(data),
        };
        Self { raw, event: None, ..self }
    }

    /// Replaces the frame by a keep-alive comment.
    #[must_use]
    pub fn without_data(self) -> Self {
        Self { raw: Bytes::from_static(b":\n\n"), data: None, event: None, comment: true }
    }

    /// As [`Frame::data_only`], but for the name of the event, which becomes `name`. A frame that has nothing else keeps its bytes.
    #[must_use]
    pub fn named_data_only(self, name: &str) -> Self {
        let is_kept = |line: &[u8]| {
            line.is_empty() || [&b"data"[..], b"event"].iter().any(|field| is_field(line, field))
        };
        if self.event.as_deref() == Some(name.as_bytes()) && lines(&self.raw).all(is_kept) {
            return self;
        }
        match &self.data {
            None => self.data_only(),
            Some(data) => Self::named(name, data),
        }
    }

    /// An event with a name.
    #[must_use]
    pub fn named(event: &str, data: &[u8]) -> Self {
        let raw = [b"event: ", event.as_bytes(), b"\n", &written(data)].concat().into();
        let data = Some(Bytes::copy_from_slice(data));
        Self { raw, data, event: Some(Bytes::copy_from_slice(event.as_bytes())), comment: false }
    }

    /// Replaces the data. The event keeps its name only where the frame has it.
    #[must_use]
    pub fn with_data(self, data: Bytes) -> Self {
        let is_named = lines(&self.raw).any(|line| is_field(line, b"event"));
        match self.event.as_deref().and_then(|name| std::str::from_utf8(name).ok()) {
            Some(name) if is_named => Self::named(name, &data),
            _ => Self { raw: written(&data), data: Some(data), event: self.event, comment: false },
        }
    }
}

/// Whether a line is of this field.
fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
}

fn written(data: &[u8]) -> Bytes {
    let mut raw = BytesMut::with_capacity(data.len().saturating_add(8));
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        raw.extend_from_slice(b"data: ");
        raw.extend_from_slice(line);
        raw.extend_from_slice(b"\n");
    }
    raw.extend_from_slice(b"\n");
    raw.freeze()
}

/// An event is larger than the decoder accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream event is larger than {max} bytes")]
pub struct EventTooLarge {
    /// The limit that it exceeds, in bytes.
    pub max: usize,
}

/// Cuts a byte stream into [`Frame`]s.
///
/// A carriage return at the end of the bytes so far is held back until the next byte shows whether a line feed belongs to it,
/// so that the frames do not depend on where the network cut the stream.
#[derive(Debug)]
pub struct Decoder {
    pending: Pending,
    /// Where the current line begins in `pending`.
    line_start: usize,
    /// Up to where `pending` has been searched for the end of that line.
    scanned: usize,
    at_start: bool,
    max_event: usize,
    failed: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_EVENT)
    }
}

impl Decoder {
    /// Creates a decoder that rejects events of more than `max_event` bytes.
    pub fn new(max_event: usize) -> Self {
        Self {
            pending: Pending::default(),
            line_start: 0,
            scanned: 0,
            at_start: true,
            max_event,
            failed: false,
        }
    }

    /// Adds the next bytes of the stream; [`Decoder::next_frame`] returns the frames that they complete.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.pending.join(bytes);
        }
    }

    /// As [`Decoder::push`], without a copy: frames that lie in this piece as a whole are slices of it.
    pub fn push_piece(&mut self, piece: Bytes) {
        match &mut self.pending {
            _ if self.failed => {}
            Pending::Piece(rest) if rest.is_empty() => *rest = piece,
            pending => pending.join(&piece),
        }
    }

    /// The next complete frame; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`EventTooLarge`] once an event exceeds the limit, and on every later call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, EventTooLarge> {
        if self.failed {
            return Err(EventTooLarge { max: self.max_event });
        }
        while let Some((line_end, next_line)) = self.line_end() {
            let line = self.pending.bytes().get(self.line_start..line_end).unwrap_or_default();
            let blank = line.is_empty() || (self.at_start && self.line_start == 0 && line == BOM);
            self.line_start = next_line;
            self.scanned = next_line;
            if blank {
                return self.cut(next_line).map(Some);
            }
        }
        if self.pending.bytes().len() > self.max_event {
            return Err(self.fail());
        }
        Ok(None)
    }

    /// The last frame of a stream that ended without a blank line.
    ///
    /// Browsers drop such an event. It is returned here because a relay forwards every byte, and because some servers end with
    /// `data: [DONE]` and no blank line.
    ///
    /// # Errors
    /// [`EventTooLarge`] where this event or an earlier one exceeds the limit.
    pub fn finish(mut self) -> Result<Option<Frame>, EventTooLarge> {
        let all = self.pending.bytes().len();
        if self.failed || all > self.max_event {
            return Err(EventTooLarge { max: self.max_event });
        }
        if all == 0 { Ok(None) } else { self.cut(all).map(Some) }
    }

    /// Where the current line ends and where the next begins.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let pending = self.pending.bytes();
        let unseen = pending.get(self.scanned..).unwrap_or_default();
        let Some(at) = memchr2(b'\n', b'\r', unseen) else {
            self.scanned = pending.len();
            return None;
        };
        let end = self.scanned.saturating_add(at);
        self.scanned = end;
        let after = end.saturating_add(1);
        match (pending.get(end), pending.get(after)) {
            (Some(b'\r'), None) => None,
            (Some(b'\r'), Some(b'\n')) => Some((end, after.saturating_add(1))),
            _ => Some((end, after)),
        }
    }

    fn cut(&mut self, end: usize) -> Result<Frame, EventTooLarge> {
        if end > self.max_event {
            return Err(self.fail());
        }
        let raw = self.pending.split_to(end);
        self.line_start = 0;
        self.scanned = 0;
        let body_start = if self.at_start && raw.starts_with(BOM) { BOM.len() } else { 0 };
        self.at_start = false;
        Ok(parse(raw, body_start))
    }

    fn fail(&mut self) -> EventTooLarge {
        self.failed = true;
        self.pending = Pending::default();
        EventTooLarge { max: self.max_event }
    }
}

/// The part of the stream that is in no frame yet.
#[derive(Debug)]
enum Pending {
    /// Of one piece.
    Piece(Bytes),
    /// An event that lies in several pieces, copied together, and what follows it.
    Joined(BytesMut),
}

impl Default for Pending {
    fn default() -> Self {
        Self::Piece(Bytes::new())
    }
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Piece(piece) => piece,
            Self::Joined(joined) => joined,
        }
    }

    fn join(&mut self, bytes: &[u8]) {
        match self {
            Self::Piece(piece) => {
                let mut joined = BytesMut::with_capacity(piece.len().saturating_add(bytes.len()));
                joined.extend_from_slice(piece);
                joined.extend_from_slice(bytes);
                *self = Self::Joined(joined);
            }
            Self::Joined(joined) => joined.extend_from_slice(bytes),
        }
    }

    /// Cuts off the first `end` bytes, of as many as there are.
    fn split_to(&mut self, end: usize) -> Bytes {
        match self {
            Self::Piece(piece) => piece.split_to(end),
            Self::Joined(joined) => {
                let cut = joined.split_to(end).freeze();
                if joined.is_empty() {
                    *self = Self::default();
                }
                cut
            }
        }
    }
}

fn parse(raw: Bytes, body_start: usize) -> Frame {
    let mut data: Option<Data> = None;
    let mut event = None;
    let mut comment = false;
    for line in lines(raw.get(body_start..).unwrap_or_default()) {
        let (name, value) = match memchr(b':', line) {
            Some(colon) => {
                let (name, rest) = line.split_at(colon);
                let value = rest.strip_prefix(b":").unwrap_or(rest);
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, line.get(line.len()..).unwrap_or_default()),
        };
        match name {
            b"" if !line.is_empty() => comment = true,
            b"data" => {
                data = Some(match data {
                    None => Data::One(raw.slice_ref(value)),
                    Some(earlier) => earlier.join(value),
                });
            }
            b"event" => event = Some(raw.slice_ref(value)),
            _ => {}
        }
    }
    Frame { data: data.map(Data::into_bytes), event, comment, raw }
}

/// The data of a frame. A single `data` line is a slice of the frame; several lines are copied.
enum Data {
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn join(self, line: &[u8]) -> Self {
        let mut all = match self {
            Self::One(first) => BytesMut::from(first.as_ref()),
            Self::Many(all) => all,
        };
        all.extend_from_slice(b"\n");
        all.extend_from_slice(line);
        Self::Many(all)
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::One(one) => one,
            Self::Many(all) => all.freeze(),
        }
    }
}

fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after
            .strip_prefix(b"\r\n")
            .or_else(|| after.strip_prefix(b"\n"))
            .or_else(|| after.strip_prefix(b"\r"))
            .unwrap_or(after);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(input: &[u8]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        decoder.push(input);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
        frames.extend(decoder.finish().unwrap());
        frames
    }

    fn data(input: &[u8]) -> Vec<Option<String>> {
        frames(input)
            .into_iter()
            .map(|frame| frame.data.map(|data| String::from_utf8(data.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for input in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
            assert_eq!(data(input.as_bytes()), [Some("a".into()), Some("b".into())], "{input:?}");
        }
    }

    #[test]
    fn data_lines_join_and_only_one_space_is_dropped() {
        assert_eq!(data(b"data: a\ndata:b\ndata:  c\ndata\n\n"), [Some("a\nb\n c\n".into())]);
        assert_eq!(data(b"data:\n\n"), [Some(String::new())]);
    }

    #[test]
    fn frames_without_data_keep_their_bytes() {
        let all = frames(b": ping\n\n\nid: 7\nretry: 3\n\nevent: error\ndata: x\n\n");
        assert_eq!(all.len(), 4);
        assert!(all[0].comment && all[0].data.is_none());
        assert_eq!(all[1].raw, "\n");
        assert!(all[2].data.is_none() && !all[2].comment);
        assert_eq!(all[3].event.as_deref(), Some(b"error".as_slice()));
        assert_eq!(all[3].data.as_deref(), Some(b"x".as_slice()));
    }

    #[test]
    fn byte_order_mark_is_skipped_at_the_start_only() {
        let all = frames(b"\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\n");
        assert_eq!(all[0].data.as_deref(), Some(b"a".as_slice()));
        assert_eq!(all[0].raw.as_ref(), b"\xEF\xBB\xBFdata: a\n\n");
        assert_eq!(all[1].data, None);
    }

    #[test]
    fn event_is_complete_with_its_blank_line() {
        let mut decoder = Decoder::default();
        decoder.push(b"data: a\n");
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(b"\n");
        assert!(decoder.next_frame().unwrap().is_some());
    }

    #[test]
    fn unterminated_last_event_is_read() {
        assert_eq!(data(b"data: a\n\ndata: [DONE]"), [Some("a".into()), Some("[DONE]".into())]);
    }

    #[test]
    fn data_only_removes_all_other_fields() {
        for (input, expected) in [
            ("data: a\n\n", "data: a\n\n"),
            ("data:a\ndata:b\r\n\r\n", "data:a\ndata:b\r\n\r\n"),
            ("\n", "\n"),
            (": secret\n\n", ":\n\n"),
            ("id: secret\nretry: 1\n\n", ":\n\n"),
            ("event: secret\ndata: a\ndata: b\nid: 1\n: secret\n\n", "data: a\ndata: b\n\n"),
            ("datasecret: x\ndata: a\n\n", "data: a\n\n"),
        ] {
            let frame = frames(input.as_bytes()).remove(0);
            let data = frame.data.clone();
            let only = frame.data_only();
            assert_eq!((only.raw.as_ref(), &only.data), (expected.as_bytes(), &data), "{input:?}");
        }
        let other = frames(b"data: a\n\n").remove(0).with_data(Bytes::from_static(b"b\nc"));
        assert_eq!(other.raw, "data: b\ndata: c\n\n");
    }

    #[test]
    fn too_large_event_fails_the_decoder_for_good() {
        let event = b"data: 123456789\n\n";
        for pieces in [event.len(), 1] {
            let mut decoder = Decoder::new(event.len() - 1);
            let mut result = Ok(None);
            for piece in event.chunks(pieces) {
                decoder.push(piece);
                result = decoder.next_frame();
            }
            assert_eq!(result, Err(EventTooLarge { max: event.len() - 1 }));
            assert!(decoder.next_frame().is_err());
        }
        let mut decoder = Decoder::new(event.len());
        decoder.push(event);
        decoder.push(event);
        assert!(decoder.next_frame().unwrap().is_some());
        assert!(decoder.next_frame().unwrap().is_some());
    }
}
