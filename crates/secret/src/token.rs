//! Bearer tokens: minted once, shown once, kept only as a hash. A token is 32 random bytes, so one round of
//! SHA-256 is enough to store it (there is nothing to guess); passwords are another matter and another file.

use std::{fmt, hash::Hash, hash::Hasher, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::armor::{self, ShapeError};
use crate::random::{self, RandomError};

/// Which kind of credential a token is, by its first five characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// `mcpd_`: a bearer that `mcpd` knows.
    Mcpd,
    /// `mcpc_`: the session of a browser at the console, which no API accepts.
    Console,
    /// `mcpl_`: the local key of an agent, the credential of one machine's user.
    Local,
}

impl Prefix {
    /// The five characters, with the underscore.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcpd => "mcpd_",
            Self::Console => "mcpc_",
            Self::Local => "mcpl_",
        }
    }
}

/// A new token in plain text, to be shown once; wiped from memory when dropped, and redacted in `Debug`.
pub struct MintedToken {
    text: Zeroizing<String>,
}

impl MintedToken {
    /// The plain text, for the one answer or file that may hold it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What to store instead of the plain text.
    pub fn hash(&self) -> TokenHash {
        hash(&self.text)
    }

    /// The first characters, by which people recognize it: the prefix and six more, which leave more than 200 bits to guess.
    pub fn beginning(&self) -> &str {
        self.text.get(..11).unwrap_or_default()
    }
}

impl fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MintedToken([redacted])")
    }
}

/// Makes a new token from 32 bytes of the operating system's generator; fails where that fails.
pub fn mint(prefix: Prefix) -> Result<MintedToken, RandomError> {
    mint_from(random::OS, prefix)
}

fn mint_from(source: random::Source, prefix: Prefix) -> Result<MintedToken, RandomError> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    source(bytes.as_mut_slice())?;
    Ok(MintedToken { text: armor::encode(prefix.as_str(), &bytes) })
}

/// Checks prefix, length, alphabet and checksum of a presented token, but not whether it is known.
pub fn verify_shape(prefix: Prefix, text: &str) -> Result<(), ShapeError> {
    armor::decode(prefix.as_str(), text).map(drop)
}

/// Checks a presented token's shape and returns the hash to look it up by.
pub fn parse(prefix: Prefix, text: &str) -> Result<TokenHash, ShapeError> {
    verify_shape(prefix, text)?;
    Ok(hash(text))
}

/// SHA-256 of a token's whole text, whatever its shape.
pub fn hash(text: &str) -> TokenHash {
    TokenHash(Sha256::digest(text).0)
}

/// SHA-256 of a token: what is stored and looked up; compared in constant time, written as 64 hex digits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The 32 bytes, for binary columns and signed proofs.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for TokenHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({:.8}…)", self.to_string())
    }
}

/// A text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token hash is 64 lower-case hex digits")]
pub struct HashTextError;

impl FromStr for TokenHash {
    type Err = HashTextError;

    fn from_str(text: &str) -> Result<Self, HashTextError> {
        let mut digits = text.bytes();
        if digits.len() != 64 {
            return Err(HashTextError);
        }
        let mut bytes = [0_u8; 32];
        for byte in &mut bytes {
            let high = digits.next().and_then(hex_digit).ok_or(HashTextError)?;
            let low = digits.next().and_then(hex_digit).ok_or(HashTextError)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

/// One hash has one text: upper-case digits are refused.
fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn minted_tokens_have_their_shape_and_differ() {
        let mut seen = HashSet::new();
        for prefix in [Prefix::Mcpd, Prefix::Console, Prefix::Local] {
            for _ in 0..100 {
                let token = mint(prefix).unwrap();
                assert_eq!(token.expose().len(), 54);
                assert!(token.expose().starts_with(prefix.as_str()));
                assert_eq!(parse(prefix, token.expose()).unwrap(), token.hash());
                assert!(seen.insert(token.hash()), "the same token twice");
            }
        }
    }

    #[test]
    fn local_key_and_bearer_of_mcpd_are_not_interchangeable() {
        let local = mint(Prefix::Local).unwrap();
        let central = mint(Prefix::Mcpd).unwrap();
        assert!(parse(Prefix::Mcpd, local.expose()).is_err());
        assert!(parse(Prefix::Local, central.expose()).is_err());
        // Swapping the prefix does not turn one into the other: the checksum covers it.
        let forged = local.expose().replacen("mcpl_", "mcpd_", 1);
        assert_eq!(parse(Prefix::Mcpd, &forged), Err(ShapeError::Checksum));
    }

    #[test]
    fn failing_generator_is_an_error_and_no_weak_token() {
        let source: random::Source = |_| Err(getrandom::Error::UNSUPPORTED);
        assert!(mint_from(source, Prefix::Mcpd).is_err());
    }

    #[test]
    fn inv_08_mistyped_token_is_rejected_before_any_lookup() {
        let token = mint(Prefix::Mcpd).unwrap();
        for wrong in ["", "mcpd_", "Bearer", &token.expose()[..53], &format!("{} ", token.expose())] {
            assert!(parse(Prefix::Mcpd, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = mint(Prefix::Mcpd).unwrap();
        assert_eq!(format!("{token:?}"), "MintedToken([redacted])");
        let shown = format!("{:?}", hash("abc"));
        assert_eq!(shown, "TokenHash(ba7816bf…)");
    }

    #[test]
    fn hash_is_sha256_in_hex_and_reads_back() {
        // The one-block message of FIPS 180-4's examples.
        let json = serde_json::to_string(&hash("abc")).unwrap();
        assert_eq!(json, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
        assert_eq!(serde_json::from_str::<TokenHash>(&json).unwrap(), hash("abc"));
        for wrong in ["\"\"", "\"BA\"", &json.to_uppercase(), &json.replace('b', "g"), "3"] {
            assert!(serde_json::from_str::<TokenHash>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hash_is_a_map_key() {
        let known = HashMap::from([(hash("a"), 1), (hash("b"), 2)]);
        assert_eq!(known.get(&hash("b")), Some(&2));
        assert_eq!(known.get(&hash("c")), None);
    }
}
