//! Finds out from the first bytes of an answer whether it is an event stream: servers and proxies also send streams under other
//! content types than `text/event-stream`, or under none.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

use crate::{body::Body, patience::before};

/// How many bytes are read at most before the decision.
const MAX_PEEKED_BYTES: usize = 16 * 1024;
/// How a line of an event stream begins (WHATWG HTML, "Server-sent events").
const FIELDS: [&[u8]; 5] = [b":", b"data", b"event", b"id", b"retry"];
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reads until the bytes show whether they begin an event stream; returns the bytes, and whether they do. `None` where that is
/// still open when the timer fires. A connection that fails meanwhile fails again for the reader.
pub(crate) async fn peek(body: &mut Body, mut timer: Pin<&mut Sleep>) -> Option<(Bytes, bool)> {
    let mut start = BytesMut::new();
    loop {
        if let Some(is_stream) = begins_stream(&start) {
            return Some((start.freeze(), is_stream));
        }
        match before(timer.as_mut(), body.data()).await {
            Some(Some(Ok(bytes))) => start.extend_from_slice(&bytes),
            Some(None | Some(Err(_))) => return Some((start.freeze(), false)),
            None => return None,
        }
    }
}

/// Whether these bytes begin an event stream; `None` where more are needed.
fn begins_stream(start: &[u8]) -> Option<bool> {
    let text = start.strip_prefix(BOM).unwrap_or(start).trim_ascii_start();
    if FIELDS.iter().any(|field| text.starts_with(field)) {
        return Some(true);
    }
    let undecided = BOM.starts_with(text) || FIELDS.iter().any(|field| field.starts_with(text));
    if undecided && start.len() <= MAX_PEEKED_BYTES { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_show_an_event_stream() {
        for (start, expected) in [
            (&b"data: {}"[..], Some(true)),
            (b"\r\n: ping", Some(true)),
            (b"\xEF\xBB\xBFevent: x", Some(true)),
            (b"id: 1", Some(true)),
            (b"", None),
            (b"  \n", None),
            (b"dat", None),
            (b"\xEF\xBB", None),
            (b"{\"data", Some(false)),
            (b"[", Some(false)),
            (b"<html>", Some(false)),
            (b"dates", Some(false)),
        ] {
            assert_eq!(begins_stream(start), expected, "{start:?}");
        }
        assert_eq!(begins_stream(&vec![b' '; MAX_PEEKED_BYTES + 1]), Some(false));
    }
}
