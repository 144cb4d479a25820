//! How breakers stand: of an Llm's upstreams at mcpd, as `GET /api/v1/llms/:idOrName/status` shows them, and of an agent's primaries.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::Name;

/// `GET /api/v1/llms/:idOrName/status`, of the replica that answers
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmStatus {
    /// The Llm's name.
    #[schema(value_type = String)]
    pub llm: Name,
    /// What there is to know in one word.
    #[serde(default)]
    pub state: LlmState,
    /// Since when it has done nothing but fail; absent of one that answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Its last failure since the replica started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LlmFailure>,
    /// When a request to it last ended, since the replica started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// The breaker of each of its upstreams, in the order of the document.
    pub breakers: Vec<BreakerStatus>,
    /// The keys that are not sent, because their references are void.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub void_keys: Vec<VoidKey>,
}

/// The state of an Llm, by what one replica has seen. Of several, the worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LlmState {
    /// The last request was answered.
    Ok,
    /// There has been no request to it.
    #[default]
    Unknown,
    /// The last request failed.
    Failing,
    /// The breakers of all its upstreams are open.
    BreakerOpen,
    /// None of them is closed, and one lets a request through to try its upstream, or will let the next one through.
    BreakerHalfOpen,
    /// A key of it is void.
    NoCredential,
    /// A state of a newer mcpd.
    #[serde(other)]
    Other,
}

impl LlmState {
    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unused",
            Self::Failing => "failing",
            Self::BreakerOpen => "breaker open",
            Self::BreakerHalfOpen => "breaker half open",
            Self::NoCredential => "no credential",
            Self::Other => "not known to this version",
        }
    }
}

/// A failure of an Llm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LlmFailure {
    /// When it was over.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its class.
    pub class: String,
    /// The provider's HTTP status; 0 where there was no response.
    pub status: u16,
}

/// A key that is not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoidKey {
    /// Where the reference is, e.g. `targets[1].apiKey`.
    pub field: String,
    /// The secret's name.
    #[schema(value_type = String)]
    pub secret: Name,
    /// Why, for callers who may view the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// The address of its upstream, as the document has it; absent at an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub url: Option<Url>,
    /// Its state.
    pub state: BreakerState,
    /// When it opened; absent where it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// When the next request is let through; absent where it is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
    /// The class of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Whether it concerns only requests of some form: tools, images, embeddings, a long prompt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub some_forms: bool,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum BreakerState {
    /// Requests go to the upstream.
    #[default]
    Closed,
    /// Requests skip it, after consecutive failures, where something else can answer them.
    Open,
    /// One request tries it, or the next one will.
    HalfOpen,
    /// A state of a newer mcpd.
    #[serde(other)]
    Other,
}

impl BreakerStatus {
    /// A breaker that opened so long ago; `next_try` is the time until a request is let through, `None` where it is half open.
    pub fn opened(
        ago: Duration,
        next_try: Option<Duration>,
        last_failure: Option<&str>,
        some_forms: bool,
    ) -> Self {
        let (now, ago) = (Timestamp::now(), SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX));
        let next = |wait| now.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX));
        Self {
            url: None,
            state: if next_try.is_some() { BreakerState::Open } else { BreakerState::HalfOpen },
            since: now.saturating_sub(ago).ok(),
            next_try_at: next_try.and_then(|wait| next(wait).ok()),
            last_failure: last_failure.map(str::to_owned),
            some_forms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_a_newer_mcpd_spoils_no_list() {
        let list = r#"[{"llm": "a", "state": "resting", "breakers": [{"state": "ajar"}]},
                       {"llm": "b", "state": "breakerHalfOpen", "breakers": []}]"#;
        let read: Vec<LlmStatus> = serde_json::from_str(list).unwrap();
        let states: Vec<LlmState> = read.iter().map(|llm| llm.state).collect();
        assert_eq!(states, [LlmState::Other, LlmState::BreakerHalfOpen]);
        assert_eq!(read[0].breakers[0].state, BreakerState::Other);
    }

    #[test]
    fn times_are_relative_to_now() {
        let open = BreakerStatus::opened(Duration::from_secs(60), Some(Duration::from_secs(10)), None, false);
        let between = open.next_try_at.unwrap().duration_since(open.since.unwrap());
        assert_eq!((open.state, between.as_secs()), (BreakerState::Open, 70));
        let trying = BreakerStatus::opened(Duration::MAX, None, None, false);
        assert_eq!((trying.state, trying.next_try_at), (BreakerState::HalfOpen, None));
        let closed = serde_json::to_string(&BreakerStatus::default()).unwrap();
        assert_eq!(closed, r#"{"state":"closed"}"#);
    }
}
