//! What bounds the work that callers can cause: the key `limits` of the configuration file, one group per concern.

use mcpctl_server::Limits as HttpLimits;
use serde::Deserialize;

/// Every limit; what is left out has its safe default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections and bodies.
    pub http: HttpLimits,
    /// Attempts to sign in.
    pub logins: LoginLimits,
    /// How long audit and usage are kept.
    pub records: RecordLimits,
    /// Changes of resources.
    pub writes: WriteLimits,
}

/// Attempts to sign in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoginLimits {}

/// How long audit and usage are kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordLimits {}

/// Changes of resources.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WriteLimits {}
