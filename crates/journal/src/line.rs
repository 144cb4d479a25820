//! A line of the journal, and its place in the chain.

use std::fmt;

use mcpctl_api::Id;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

use crate::JournalEntry;

/// Maximum length of a line, bytes: every text in an entry has a bound far below it.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// The SHA-256 of a line, written as 64 lower-case hex digits, so that `sha256sum` shows the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineHash([u8; 32]);

impl LineHash {
    /// The hash of a line's exact bytes, without its line break.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).0)
    }

    /// What stands before line 1 of an agent, so that no line 1 passes as another agent's.
    pub fn genesis(agent: &Id) -> Self {
        Self::of(format!("mcpctl journal of the agent {agent}").as_bytes())
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineHash({self})")
    }
}

/// A text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a line is 64 lower-case hex digits")]
pub struct NotALineHash;

impl std::str::FromStr for LineHash {
    type Err = NotALineHash;

    fn from_str(text: &str) -> Result<Self, NotALineHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotALineHash),
        };
        if text.len() != 64 {
            return Err(NotALineHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(NotALineHash) };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for LineHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LineHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The end of a chain: its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Number of the last line; 0 before the first one.
    pub seq: u64,
    /// Its hash.
    pub hash: LineHash,
}

impl ChainHead {
    /// The head of an agent's chain without lines.
    pub fn genesis(agent: &Id) -> Self {
        Self { seq: 0, hash: LineHash::genesis(agent) }
    }
}

/// The place of a line in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// The line's number.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: LineHash,
}

impl Link {
    /// The place that a line claims; `None` where it claims none.
    pub fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|link: &Self| link.seq > 0)
    }
}

/// A line: an entry in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1 on.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: LineHash,
    /// What it records.
    #[serde(flatten)]
    pub entry: JournalEntry,
}

impl Line {
    /// The line after `head`, without its line break, and the head after it.
    ///
    /// # Errors
    /// When the entry is no JSON, or longer than [`MAX_LINE_BYTES`].
    pub fn after(head: ChainHead, entry: &JournalEntry) -> Result<(Vec<u8>, ChainHead), serde_json::Error> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            seq: u64,
            prev: LineHash,
            #[serde(flatten)]
            entry: &'a JournalEntry,
        }
        let seq = head.seq.saturating_add(1);
        let line = serde_json::to_vec(&Borrowed { seq, prev: head.hash, entry })?;
        if line.len() > MAX_LINE_BYTES {
            return Err(serde::ser::Error::custom("the line is too long"));
        }
        let hash = LineHash::of(&line);
        Ok((line, ChainHead { seq, hash }))
    }
}
