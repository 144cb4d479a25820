//! Whether mcpd allows a caller to use an Llm: the question, the probe that asks it, and the verdict.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    bearer::Bearer,
    denial::{Denial, FailoverRule},
    lease::{Lease, LeaseCover},
    llm::LlmId,
};

/// A verdict in one word. Only [`Access::Allowed`] and [`Access::Leased`] let a local provider run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The caller may use the Llm now.
    Allowed,
    /// mcpd did not decide, and a lease covers the caller.
    Leased,
    /// The caller may not, or is not known.
    Forbidden,
    /// mcpd did not decide. Treated like forbidden, reported separately.
    Unreachable,
}

impl Access {
    /// The word of logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Leased => "lease",
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether a local provider may run.
    pub const fn is_granted(self) -> bool {
        matches!(self, Self::Allowed | Self::Leased)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The question of a probe: may this caller use this Llm now?
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

/// mcpd's answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The caller may use the Llm now.
    Allowed {
        /// What was allowed, and for how long.
        allowance: Allowance,
        /// What covers the caller while mcpd cannot be asked, where the Llm has `offlineGrace`.
        lease: Option<Lease>,
    },
    /// The caller may not, or is not known.
    Forbidden(Denial),
}

impl ProbeAnswer {
    /// What a status means that no proof accompanies: 200 and 204 allow, 401 and 403 forbid.
    ///
    /// # Errors
    /// Every other status decides nothing.
    pub fn of_status(status: u16, llm: Option<LlmId>) -> Result<Self, ProbeError> {
        match status {
            200 | 204 => Ok(Self::Allowed { allowance: Allowance::of_status(llm), lease: None }),
            401 | 403 => Ok(Self::Forbidden(Denial::UNSIGNED)),
            _ => Err(ProbeError(format!("mcpd answered with status {status}"))),
        }
    }
}

/// What mcpd allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// The Llm that was judged; `None` where mcpd did not name it.
    pub llm: Option<LlmId>,
    /// How long a running answer may rely on it.
    pub holds: Duration,
    /// mcpd's signed proof, for the journal; `None` where it was not verified.
    pub proof: Option<Arc<str>>,
}

impl Allowance {
    /// How long a running answer may rely on a verdict that names no time (docs/reference/contract.md).
    pub const HOLDS: Duration = Duration::from_secs(15);

    /// What a status alone allows.
    pub const fn of_status(llm: Option<LlmId>) -> Self {
        Self { llm, holds: Self::HOLDS, proof: None }
    }
}

/// What is known of a caller's access to an Llm: mcpd's answer, or the lease that stands in for one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccessVerdict {
    /// mcpd allowed it just now.
    Allowed(Allowance),
    /// mcpd did not decide, and a lease covers the caller.
    Leased {
        /// The lease.
        cover: LeaseCover,
        /// Why mcpd did not decide.
        reason: String,
    },
    /// mcpd denied it.
    Forbidden {
        /// Whether mcpd signed that.
        authenticated: bool,
        /// The rule of the Llm that denied, where the caller may view it.
        rule: Option<FailoverRule>,
    },
    /// mcpd did not decide, for this reason.
    Unreachable(String),
}

impl AccessVerdict {
    /// In one word.
    pub const fn access(&self) -> Access {
        match self {
            Self::Allowed(_) => Access::Allowed,
            Self::Leased { .. } => Access::Leased,
            Self::Forbidden { .. } => Access::Forbidden,
            Self::Unreachable(_) => Access::Unreachable,
        }
    }
}

/// mcpd did not decide: it could not be asked, or its answer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(pub String);

/// Asks mcpd. An implementation judges status, proof and shape of the answer; whatever it is not certain of is an error.
pub trait AccessProbe {
    /// Sends the request and returns mcpd's answer.
    fn probe(&self, request: &ProbeRequest) -> impl Future<Output = Result<ProbeAnswer, ProbeError>> + Send;
}
