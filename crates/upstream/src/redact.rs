//! Keeps a credential out of what its provider answers. A provider that quotes the request back, whole or in part, must not
//! hand our key to callers, logs or usage.
//!
//! What is looked for are pieces of the credential as it is, in base64 and in hexadecimal, behind the escapes of JSON and of
//! URLs. It is no defence against a provider who wants to give the key away: that one knows it.

use std::{collections::HashSet, ops::Range};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::{Bytes, BytesMut};
use secrecy::{ExposeSecret as _, SecretString};

/// Shorter credentials are no secrets (`EMPTY`, `ollama`), and would be found in every text.
const SHORTEST: usize = 8;
/// So much of a credential counts as all of it. Public prefixes such as `sk-ant-api03-` are shorter.
const PIECE: usize = 16;
/// Of a longer credential only this much is looked for.
const LONGEST: usize = 4096;
const REPLACEMENT: &[u8] = b"[redacted]";

/// Finds pieces of one credential.
pub(crate) struct Redactor {
    piece: usize,
    pieces: HashSet<Box<[u8]>>,
    /// Which pairs of bytes end a piece: what rules out most places at once.
    endings: HashSet<[u8; 2]>,
}

impl Redactor {
    /// Bytes of a piece as written, each escaped.
    pub(crate) const LONGEST_PIECE: usize = PIECE * 6;

    /// Of a credential; nothing of one that is no secret.
    pub(crate) fn of(credential: &SecretString) -> Option<Self> {
        let secret = credential.expose_secret().trim().as_bytes();
        let secret = secret.get(..secret.len().min(LONGEST)).unwrap_or_default();
        if secret.len() < SHORTEST {
            return None;
        }
        let piece = PIECE.min(secret.len());
        let mut redactor = Self { piece, pieces: HashSet::new(), endings: HashSet::new() };
        redactor.learn(secret);
        if secret.len() < PIECE {
            // Encoded, a piece of it would be too short to be told from other text.
            return Some(redactor);
        }
        redactor.learn(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().as_bytes());
        // In a longer text the credential may begin at any of the three places of a group of base64.
        for shift in 0..3_usize {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(secret);
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                // The first and the last letters depend on what stands beside it.
                let letters = encoded.as_bytes();
                let from = if shift == 0 { 0 } else { shift.saturating_add(1) };
                redactor.learn(letters.get(from..letters.len().saturating_sub(1)).unwrap_or_default());
            }
        }
        Some(redactor)
    }

    fn learn(&mut self, text: &[u8]) {
        for piece in text.windows(self.piece) {
            if let [.., a, b] = piece {
                self.endings.insert([*a, *b]);
            }
            self.pieces.insert(piece.into());
        }
    }

    /// The text without pieces of the credential; unchanged, and not copied, where there are none.
    pub(crate) fn redact(&self, text: Bytes) -> Bytes {
        let found = self.find(&text);
        if found.is_empty() {
            return text;
        }
        let (mut redacted, mut from) = (BytesMut::with_capacity(text.len()), 0);
        for range in found {
            redacted.extend_from_slice(text.get(from..range.start).unwrap_or_default());
            redacted.extend_from_slice(REPLACEMENT);
            from = range.end;
        }
        redacted.extend_from_slice(text.get(from..).unwrap_or_default());
        redacted.freeze()
    }

    /// Whether a piece of the credential is in the text.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        !self.find(text).is_empty()
    }

    /// Where pieces are, as written, in order and apart.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        // The last bytes, escapes resolved, and where each begins as written.
        let (mut window, mut starts) = (Vec::new(), Vec::new());
        let keep = self.piece.saturating_mul(64);
        let mut at = 0;
        while let Some((byte, length)) = unescaped(text.get(at..).unwrap_or_default()) {
            window.push(byte);
            starts.push(at);
            at = at.saturating_add(length);
            if let Some(first) = window.len().checked_sub(self.piece)
                && let Some([.., a, b]) = window.get(first..)
                && self.endings.contains(&[*a, *b])
                && let (Some(piece), Some(start)) = (window.get(first..), starts.get(first))
                && self.pieces.contains(piece)
            {
                match found.last_mut() {
                    Some(last) if last.end >= *start => last.end = at,
                    _ => found.push(*start..at),
                }
            }
            if window.len() >= keep {
                let old = window.len().saturating_sub(self.piece);
                window.drain(..old);
                starts.drain(..old);
            }
        }
        found
    }
}

/// The first byte of a text with the escapes of JSON and URLs resolved, and how many bytes it takes as written.
fn unescaped(text: &[u8]) -> Option<(u8, usize)> {
    let hex = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok()?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    };
    Some(match text {
        [] => return None,
        [b'%', rest @ ..] => match hex(rest.get(..2)).and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => (byte, 3),
            None => (b'%', 1),
        },
        [b'\\', b'u', rest @ ..] => match hex(rest.get(..4)).and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => (byte, 6),
            None => (b'\\', 1),
        },
        [b'\\', byte @ (b'"' | b'\\' | b'/'), ..] => (*byte, 2),
        [byte, ..] => (*byte, 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-proj/Abc+123_xyz-0123456789";

    fn redact(key: &str, text: &str) -> String {
        let redactor = Redactor::of(&SecretString::from(key)).unwrap();
        String::from_utf8(redactor.redact(Bytes::from(text.to_owned())).to_vec()).unwrap()
    }

    #[test]
    fn a_key_is_found_in_every_spelling() {
        let escaped: String = KEY.bytes().map(|b| format!("\\u{:04x}", u32::from(b))).collect();
        let url: String = KEY.bytes().map(|b| format!("%{b:02X}")).collect();
        let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
        for written in [
            KEY.to_owned(),
            KEY.replace('/', "\\/"),
            KEY.replace('/', "%2F").replace('+', "%2b"),
            escaped,
            url,
            hex,
        ] {
            assert_eq!(redact(KEY, &format!(r#"{{"error":"{written}!"}}"#)), r#"{"error":"[redacted]!"}"#);
        }
        for before in ["", "a", "ab", "Bearer "] {
            let encoded = STANDARD_NO_PAD.encode(format!("{before}{KEY} and more"));
            assert!(redact(KEY, &encoded).contains("[redacted]"), "{before}");
        }
    }

    #[test]
    fn pieces_of_a_key_are_found_and_its_public_prefix_is_not() {
        assert_eq!(redact(KEY, &format!("<{}…>", &KEY[..20])), "<[redacted]…>");
        assert_eq!(redact(KEY, &format!("<…{}>", &KEY[10..])), "<…[redacted]>");
        assert_eq!(redact(KEY, "keys begin with sk-proj/Abc"), "keys begin with sk-proj/Abc");
        assert_eq!(redact("12345678", "a 12345678 b 1234567"), "a [redacted] b 1234567");
        for no_secret in ["", "EMPTY", "ollama", "sk-1234"] {
            assert!(Redactor::of(&SecretString::from(no_secret)).is_none(), "{no_secret}");
        }
    }

    proptest! {
        #[test]
        fn no_key_is_left_and_everything_else_stays(
            key in "[!-~&&[^\"\\\\%]]{8,60}", before in "[α-ω ]{0,80}", after in "[α-ω ]{0,80}", times in 1_usize..4
        ) {
            let text = format!("{before}{key}{after}").repeat(times);
            let redacted = redact(&key, &text);
            prop_assert!(!redacted.contains(&key));
            prop_assert_eq!(redacted, format!("{before}[redacted]{after}").repeat(times).replace("[redacted][redacted]", "[redacted]").replace("[redacted][redacted]", "[redacted]"));
        }

        #[test]
        fn text_without_the_key_is_not_touched(text in "\\PC{0,300}") {
            prop_assert_eq!(redact(KEY, &text), text);
        }
    }
}
