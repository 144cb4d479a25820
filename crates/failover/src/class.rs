//! Failure classes, and what each allows: retries, and failover to a local provider. The table is that of
//! `docs/reference/contract.md`, "Failure classes".

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
    /// A 5xx that the request did not cause, an unknown one included (RFC 9110, section 15); 408 and 425.
    ServerError,
    /// 429 from the upstream.
    RateLimited,
    /// The provider rejected mcpd's key.
    UpstreamCredentials,
    /// The provider does not have the model that the Llm names.
    ModelUnavailable,
    /// The prompt is too long for this model.
    ContextLength,
    /// Other 4xx, and what the request or its content caused under any status: malformed, too large, moderation.
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

/// How a failed attempt may be retried on the same upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRule {
    /// Not at all.
    Never,
    /// Once.
    Once,
    /// As often as the retry budget allows, after the upstream's `Retry-After` where it sent one.
    WithinBudget,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 13] = [
        Self::Connect,
        Self::NoResponse,
        Self::NoFirstToken,
        Self::ServerError,
        Self::RateLimited,
        Self::UpstreamCredentials,
        Self::ModelUnavailable,
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
            Self::ModelUnavailable => "model_unavailable",
            Self::ContextLength => "context_length",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Cancelled => "cancelled",
            Self::BrokenStream => "broken_stream",
        }
    }

    /// INVARIANT 2: whether a request may fall back. `also_on` adds classes that do not by default; what the caller caused,
    /// or mcpd decided, never does, whatever is listed.
    pub fn may_fail_over(self, also_on: &[Self]) -> bool {
        match self {
            Self::Connect
            | Self::NoResponse
            | Self::NoFirstToken
            | Self::ServerError
            | Self::RateLimited
            | Self::UpstreamCredentials
            | Self::ModelUnavailable => true,
            Self::ContextLength => also_on.contains(&self),
            Self::Rejected | Self::Denied | Self::Quota | Self::Cancelled | Self::BrokenStream => false,
        }
    }

    /// Whether a breaker counts it: the upstream failed, not the caller.
    pub fn trips_breaker(self) -> bool {
        self.may_fail_over(&[])
    }

    /// How it may be retried on the same upstream.
    pub fn retry(self) -> RetryRule {
        match self {
            Self::Connect => RetryRule::Once,
            Self::ServerError | Self::RateLimited => RetryRule::WithinBudget,
            Self::NoResponse
            | Self::NoFirstToken
            | Self::UpstreamCredentials
            | Self::ModelUnavailable
            | Self::ContextLength
            | Self::Rejected
            | Self::Denied
            | Self::Quota
            | Self::Cancelled
            | Self::BrokenStream => RetryRule::Never,
        }
    }
}

/// A word that is no failure class.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/reference/contract.md`, "Failure classes", line by line: the word, retries, fails over by default, and where named.
    const TABLE: [(FailureClass, &str, RetryRule, bool, bool); 13] = [
        (FailureClass::Connect, "connect", RetryRule::Once, true, true),
        (FailureClass::NoResponse, "no_response", RetryRule::Never, true, true),
        (FailureClass::NoFirstToken, "no_first_token", RetryRule::Never, true, true),
        (FailureClass::ServerError, "server_error", RetryRule::WithinBudget, true, true),
        (FailureClass::RateLimited, "rate_limited", RetryRule::WithinBudget, true, true),
        (FailureClass::UpstreamCredentials, "upstream_credentials", RetryRule::Never, true, true),
        (FailureClass::ModelUnavailable, "model_unavailable", RetryRule::Never, true, true),
        (FailureClass::ContextLength, "context_length", RetryRule::Never, false, true),
        (FailureClass::Rejected, "rejected", RetryRule::Never, false, false),
        (FailureClass::Denied, "denied", RetryRule::Never, false, false),
        (FailureClass::Quota, "quota", RetryRule::Never, false, false),
        (FailureClass::Cancelled, "cancelled", RetryRule::Never, false, false),
        (FailureClass::BrokenStream, "broken_stream", RetryRule::Never, false, false),
    ];

    #[test]
    fn inv_02_table_matches_the_contract() {
        assert_eq!(TABLE.map(|(class, ..)| class), FailureClass::ALL);
        for (class, _, retry, by_default, where_named) in TABLE {
            assert_eq!(class.retry(), retry, "{class}");
            assert_eq!(class.may_fail_over(&[]), by_default, "{class}");
            assert_eq!(class.may_fail_over(&FailureClass::ALL), where_named, "{class}");
            assert_eq!(class.trips_breaker(), by_default, "{class}");
        }
    }

    #[test]
    fn inv_02_naming_a_class_affects_no_other() {
        for named in FailureClass::ALL {
            let failing_over = FailureClass::ContextLength.may_fail_over(&[named]);
            assert_eq!(failing_over, named == FailureClass::ContextLength, "{named}");
        }
    }

    #[test]
    fn every_class_has_one_word() {
        for (class, word, ..) in TABLE {
            let quoted = format!("\"{word}\"");
            assert_eq!((class.as_str(), class.to_string().as_str()), (word, word));
            assert_eq!(word.parse(), Ok(class));
            assert_eq!(serde_json::to_string(&class).unwrap(), quoted);
            assert_eq!(serde_json::from_str::<FailureClass>(&quoted).unwrap(), class);
        }
        for wrong in ["", "Connect", "CONNECT", "no-response", "connect ", "timeout"] {
            assert_eq!(wrong.parse::<FailureClass>(), Err(UnknownClass(wrong.to_owned())));
        }
        assert_eq!(UnknownClass("x".to_owned()).to_string(), "`x` is not a class of failure");
    }
}
