//! Which Llm is meant: its id, and how a request names it.

use std::{fmt, sync::Arc};

/// The id of an Llm. mcpd never reuses one: an Llm that is made again under its old name is another Llm.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LlmId(Arc<str>);

impl LlmId {
    /// The id with this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LlmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Llm as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LlmRef {
    /// The name or id that the caller sent. mcpd is asked about this.
    pub asked: String,
    /// The name that the configuration has; `asked`, where the caller sent a name. Selects provider, policy and breakers.
    pub name: String,
}

impl LlmRef {
    /// By its name.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { asked: name.clone(), name }
    }

    /// By the id of the Llm with this name.
    pub fn by_id(id: &LlmId, name: impl Into<String>) -> Self {
        Self { asked: id.as_str().to_owned(), name: name.into() }
    }
}
