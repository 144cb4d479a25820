//! The list of mcpd's keys, signed by the current one, by which an agent that pinned two keys follows a rotation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    key::{Fingerprint, KeyId, PublicKey},
    token::Claims,
};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It signs now.
    Current,
    /// It signs after the next rotation.
    Next,
}

/// A key of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListedKey {
    /// What tokens call it.
    pub kid: KeyId,
    /// The key.
    pub public_key: PublicKey,
    /// What people compare.
    pub fingerprint: Fingerprint,
    /// What it is for.
    pub state: KeyState,
}

impl ListedKey {
    fn new(key: &PublicKey, state: KeyState) -> Self {
        Self { kid: key.id(), public_key: *key, fingerprint: key.fingerprint(), state }
    }
}

/// The keys of mcpd at one time: the current and the next one, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyListClaims {
    /// The keys.
    pub keys: [ListedKey; 2],
    /// When the list was signed, by mcpd's clock.
    pub iat: Timestamp,
}

impl KeyListClaims {
    /// The list of a current and a next key.
    pub fn new(current: &PublicKey, next: &PublicKey, at: Timestamp) -> Self {
        let keys = [ListedKey::new(current, KeyState::Current), ListedKey::new(next, KeyState::Next)];
        Self { keys, iat: at }
    }

    /// The current key.
    pub const fn current(&self) -> &ListedKey {
        let [current, _] = &self.keys;
        current
    }

    /// The next key.
    pub const fn next(&self) -> &ListedKey {
        let [_, next] = &self.keys;
        next
    }
}

impl Claims for KeyListClaims {
    const PURPOSE: &'static str = "mcpctl key list v1";

    fn are_consistent(&self) -> bool {
        let [current, next] = &self.keys;
        let is_whole = |key: &ListedKey| {
            key.kid == key.public_key.id() && key.fingerprint == key.public_key.fingerprint()
        };
        is_whole(current)
            && is_whole(next)
            && (current.state, next.state) == (KeyState::Current, KeyState::Next)
            && current.public_key != next.public_key
    }
}
