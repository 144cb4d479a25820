//! Splits a program's output into lines of bounded length.

use crate::output_log::MAX_LINE_BYTES;

/// Collects bytes and hands on whole lines. A carriage return ends a line too, because progress bars are drawn with it.
/// What exceeds [`LineSplitter::MAX_HELD_BYTES`] of a line is dropped, so that memory is bounded.
#[derive(Default)]
pub(crate) struct LineSplitter {
    unfinished: Vec<u8>,
}

impl LineSplitter {
    /// More than a line of the log, so that a secret at its end is still whole when it is redacted.
    pub(crate) const MAX_HELD_BYTES: usize = 2 * MAX_LINE_BYTES;

    pub(crate) fn push(&mut self, bytes: &[u8], mut on_line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ends) = match piece.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (piece, false),
            };
            let room = Self::MAX_HELD_BYTES.saturating_sub(self.unfinished.len());
            self.unfinished.extend(text.iter().take(room));
            if ends {
                self.end(&mut on_line);
            }
        }
    }

    /// Hands on a line that has begun and will not be completed.
    pub(crate) fn end(&mut self, mut on_line: impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.unfinished).trim_end().to_owned();
        self.unfinished.clear();
        if !line.is_empty() {
            on_line(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_either_return_and_join_pieces() {
        let (mut lines, mut seen) = (LineSplitter::default(), Vec::new());
        for piece in [&b"load"[..], b"ing\r\n10%\r", b"20%\r\n\n", b"the end"] {
            lines.push(piece, |line| seen.push(line.to_owned()));
        }
        lines.end(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["loading", "10%", "20%", "the end"]);
    }

    #[test]
    fn endless_line_is_held_up_to_the_limit() {
        let mut lines = LineSplitter::default();
        for _ in 0..100 {
            lines.push(&[b'x'; MAX_LINE_BYTES], |_| panic!("it did not end"));
        }
        let mut length = 0;
        lines.push(b"\n", |line| length = line.len());
        assert_eq!(length, LineSplitter::MAX_HELD_BYTES);
    }
}
