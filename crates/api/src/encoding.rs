//! Files as editors and shells write them: UTF-8 with or without a byte order mark, and UTF-16, which PowerShell's `>` makes.

use std::fmt;

/// Bytes that are no text, and the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotText {
    /// From 1.
    pub line: u64,
    /// In bytes, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

impl NotText {
    /// The next step.
    pub const HINT: &str = "save the file as UTF-8";
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for NotText {}

/// The text of a file, without its byte order mark.
///
/// # Errors
/// The first place that is not text.
pub fn decode(bytes: &[u8]) -> Result<String, NotText> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(whole("the file is text in UTF-32")),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Every file of ours begins with ASCII, so a zero byte means UTF-16 without a mark (YAML 1.2.2, section 5.2).
        [0, b, ..] if *b != 0 => utf16(bytes, u16::from_be_bytes),
        [b, 0, ..] if *b != 0 => utf16(bytes, u16::from_le_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, NotText> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let (before, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or((bytes, &[]));
            let lines = before.split(|b| *b == b'\n');
            let column = lines.clone().next_back().map_or(0, <[u8]>::len) as u64 + 1;
            let byte = rest.first().copied().unwrap_or_default();
            let message = format!("the byte 0x{byte:02X} is not text in UTF-8");
            Err(NotText { line: lines.count() as u64, column, message })
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(whole("the file begins as text in UTF-16 and is not")),
    }
}

fn whole(message: &str) -> NotText {
    NotText { line: 1, column: 1, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utf16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn invalid_bytes_are_reported_with_their_position() {
        let error = decode(b"kind: Llm\nname: caf\xe9\n").unwrap_err();
        assert_eq!(error.to_string(), "2:10: the byte 0xE9 is not text in UTF-8");
        assert!(decode(b"\xff\xfek").unwrap_err().message.contains("UTF-16"));
        assert!(decode(b"\xff\xfe\0\0k\0\0\0").unwrap_err().message.contains("UTF-32"));
        assert_eq!(decode(b"").unwrap(), "");
    }

    proptest! {
        #[test]
        fn every_encoding_of_a_text_reads_the_same(rest in "\\PC{0,20}") {
            let text = format!("k{rest}\r\n");
            for bytes in [
                text.as_bytes().to_vec(),
                format!("\u{feff}{text}").into_bytes(),
                utf16(&text, true, u16::to_le_bytes),
                utf16(&text, true, u16::to_be_bytes),
                utf16(&text, false, u16::to_le_bytes),
                utf16(&text, false, u16::to_be_bytes),
            ] {
                prop_assert_eq!(decode(&bytes).unwrap(), text.clone());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }
}
