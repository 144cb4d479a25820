//! The text form of 32 secret bytes: a prefix, 43 base64url characters, 6 characters of checksum. The prefix
//! lets secret scanners find a leaked value; by the checksum every reader can reject a mistyped or cut one before
//! any lookup. The checksum protects against accidents, not against forgers: it is no signature.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Characters that 32 bytes take in base64url without padding.
const BODY_CHARS: usize = 43;
/// Characters that 4 bytes take in base64url without padding.
const CHECKSUM_CHARS: usize = 6;

/// Why a text is not of this form; no variant repeats the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// It does not start with the expected prefix.
    #[error("it does not start with `{expected}`")]
    Prefix {
        /// The prefix that was expected.
        expected: &'static str,
    },
    /// It is too short or too long: usually cut while copying.
    #[error("it has {actual} characters instead of {expected}")]
    Length {
        /// Characters that a whole one has.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// It has characters that cannot occur in one.
    #[error("it has characters that do not belong in it")]
    Alphabet,
    /// Its checksum does not match: usually a typo.
    #[error("its checksum does not match")]
    Checksum,
}

/// Writes `bytes` with `prefix` and checksum.
pub(crate) fn encode(prefix: &str, bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + BODY_CHARS + CHECKSUM_CHARS));
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    let checksum = checksum(&text);
    text.push_str(&checksum);
    text
}

/// Reads what [`encode`] wrote; there is exactly one text for every 32 bytes.
pub(crate) fn decode(prefix: &'static str, text: &str) -> Result<Zeroizing<[u8; 32]>, ShapeError> {
    let rest = text.strip_prefix(prefix).ok_or(ShapeError::Prefix { expected: prefix })?;
    let expected = prefix.len() + BODY_CHARS + CHECKSUM_CHARS;
    if text.len() != expected {
        return Err(ShapeError::Length { expected, actual: text.len() });
    }
    let (body, given) = rest.split_at_checked(BODY_CHARS).ok_or(ShapeError::Alphabet)?;
    let covered = text.get(..prefix.len() + BODY_CHARS).ok_or(ShapeError::Alphabet)?;
    // One byte more than 32: the decoder needs space for whole groups of four characters.
    let mut decoded = Zeroizing::new([0_u8; 33]);
    match URL_SAFE_NO_PAD.decode_slice(body, decoded.as_mut_slice()) {
        Ok(32) => {}
        Ok(_) | Err(_) => return Err(ShapeError::Alphabet),
    }
    if checksum(covered) != given {
        return Err(ShapeError::Checksum);
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    for (to, from) in bytes.iter_mut().zip(decoded.iter()) {
        *to = *from;
    }
    Ok(bytes)
}

fn checksum(covered: &str) -> String {
    let digest = Sha256::new().chain_update(b"mcpctl checksum\0").chain_update(covered).finalize();
    let [a, b, c, d, ..] = digest.0;
    URL_SAFE_NO_PAD.encode([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes: [u8; 32]) {
            let text = encode("mcpd_", &bytes);
            prop_assert_eq!(text.len(), 54);
            prop_assert_eq!(*decode("mcpd_", &text).unwrap(), bytes);
        }

        /// Any one character changed, in prefix, body or checksum, is noticed.
        #[test]
        fn one_changed_character_is_rejected(bytes: [u8; 32], at in 0_usize..54, to in "[ -~]") {
            let text = encode("mcpd_", &bytes);
            let mut changed = text.to_string();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != *text);
            prop_assert!(decode("mcpd_", &changed).is_err());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*") {
            prop_assert!(decode("mcpd_", &text).is_err());
            let prefixed = format!("mcpd_{text}");
            prop_assert!(decode("mcpd_", &prefixed).is_err());
        }
    }

    #[test]
    fn multibyte_character_across_the_split_is_rejected() {
        // `é` is two bytes: bytes 42 and 43 of the body, so that the split would fall inside it.
        let text = format!("mcpd_{}é{}", "A".repeat(42), "A".repeat(5));
        assert_eq!(text.len(), 54);
        assert_eq!(decode("mcpd_", &text), Err(ShapeError::Alphabet));
    }

    #[test]
    fn each_kind_of_error_is_distinguished() {
        let text = encode("mcpd_", &[7; 32]);
        assert_eq!(decode("mcpl_", &text), Err(ShapeError::Prefix { expected: "mcpl_" }));
        assert_eq!(decode("mcpd_", &text[..53]), Err(ShapeError::Length { expected: 54, actual: 53 }));
        assert_eq!(decode("mcpd_", &text.replace(&text[10..11], "+")), Err(ShapeError::Alphabet));
        let mut swapped = text.to_string();
        swapped.replace_range(48..54, "AAAAAA");
        assert_eq!(decode("mcpd_", &swapped), Err(ShapeError::Checksum));
    }
}
