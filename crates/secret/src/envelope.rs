//! Encryption of rows at rest. Each row has a data key of its own; the master key only wraps data keys and is
//! named by its id in every row, so that it can be changed row by row. This file neither keeps the master key
//! (`master_key_file`) nor chooses the associated data: callers pass the row's id.
//!
//! A sealed row, version 1, is the concatenation of
//! `version (1) | key id (8) | nonce (24) | wrapped data key (32 + 16) | nonce (24) | ciphertext (n + 16)`,
//! both parts XChaCha20-Poly1305, whose nonces are long enough to be random (draft-irtf-cfrg-xchacha-03).

use std::fmt;

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::armor::{self, ShapeError};
use crate::random::{self, RandomError};

const VERSION: u8 = 1;
const NONCE: usize = 24;
const KEY: usize = 32;
const TAG: usize = 16;
const KEY_TEXT_PREFIX: &str = "mcpk_";

/// Labels that the two layers bind besides the row, so that the ciphertext of one layer never opens as the other.
const WRAPPED_KEY: &[u8] = b"mcpctl wrapped key\0";
const ROW: &[u8] = b"mcpctl sealed row.\0";

/// The first 8 bytes of SHA-256 of a master key: names it in rows and messages without giving it away.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The key that wraps every row's data key; wiped from memory when dropped, and redacted in `Debug`.
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY]>,
    id: KeyId,
}

impl MasterKey {
    /// Makes a new key from the operating system's generator.
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self::new(random_array(random::OS)?))
    }

    fn new(bytes: Zeroizing<[u8; KEY]>) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Sha256::digest(bytes.as_slice()).0;
        Self { bytes, id: KeyId([a, b, c, d, e, f, g, h]) }
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Reads the key file's content: one line as [`MasterKey::to_text`] writes it, space around it ignored.
    pub fn from_text(text: &str) -> Result<Self, ShapeError> {
        armor::decode(KEY_TEXT_PREFIX, text.trim_ascii()).map(Self::new)
    }

    /// The key file's content: `mcpk_`, the key in base64url, a checksum; no line end.
    pub fn to_text(&self) -> Zeroizing<String> {
        armor::encode(KEY_TEXT_PREFIX, &self.bytes)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, [redacted])", self.id)
    }
}

/// The master key that seals new rows, and earlier ones that can still open old rows.
#[derive(Debug)]
pub struct Keyring {
    current: MasterKey,
    earlier: Vec<MasterKey>,
}

impl Keyring {
    /// A ring of one key.
    pub fn new(current: MasterKey) -> Self {
        Self { current, earlier: Vec::new() }
    }

    /// Adds a key that opens old rows and seals none.
    #[must_use]
    pub fn with_earlier(mut self, key: MasterKey) -> Self {
        self.earlier.push(key);
        self
    }

    /// The key that seals new rows.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    fn get(&self, id: KeyId) -> Option<&MasterKey> {
        std::iter::once(&self.current).chain(&self.earlier).find(|key| key.id == id)
    }
}

/// A sealed row, ready to be stored as bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes to store, by value.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There were no random bytes for the data key or a nonce.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The plain text is longer than the cipher allows (256 GiB).
    #[error("the value is too large to be encrypted")]
    TooLarge,
}

/// Why a sealed row could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The row was sealed by a master key that is not in the ring.
    #[error("sealed with master key `{id}`, which is not loaded")]
    UnknownKey {
        /// The master key that is needed.
        id: KeyId,
    },
    /// The row was changed, or it belongs to another row's id.
    #[error("the sealed value was changed, or moved here from another row")]
    Tampered,
    /// The bytes are no sealed row of a version that this program knows.
    #[error("the sealed value is malformed")]
    Malformed,
}

/// Which master key a sealed row needs, without opening it; for finding rows that still need an earlier key.
pub fn key_id(sealed: &[u8]) -> Result<KeyId, OpenError> {
    Parts::read(sealed).map(|parts| parts.key_id)
}

/// Encrypts `plaintext` with a fresh data key, wrapped by `master`; both are bound to `aad`, the row's id.
pub fn seal(master: &MasterKey, aad: &[u8], plaintext: &[u8]) -> Result<Sealed, SealError> {
    seal_from(random::OS, master, aad, plaintext)
}

fn seal_from(
    source: random::Source,
    master: &MasterKey,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, SealError> {
    let data_key = random_array::<KEY>(source)?;
    let key_nonce = random_array::<NONCE>(source)?;
    let row_nonce = random_array::<NONCE>(source)?;
    let encrypt = |key: &[u8; KEY], nonce: &[u8; NONCE], aad: &[u8], msg: &[u8]| {
        XChaCha20Poly1305::new(key.into())
            .encrypt(&XNonce::from(*nonce), Payload { msg, aad })
            .map_err(|_| SealError::TooLarge)
    };
    let wrapped =
        encrypt(&master.bytes, &key_nonce, &bound(WRAPPED_KEY, master.id, aad), data_key.as_slice())?;
    let ciphertext = encrypt(&data_key, &row_nonce, &bound(ROW, master.id, aad), plaintext)?;
    let parts: [&[u8]; 6] = [
        &[VERSION],
        &master.id.0,
        key_nonce.as_slice(),
        wrapped.as_slice(),
        row_nonce.as_slice(),
        ciphertext.as_slice(),
    ];
    Ok(Sealed(parts.concat()))
}

/// Decrypts a sealed row with the key of the ring that it names; the plain text is wiped when dropped.
pub fn open(ring: &Keyring, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let parts = Parts::read(sealed)?;
    let master = ring.get(parts.key_id).ok_or(OpenError::UnknownKey { id: parts.key_id })?;
    let decrypt = |key: &[u8; KEY], nonce: &[u8; NONCE], aad: &[u8], msg: &[u8]| {
        XChaCha20Poly1305::new(key.into())
            .decrypt(&XNonce::from(*nonce), Payload { msg, aad })
            .map(Zeroizing::new)
            .map_err(|_| OpenError::Tampered)
    };
    let data_key =
        decrypt(&master.bytes, parts.key_nonce, &bound(WRAPPED_KEY, master.id, aad), parts.wrapped)?;
    let data_key = data_key.as_slice().first_chunk::<KEY>().ok_or(OpenError::Tampered)?;
    decrypt(data_key, parts.row_nonce, &bound(ROW, master.id, aad), parts.ciphertext)
}

/// Everything in front of the caller's associated data has a fixed length, so two rows never bind the same bytes.
fn bound(layer: &[u8], id: KeyId, aad: &[u8]) -> Vec<u8> {
    [layer, &[VERSION], &id.0, aad].concat()
}

fn random_array<const N: usize>(source: random::Source) -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    source(bytes.as_mut_slice())?;
    Ok(bytes)
}

struct Parts<'a> {
    key_id: KeyId,
    key_nonce: &'a [u8; NONCE],
    wrapped: &'a [u8],
    row_nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(sealed: &'a [u8]) -> Result<Self, OpenError> {
        Self::split(sealed).ok_or(OpenError::Malformed)
    }

    fn split(sealed: &'a [u8]) -> Option<Self> {
        let (&[version], rest) = sealed.split_first_chunk()?;
        let (&key_id, rest) = rest.split_first_chunk()?;
        let (key_nonce, rest) = rest.split_first_chunk()?;
        let (wrapped, rest) = rest.split_at_checked(KEY + TAG)?;
        let (row_nonce, ciphertext) = rest.split_first_chunk()?;
        let whole = version == VERSION && ciphertext.len() >= TAG;
        whole.then_some(Self { key_id: KeyId(key_id), key_nonce, wrapped, row_nonce, ciphertext })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OVERHEAD: usize = 1 + 8 + NONCE + KEY + TAG + NONCE + TAG;

    fn key(byte: u8) -> MasterKey {
        MasterKey::new(Zeroizing::new([byte; KEY]))
    }

    fn ring(byte: u8) -> Keyring {
        Keyring::new(key(byte))
    }

    proptest! {
        #[test]
        fn round_trip(aad: Vec<u8>, plaintext: Vec<u8>) {
            let sealed = seal(&key(1), &aad, &plaintext).unwrap();
            prop_assert_eq!(sealed.as_bytes().len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(key_id(sealed.as_bytes()).unwrap(), key(1).id());
            prop_assert_eq!(&*open(&ring(1), &aad, sealed.as_bytes()).unwrap(), &plaintext);
        }

        #[test]
        fn inv_08_no_row_opens_for_another_id(aad: Vec<u8>, other: Vec<u8>, plaintext: Vec<u8>) {
            prop_assume!(aad != other);
            let sealed = seal(&key(1), &aad, &plaintext).unwrap();
            prop_assert_eq!(open(&ring(1), &other, sealed.as_bytes()), Err(OpenError::Tampered));
        }

        #[test]
        fn inv_08_any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            prop_assert!(open(&ring(1), b"", &bytes).is_err());
        }
    }

    /// Every byte, every bit: nothing in a sealed row can be changed, cut or added unnoticed.
    #[test]
    fn inv_08_any_changed_byte_is_an_error() {
        let sealed = seal(&key(1), b"row", b"value").unwrap().into_bytes();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let error = open(&ring(1), b"row", &changed).unwrap_err();
                match at {
                    0 => assert_eq!(error, OpenError::Malformed),
                    1..9 => assert!(matches!(error, OpenError::UnknownKey { .. }), "{at}: {error:?}"),
                    _ => assert_eq!(error, OpenError::Tampered, "{at}"),
                }
            }
            assert!(open(&ring(1), b"row", &sealed[..at]).is_err());
        }
        assert!(open(&ring(1), b"row", &[sealed.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn a_data_key_cannot_be_moved_to_another_row() {
        let first = seal(&key(1), b"first", b"value").unwrap().into_bytes();
        let second = seal(&key(1), b"second", b"value").unwrap().into_bytes();
        let row_starts = 9 + NONCE + KEY + TAG;
        let mixed = [&first[..row_starts], &second[row_starts..]].concat();
        assert_eq!(open(&ring(1), b"first", &mixed), Err(OpenError::Tampered));
        assert_eq!(open(&ring(1), b"second", &mixed), Err(OpenError::Tampered));
    }

    #[test]
    fn same_value_is_sealed_differently_each_time() {
        let (a, b) = (seal(&key(1), b"", b"v").unwrap(), seal(&key(1), b"", b"v").unwrap());
        let (a, b) = (Parts::read(a.as_bytes()).unwrap(), Parts::read(b.as_bytes()).unwrap());
        assert_ne!(a.key_nonce, b.key_nonce);
        assert_ne!(a.row_nonce, b.row_nonce);
        assert_ne!(a.wrapped, b.wrapped);
        assert_ne!(a.ciphertext, b.ciphertext);
    }

    #[test]
    fn unknown_key_is_named_and_earlier_key_opens() {
        let sealed = seal(&key(1), b"row", b"value").unwrap();
        let unknown = open(&ring(2), b"row", sealed.as_bytes()).unwrap_err();
        assert_eq!(unknown, OpenError::UnknownKey { id: key(1).id() });
        // SHA-256 of 32 bytes of 0x01.
        assert_eq!(key(1).id().to_string(), "72cd6e8422c407fb");
        assert!(unknown.to_string().contains("`72cd6e8422c407fb`"), "{unknown}");
        let both = ring(2).with_earlier(key(1));
        assert_eq!(&**open(&both, b"row", sealed.as_bytes()).unwrap(), b"value");
        assert_eq!(both.current().id(), key(2).id());
    }

    #[test]
    fn failing_generator_seals_nothing() {
        let source: random::Source = |_| Err(getrandom::Error::UNSUPPORTED);
        assert!(matches!(seal_from(source, &key(1), b"", b""), Err(SealError::Random(_))));
    }

    #[test]
    fn key_text_reads_back_and_a_typo_is_rejected() {
        let made = MasterKey::generate().unwrap();
        let text = made.to_text();
        assert_eq!(MasterKey::from_text(&format!("{}\n", *text)).unwrap().id(), made.id());
        assert!(MasterKey::from_text(&text[..40]).is_err());
        let typo = text.replacen(&text[20..21], if &text[20..21] == "A" { "B" } else { "A" }, 1);
        assert!(MasterKey::from_text(&typo).is_err());
        assert!(MasterKey::from_text("").is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", ring(1));
        assert!(shown.contains("MasterKey(72cd6e8422c407fb, [redacted])"), "{shown}");
    }
}
