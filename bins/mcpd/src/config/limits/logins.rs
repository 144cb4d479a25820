//! Limits of login attempts.

use serde::{Deserialize, Deserializer};

use super::bounds::{Rate, number};

/// Limits of login attempts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoginLimits {
    /// Passwords hashed at once; each takes a core and 19 MiB.
    #[serde(deserialize_with = "hashers")]
    pub hashers: u32,
    /// Attempts that wait for a hasher; more are refused with 429.
    #[serde(deserialize_with = "waiting")]
    pub waiting: u32,
    /// Guesses at one name from one network; more wait for their turn.
    pub per_name: Rate,
    /// Failed attempts from one network, whatever the names; more are answered with 429.
    pub per_network: Rate,
    /// Sessions of one user; a login beyond that ends the oldest.
    #[serde(deserialize_with = "sessions")]
    pub sessions: u32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            hashers: 2,
            waiting: 64,
            per_name: Rate::new(5, 10),
            per_network: Rate::new(20, 3),
            sessions: 64,
        }
    }
}

fn hashers<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 1, 64)
}

fn waiting<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 1, 10_000)
}

fn sessions<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, 1, 10_000)
}
