//! The caller's credential, and the digest that stands for it where it must not be kept.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

/// A caller's own credential, sent to mcpd and nowhere else; never printed. Copies share the text and its digest.
#[derive(Clone)]
pub struct Bearer(Arc<BearerText>);

struct BearerText {
    text: String,
    digest: OnceLock<BearerDigest>,
}

impl PartialEq for Bearer {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Bearer {}

impl Bearer {
    /// Wraps a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(BearerText { text: text.into(), digest: OnceLock::new() }))
    }

    /// INVARIANT 10: for the request to mcpd alone.
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// Whether a credential that was presented is this one, in constant time.
    pub fn is(&self, presented: &str) -> bool {
        self.0.text.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// Its SHA-256.
    pub fn digest(&self) -> BearerDigest {
        let digest = || BearerDigest(Sha256::digest(self.0.text.as_bytes()).into());
        self.0.digest.get_or_init(digest).clone()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// SHA-256 of a bearer: identifies the caller where the bearer itself must not be kept.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Zeroize)]
pub struct BearerDigest([u8; 32]);

impl BearerDigest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BearerDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[digest]")
    }
}
