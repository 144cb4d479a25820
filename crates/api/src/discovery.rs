//! The model servers and models of a machine, as `mcplocal --discover` prints them and `mcpctl local init` offers them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Programs that the agent can start.
    pub programs: Vec<FoundProgram>,
    /// Model servers that run already.
    pub servers: Vec<FoundServer>,
    /// Models on the disk.
    pub models: Vec<FoundModel>,
    /// Where programs and servers were looked for, and which folders were searched for models.
    pub searched: SearchedPlaces,
    /// Whether folders had more files than are looked at, so that a model may be missing.
    pub incomplete: bool,
    /// Main memory in bytes, where the system reports it.
    pub memory_bytes: Option<u64>,
}

/// A program that the agent can start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundProgram {
    /// Its provider's `type` in `mcplocal.yaml`.
    #[serde(rename = "type")]
    pub provider_type: String,
    /// Where it is.
    pub path: String,
    /// Whether the agent finds it by itself, without `command`.
    pub is_found: bool,
}

/// A model server that runs already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundServer {
    /// What it is, e.g. `Ollama`.
    pub product: String,
    /// The base of its API, with `/v1`.
    pub url: Url,
    /// The models that it lists; none where it wants a key.
    pub models: Vec<String>,
    /// Whether a model calls tools, of those that it reports this of.
    #[serde(default)]
    pub tools: BTreeMap<String, bool>,
    /// Whether it answers only with a key.
    pub wants_key: bool,
    /// The user whose program it is, where that is another one than the agent's.
    pub user: Option<String>,
}

/// A model on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundModel {
    /// The provider's `type` that serves such models.
    #[serde(rename = "type")]
    pub provider_type: String,
    /// What `model` of a provider is: a path, or a name on the hub.
    pub model: String,
    /// Its size.
    pub bytes: u64,
}

/// The places that were searched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchedPlaces {
    /// Directories that could have programs.
    pub programs: Vec<String>,
    /// Addresses that could have servers.
    pub servers: Vec<String>,
    /// Folders that could have models.
    pub models: Vec<String>,
}
