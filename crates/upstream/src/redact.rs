//! Removes a credential from its provider's answers. A provider that quotes the request back, whole or in part, must not reveal
//! our key to callers, logs or usage.
//!
//! It searches for pieces of the credential in plain text, base64 and hexadecimal, behind the escapes of JSON and URLs. It is no
//! defence against a provider that reveals the key on purpose.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    ops::Range,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use secrecy::{ExposeSecret as _, SecretString};

/// Shorter credentials, in bytes, are no secrets (`EMPTY`, `ollama`), and would be found in every text.
const MIN_SECRET_BYTES: usize = 8;
/// The length of a piece, in bytes. Public prefixes such as `sk-ant-api03-` are shorter.
const PIECE_BYTES: usize = 16;
/// How many bytes of a credential are searched for.
const MAX_SECRET_BYTES: usize = 4096;
const REPLACEMENT: &[u8] = b"[redacted]";

/// How many redactors are looked through for those that are no longer used.
const MAX_SHARED: usize = 1024;

/// The redactors of the credentials that are in use, by their credential's hash.
static SHARED: LazyLock<Mutex<HashMap<u64, Weak<Redactor>>>> = LazyLock::new(Mutex::default);
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Finds pieces of one credential.
pub(crate) struct Redactor {
    piece: usize,
    /// The length of a block, in bytes: a piece has a whole one wherever it begins in a text that is cut into blocks.
    block: usize,
    /// The credential, and the texts that it is encoded as.
    texts: Vec<Vec<u8>>,
    /// All parts of these texts that are as long as a block. Most texts have none, which shows quickly.
    blocks: HashSet<u64, BuildHasherDefault<BlockHasher>>,
}

/// The hash of a block. The set holds the credential's own blocks alone, so that no text can make them collide.
#[derive(Default)]
struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, block: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio spreads neighbours (Knuth, "Sorting and Searching", 6.4).
        let spread = block.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A block as a number.
fn block(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Redactor {
    /// Longest piece as written, in bytes: each byte takes up to six when escaped.
    pub(crate) const MAX_PIECE_BYTES: usize = PIECE_BYTES * 6;

    /// Finds pieces of `credential`; `None` for one that is too short to be a secret. Requests that run at once share it.
    pub(crate) fn of(credential: &SecretString) -> Option<Arc<Self>> {
        let secret = credential.expose_secret().trim().as_bytes();
        let secret = secret.get(..secret.len().min(MAX_SECRET_BYTES)).unwrap_or_default();
        if secret.len() < MIN_SECRET_BYTES {
            return None;
        }
        let hash = HASHES.hash_one(secret);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.texts.first().is_some_and(|text| text == secret)) {
            return Some(known);
        }
        let redactor = Arc::new(Self::new(secret));
        if shared.len() >= MAX_SHARED {
            shared.retain(|_, redactor| redactor.strong_count() > 0);
        }
        shared.insert(hash, Arc::downgrade(&redactor));
        Some(redactor)
    }

    fn new(secret: &[u8]) -> Self {
        let piece = PIECE_BYTES.min(secret.len());
        let block = if piece < PIECE_BYTES { MIN_SECRET_BYTES / 2 } else { PIECE_BYTES / 2 };
        let mut redactor = Self { piece, block, texts: Vec::new(), blocks: HashSet::default() };
        redactor.learn(secret);
        if secret.len() < PIECE_BYTES {
            // Its encoded pieces would be too short to differ from other text.
            return redactor;
        }
        redactor.learn(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().as_bytes());
        // In a longer encoded text, the credential may begin at any of the three positions of a base64 group.
        for shift in 0..3_usize {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(secret);
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                // The first and last letters depend on the adjacent bytes.
                let letters = encoded.as_bytes();
                let from = if shift == 0 { 0 } else { shift.saturating_add(1) };
                redactor.learn(letters.get(from..letters.len().saturating_sub(1)).unwrap_or_default());
            }
        }
        redactor
    }

    fn learn(&mut self, text: &[u8]) {
        self.blocks.extend(text.windows(self.block).map(block));
        self.texts.push(text.to_owned());
    }

    fn is_piece(&self, text: &[u8]) -> bool {
        text.get(..self.block).is_some_and(|first| self.blocks.contains(&block(first)))
            && self.texts.iter().any(|known| known.windows(self.piece).any(|piece| piece == text))
    }

    /// False for a text that has no piece for sure: one without escapes, none of whose blocks is the credential's.
    fn may_be_in(&self, text: &[u8]) -> bool {
        let mut blocks = text.chunks_exact(self.block);
        memchr2(b'%', b'\\', text).is_some() || blocks.any(|bytes| self.blocks.contains(&block(bytes)))
    }

    /// Replaces pieces of the credential. A text without any is returned without a copy.
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

    /// Whether the text contains a piece of the credential.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        !self.find(text).is_empty()
    }

    /// The ranges of pieces in the text as written, in order, overlapping ones merged.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if !self.may_be_in(text) {
            return found;
        }
        // The last bytes with escapes resolved, and where each begins in the text as written.
        let (mut window, mut starts) = (Vec::new(), Vec::new());
        let keep = self.piece.saturating_mul(64);
        let mut at = 0;
        while let Some((byte, length)) = unescaped(text.get(at..).unwrap_or_default()) {
            window.push(byte);
            starts.push(at);
            at = at.saturating_add(length);
            if let Some(first) = window.len().checked_sub(self.piece)
                && let (Some(piece), Some(start)) = (window.get(first..), starts.get(first))
                && self.is_piece(piece)
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

/// The first byte of a text with the escapes of JSON and URLs resolved, and how many bytes of the text it takes.
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
    fn key_is_found_in_every_encoding() {
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
    fn pieces_of_a_key_are_found_but_not_its_public_prefix() {
        assert_eq!(redact(KEY, &format!("<{}…>", &KEY[..20])), "<[redacted]…>");
        assert_eq!(redact(KEY, &format!("<…{}>", &KEY[10..])), "<…[redacted]>");
        assert_eq!(redact(KEY, "keys begin with sk-proj/Abc"), "keys begin with sk-proj/Abc");
        assert_eq!(redact("12345678", "a 12345678 b 1234567"), "a [redacted] b 1234567");
        for no_secret in ["", "EMPTY", "ollama", "sk-1234"] {
            assert!(Redactor::of(&SecretString::from(no_secret)).is_none(), "{no_secret}");
        }
    }

    #[test]
    fn requests_that_run_at_once_share_a_redactor() {
        let [one, same, other] =
            [KEY, KEY, "another-key-0123456789"].map(|key| Redactor::of(&SecretString::from(key)).unwrap());
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert!(!other.is_in(KEY.as_bytes()) && one.is_in(KEY.as_bytes()));
    }

    proptest! {
        #[test]
        fn only_the_key_is_removed(
            key in "[!-~&&[^\"\\\\%]]{8,60}", before in "[α-ω ]{0,80}", after in "[α-ω ]{0,80}", times in 1_usize..4
        ) {
            let text = format!("{before}{key}{after}").repeat(times);
            let redacted = redact(&key, &text);
            prop_assert!(!redacted.contains(&key));
            prop_assert_eq!(redacted, format!("{before}[redacted]{after}").repeat(times).replace("[redacted][redacted]", "[redacted]").replace("[redacted][redacted]", "[redacted]"));
        }

        #[test]
        fn text_without_the_key_is_unchanged(text in "\\PC{0,300}") {
            prop_assert_eq!(redact(KEY, &text), text);
        }
    }
}
