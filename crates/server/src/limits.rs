//! What bounds connections and bodies, the same in both daemons.

use serde::Deserialize;

/// Bounds of connections and bodies; what is left out has its safe default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {}
