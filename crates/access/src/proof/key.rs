//! The keys that sign, and the public parts that agents pin.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use pasetors::{
    keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate as _},
    version4::V4,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

use super::text;

/// Bytes of a private key: the seed, then the public key (RFC 8032, section 5.1.5).
const SECRET_BYTES: usize = 64;

/// A text or bytes that are no key, or no fingerprint of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAKey(&'static str);

/// A private key of mcpd. It is wiped from memory when dropped, and `Debug` hides it.
pub struct SigningKey {
    pub(super) secret: AsymmetricSecretKey<V4>,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, NotAKey> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| NotAKey("no key could be made"))?;
        Self::from_bytes(pair.secret.as_bytes())
    }

    /// Reads a key as [`SigningKey::expose`] returns it.
    ///
    /// # Errors
    /// When the bytes are no key, or the public part is not that of the seed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAKey> {
        const WRONG: NotAKey = NotAKey("it is not a private key");
        let bytes: &[u8; SECRET_BYTES] = bytes.try_into().map_err(|_| WRONG)?;
        let (seed, public) = bytes.split_first_chunk::<32>().ok_or(WRONG)?;
        // The library panics at this seed.
        if *seed == [0; 32] {
            return Err(WRONG);
        }
        let public = PublicKey(public.try_into().map_err(|_| WRONG)?);
        let secret = AsymmetricSecretKey::from(bytes).map_err(|_| WRONG)?;
        Ok(Self { secret, public })
    }

    /// The bytes of the private key, to be sealed.
    pub fn expose(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// The public part.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, [redacted])", self.public.id())
    }
}

/// A public key of mcpd, 43 characters of base64url in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// What tokens call the key: 16 characters.
    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0).0;
        KeyId(text::encode(digest.get(..12).unwrap_or_default()))
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(format!("{}{}", Fingerprint::PREFIX, STANDARD_NO_PAD.encode(Sha256::digest(self.0))))
    }

    pub(super) fn verifying(&self) -> Option<AsymmetricPublicKey<V4>> {
        AsymmetricPublicKey::from(&self.0).ok()
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        text::decode(text).map(Self).map_err(|_| NotAKey("a public key is base64url of 32 bytes"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The name of a key in tokens: the first 12 bytes of its SHA-256 in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The footer of every token that the key signs.
    pub(super) fn footer(&self) -> String {
        format!(r#"{{"kid":"{}"}}"#, self.0)
    }
}

impl FromStr for KeyId {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        match text::decode::<12>(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(NotAKey("the id of a key is 16 characters of base64url")),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `SHA256:` and the base64 of the public key's SHA-256 without padding, as OpenSSH writes fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    const PREFIX: &'static str = "SHA256:";

    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let digest = text.strip_prefix(Self::PREFIX).filter(|digest| digest.len() == 43);
        let is_digest =
            digest.is_some_and(|digest| STANDARD_NO_PAD.decode(digest).is_ok_and(|bytes| bytes.len() == 32));
        match is_digest {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAKey("a fingerprint is `SHA256:` and 43 characters of base64")),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_nothing_else_does() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_bytes(key.expose()).unwrap();
        assert_eq!(again.public(), key.public());
        let text = key.public().to_string();
        assert_eq!((text.len(), text.parse()), (43, Ok(*key.public())));
        let mut other_public = key.expose().to_vec();
        other_public[63] ^= 1;
        for wrong in [&[] as &[u8], &key.expose()[..32], &[0; 64], &other_public] {
            assert!(SigningKey::from_bytes(wrong).is_err());
        }
        assert_eq!(key.public().id().to_string().len(), 16);
        assert!(format!("{key:?}").ends_with("[redacted])"));
    }

    #[test]
    fn fingerprint_is_sha256_in_base64_and_reads_back() {
        // `head -c 32 /dev/zero | openssl dgst -sha256 -binary | base64`
        let zeros: PublicKey = "A".repeat(43).parse().unwrap();
        let shown = zeros.fingerprint();
        assert_eq!(shown.as_str(), "SHA256:Zmh6rfhivXdsj8GLjp+OIAiXFIVu4jOzkCpZHQ1fKSU");
        assert_eq!(shown.as_str().parse(), Ok(shown.clone()));
        for wrong in ["", "SHA256:", &shown.as_str()[7..], &format!("{shown}="), &format!("{shown} ")] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong:?}");
        }
    }
}
