//! Classes of failure, and what each allows: trying again, and letting a local provider stand in. The table is
//! CONTRACT.md's, "What fails over".

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What went wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// DNS, TCP or TLS failed, or a reset before the first response byte.
    Connect,
    /// No response head in time.
    NoResponse,
    /// No content in time.
    NoFirstToken,
    /// 500, 502, 503, 504, 529.
    ServerError,
    /// 429 from the upstream.
    RateLimited,
    /// The provider refused our key.
    UpstreamCredentials,
    /// The prompt is too long for this model.
    ContextLength,
    /// Other 4xx: malformed, too large, content filter.
    Rejected,
    /// `mcpd`'s own 401, 403, 404.
    Denied,
    /// `mcpd`'s own 429.
    Quota,
    /// The caller went away.
    Cancelled,
    /// Cut, stalled or unreadable after the first event.
    BrokenStream,
}

/// How a failed attempt may be tried again on the same target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRule {
    /// Not at all.
    Never,
    /// Once.
    Once,
    /// As often as the retry budget allows.
    WithinBudget,
    /// After the upstream's `Retry-After`, else as [`RetryRule::WithinBudget`].
    AfterHint,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::NoResponse,
        Self::NoFirstToken,
        Self::ServerError,
        Self::RateLimited,
        Self::UpstreamCredentials,
        Self::ContextLength,
        Self::Rejected,
        Self::Denied,
        Self::Quota,
        Self::Cancelled,
        Self::BrokenStream,
    ];

    /// The word of the header `mcpctl-failure`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::NoResponse => "no_response",
            Self::NoFirstToken => "no_first_token",
            Self::ServerError => "server_error",
            Self::RateLimited => "rate_limited",
            Self::UpstreamCredentials => "upstream_credentials",
            Self::ContextLength => "context_length",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Cancelled => "cancelled",
            Self::BrokenStream => "broken_stream",
        }
    }

    /// INVARIANT 2: whether a substitute may be asked. `also_on` adds classes that do not by default; what the caller
    /// caused, or the centre decided, never does, whatever is listed.
    pub fn may_fail_over(self, also_on: &[Self]) -> bool {
        match self {
            Self::Connect
            | Self::NoResponse
            | Self::NoFirstToken
            | Self::ServerError
            | Self::RateLimited
            | Self::UpstreamCredentials => true,
            Self::ContextLength => also_on.contains(&self),
            Self::Rejected | Self::Denied | Self::Quota | Self::Cancelled | Self::BrokenStream => false,
        }
    }

    /// Whether it speaks against the target, so that a breaker counts it.
    pub fn trips_breaker(self) -> bool {
        self.may_fail_over(&[])
    }

    /// How it may be tried again on the same target.
    pub fn retry(self) -> RetryRule {
        match self {
            Self::Connect => RetryRule::Once,
            Self::ServerError => RetryRule::WithinBudget,
            Self::RateLimited => RetryRule::AfterHint,
            Self::NoResponse
            | Self::NoFirstToken
            | Self::UpstreamCredentials
            | Self::ContextLength
            | Self::Rejected
            | Self::Denied
            | Self::Quota
            | Self::Cancelled
            | Self::BrokenStream => RetryRule::Never,
        }
    }
}

/// A word that is no class of failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a class of failure")]
pub struct UnknownClass(String);

impl FromStr for FailureClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
