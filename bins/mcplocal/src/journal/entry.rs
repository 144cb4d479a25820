//! The lines of the journal. Every text in one has a bound and no hidden character.

use jiff::Timestamp;
use mcpctl_api::{agent::FailoverOutcome, visible::short};
use mcpctl_failover::Bearer;
use mcpctl_secret::token;
use serde::Serialize;

/// Maximum of bytes of a name: an Llm's, a provider's, a user's, a model's.
const MAX_NAME: usize = 128;
/// Maximum of bytes of a reason.
pub const MAX_REASON: usize = 512;
/// Characters of a bearer's digest: enough to distinguish callers, useless as a credential.
const DIGEST_LENGTH: usize = 12;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum JournalEntry {
    /// The primary failed, and a local provider was to answer.
    #[serde(rename_all = "camelCase")]
    Failover {
        /// The time.
        at: Timestamp,
        /// The request's id.
        request: String,
        /// The caller, see [`caller_name`].
        who: String,
        /// The central Llm.
        llm: String,
        /// The local provider.
        provider: String,
        /// The class of the primary's failure.
        class: Option<&'static str>,
        /// The results of the probes, in order.
        access: Vec<&'static str>,
        /// The result.
        outcome: FailoverOutcome,
        /// Why no local provider answered.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The user requested a local provider by name, without mcpd.
    #[serde(rename_all = "camelCase")]
    Own {
        /// The time.
        at: Timestamp,
        /// The request's id.
        request: String,
        /// The caller, see [`caller_name`].
        who: String,
        /// The local provider.
        provider: String,
    },
    /// A local answer ended.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// The time.
        at: Timestamp,
        /// The request's id.
        request: String,
        /// `ok`, or the class of failure.
        outcome: &'static str,
        /// The model's own name.
        model: Option<String>,
        /// Tokens of the prompt.
        input_tokens: u64,
        /// Tokens of the answer.
        output_tokens: u64,
        /// In US dollars: a local answer costs nothing.
        cost: u64,
    },
    /// The number of refusals beyond the limit, which have no lines of their own.
    #[serde(rename_all = "camelCase")]
    Omitted {
        /// The time.
        at: Timestamp,
        /// Their number.
        refusals: u64,
    },
}

impl JournalEntry {
    /// This entry with every text bounded, and its invisible characters escaped.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let (names, reason) = match &mut self {
            Self::Failover { request, who, llm, provider, reason, .. } => {
                (vec![request, who, llm, provider], reason.as_mut())
            }
            Self::Own { request, who, provider, .. } => (vec![request, who, provider], None),
            Self::Ended { request, model, .. } => {
                (std::iter::once(request).chain(model.as_mut()).collect(), None)
            }
            Self::Omitted { .. } => (Vec::new(), None),
        };
        for name in names {
            *name = short(name, MAX_NAME);
        }
        if let Some(reason) = reason {
            *reason = short(reason, MAX_REASON);
        }
        self
    }

    /// Whether it is a failover in which no local provider answered.
    pub const fn nothing_ran(&self) -> bool {
        matches!(self, Self::Failover { outcome: FailoverOutcome::Refused | FailoverOutcome::Failed, .. })
    }

    /// Whether the probe did not allow it.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Failover { outcome: FailoverOutcome::Refused, .. })
    }
}

/// The name of a caller: the user for whom the local key acts, or else the beginning of the bearer's SHA-256.
///
/// INVARIANT 10: never the bearer itself.
pub fn caller_name(user: Option<&str>, bearer: &Bearer) -> String {
    match user {
        Some(user) => short(user, MAX_NAME),
        None => {
            let digest = token::hash(bearer.expose()).to_string();
            format!("bearer:{}", digest.get(..DIGEST_LENGTH).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_bound_and_no_hidden_character() {
        let evil = "\x1b[2J\u{202e}\n\"".repeat(100_000);
        let who = caller_name(Some(&evil), &Bearer::new("b"));
        let access = vec!["allowed", "forbidden"];
        let (at, request, provider) = (Timestamp::now(), evil.clone(), evil.clone());
        for entry in [
            JournalEntry::Failover {
                at,
                request: request.clone(),
                who: who.clone(),
                llm: evil.clone(),
                provider: provider.clone(),
                class: Some("connect"),
                access,
                outcome: FailoverOutcome::Failed,
                reason: Some(evil.clone()),
            },
            JournalEntry::Own { at, request: request.clone(), who, provider },
            JournalEntry::Ended {
                at,
                request,
                outcome: "ok",
                model: Some(evil),
                input_tokens: u64::MAX,
                output_tokens: u64::MAX,
                cost: 0,
            },
        ] {
            let line = serde_json::to_string(&entry.bounded()).unwrap();
            assert!(line.len() < 2048 && !line.contains(mcpctl_api::visible::is_hidden), "{line}");
        }
    }

    #[test]
    fn inv_10_a_caller_is_named_by_user_or_digest() {
        let (one, other) = (Bearer::new("mcpd_one"), Bearer::new("mcpd_other"));
        assert_eq!(caller_name(Some("alice"), &one), "alice");
        assert_ne!(caller_name(None, &one), caller_name(None, &other));
        assert_eq!(caller_name(None, &one), caller_name(None, &one));
        assert!(!caller_name(None, &one).contains("mcpd_"));
    }
}
