//! The keys by which agents verify what mcpd signs, as they travel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /.well-known/mcpctl-keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyList {
    /// The current and the next key, for people and for a first contact.
    pub keys: Vec<SigningKeyInfo>,
    /// The same keys in a token that the current key signed; what programs go by.
    #[schema(example = "v4.public.…")]
    pub signed: String,
}

/// A key of mcpd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyInfo {
    /// What tokens call it.
    pub kid: String,
    /// The Ed25519 key in base64url.
    pub public_key: String,
    /// What people compare: `SHA256:` and base64.
    pub fingerprint: String,
    /// `current` or `next`.
    pub state: String,
}

/// `POST /api/v1/admin/rotate-keys`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKeys {
    /// The id of the key that is current for the caller; where it no longer is, nothing is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Rotates within an hour of the last rotation too: agents that have not followed that one then need a new sign-in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}
