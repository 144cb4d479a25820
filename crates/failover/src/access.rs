//! Whether mcpd allows a caller to use an Llm, and the probe that asks.

use std::{fmt, future::Future};

/// The result of a probe. Only [`Access::Allowed`] lets a local provider run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The caller may view the Llm now.
    Allowed,
    /// The caller may not, or is not known.
    Forbidden,
    /// mcpd did not decide. Treated like forbidden, reported separately.
    Unreachable,
}

impl Access {
    /// What a probe's status means: 200 and 204 allow, 401 and 403 forbid, and everything else decides nothing.
    pub const fn from_status(status: u16) -> Self {
        match status {
            200 | 204 => Self::Allowed,
            401 | 403 => Self::Forbidden,
            _ => Self::Unreachable,
        }
    }

    /// The word of logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A caller's own credential, sent to mcpd and nowhere else; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl Bearer {
    /// Wraps a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// INVARIANT 10: for the request to mcpd alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The question of a probe: may this caller view this Llm now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Name or id of the central Llm.
    pub llm: String,
    /// The caller's own credential.
    pub bearer: Bearer,
}

impl ProbeRequest {
    /// The method of the request.
    pub const METHOD: &'static str = "HEAD";

    /// The path of the request. Everything but letters, digits, `.`, `_` and `-` is percent-encoded, so that a
    /// name never leads to another path.
    pub fn path(&self) -> String {
        let mut path = String::from("/api/v1/llms/");
        for byte in self.llm.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        // A segment of dots alone, or of nothing, would be folded away by URL parsers; no name begins with a space.
        if self.llm.bytes().all(|byte| byte == b'.') {
            return path.replace("/llms/", "/llms/%20");
        }
        path
    }
}

/// mcpd could not be asked, or its response could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

/// Asks mcpd. Implementations send the request and return the status; [`Access::from_status`] interprets it.
pub trait AccessProbe {
    /// Sends the request and returns the response's status.
    fn head(&self, request: &ProbeRequest) -> impl Future<Output = Result<u16, ProbeError>> + Send;
}
