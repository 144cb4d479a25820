//! Fixed numbers of bytes as base64url text without padding.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

/// A text that is not the base64url of the right number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not base64url of {bytes} bytes")]
pub struct NotText {
    /// The number of bytes.
    pub bytes: usize,
}

/// The 128 random bits of one probe, 22 characters on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProbeNonce([u8; 16]);

/// SHA-256 of a bearer's text, 43 characters on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BearerHash([u8; 32]);

impl BearerHash {
    /// The hash of a credential as it was presented.
    pub fn of(bearer: &str) -> Self {
        Self(Sha256::digest(bearer).0)
    }
}

/// Decodes exactly N bytes. The decoder rejects padding and bits beyond the last byte, so that one value has one text.
pub(super) fn decode<const N: usize>(text: &str) -> Result<[u8; N], NotText> {
    let wrong = NotText { bytes: N };
    // The length first, so that a long text is not decoded.
    if text.len() != (N * 8).div_ceil(6) {
        return Err(wrong);
    }
    URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(wrong)
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

macro_rules! base64url {
    ($($name:ident[$bytes:literal])*) => { $(
        impl $name {
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl From<[u8; $bytes]> for $name {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = NotText;

            fn from_str(text: &str) -> Result<Self, NotText> {
                decode(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:.8}…)"), self.to_string())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )* };
}

base64url!(ProbeNonce[16] BearerHash[32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_text() {
        let nonce = ProbeNonce::from([0xff; 16]);
        let text = nonce.to_string();
        assert_eq!((text.len(), text.parse()), (22, Ok(nonce)));
        // The last character has four bits that no byte has.
        let odd = format!("{}x", &text[..21]);
        for wrong in ["", &text[..21], &format!("{text}="), &odd, &text.replace('_', "/"), " ", "ä"] {
            assert_eq!(wrong.parse::<ProbeNonce>(), Err(NotText { bytes: 16 }), "{wrong:?}");
        }
        // The one-block message of FIPS 180-4's examples.
        assert_eq!(BearerHash::of("abc").to_string(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }
}
