//! Why a local answer has ended before its end.

use mcpctl_api::error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED};

/// Why a local answer has ended before its end, or before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessEnded {
    /// The caller may not use the Llm any more, or it is another one.
    #[error("access to the Llm was revoked while the request ran")]
    Revoked,
    /// The credential has expired.
    #[error("the credential expired while the request ran")]
    Expired,
    /// Whether the caller may still use the Llm cannot be known.
    #[error("whether access to the Llm still holds cannot be confirmed, because mcpd does not answer")]
    Unconfirmed,
}

impl AccessEnded {
    /// The code of the error, and the outcome in the journal.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Revoked | Self::Expired => ACCESS_REVOKED,
            Self::Unconfirmed => ACCESS_UNCONFIRMED,
        }
    }

    /// The family of the error, as OpenAI's dialect has it in streams.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Revoked | Self::Expired => "permission_error",
            Self::Unconfirmed => "server_error",
        }
    }
}
