//! What a backup begins with.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use mcpctl_secret::stream::StreamKey;
use mcpctl_store::transfer::Layout;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::BackupError;

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;
/// What each backup begins with, before its format and a line end.
pub(crate) const MAGIC: &str = "mcpd backup ";
/// Maximum length of the sealed header.
pub(crate) const MAX_HEADER_BYTES: u32 = 1 << 20;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// When its state was read.
    pub created_at: Timestamp,
    /// The version of mcpd that wrote it.
    pub mcpd: String,
    /// The tables, and how many rows each had.
    pub layout: Layout,
}

/// The header as it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SealedHeader {
    #[serde(flatten)]
    pub(crate) header: Header,
    /// The stream's key in base64; wiped from memory with this.
    stream_key: String,
}

impl SealedHeader {
    pub(crate) fn new(header: Header, key: &StreamKey) -> Self {
        Self { header, stream_key: STANDARD.encode(key.expose()) }
    }

    pub(crate) fn key(&self) -> Result<StreamKey, BackupError> {
        let bytes = STANDARD.decode(self.stream_key.as_bytes()).map(Zeroizing::new);
        let key = bytes.ok().and_then(|bytes| StreamKey::from_bytes(&bytes));
        key.ok_or_else(|| BackupError::Damaged("its header has no key".to_owned()))
    }
}

impl Drop for SealedHeader {
    fn drop(&mut self) {
        self.stream_key.zeroize();
    }
}
