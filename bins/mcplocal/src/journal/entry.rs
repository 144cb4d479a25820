//! The lines of the journal. Every text in one has a bound and no hidden character.

use jiff::Timestamp;
use mcpctl_api::{agent::FailoverOutcome, visible::short};
use mcpctl_failover::Bearer;
use mcpctl_secret::token;
use serde::Serialize;

/// Bytes of a name: an Llm's, a provider's, a user's, a model's.
const MAX_NAME: usize = 128;
/// Bytes of a reason.
pub const MAX_REASON: usize = 512;
/// Characters of a bearer's digest: enough to tell callers apart, of no use to call.
const DIGEST_LENGTH: usize = 12;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum JournalEntry {
    /// A primary failed, and a local provider was to take over.
    #[serde(rename_all = "camelCase")]
    Failover {
        /// When.
        at: Timestamp,
        /// The request.
        request: String,
        /// The caller, see [`caller_name`].
        who: String,
        /// The central Llm.
        llm: String,
        /// The local provider.
        provider: String,
        /// Why the primary did not answer.
        class: Option<&'static str>,
        /// What the centre said, in order.
        access: Vec<&'static str>,
        /// What came of it.
        outcome: FailoverOutcome,
        /// Why it failed, where it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The user asked a local provider itself, without the centre.
    #[serde(rename_all = "camelCase")]
    Own {
        /// When.
        at: Timestamp,
        /// The request.
        request: String,
        /// The caller, see [`caller_name`].
        who: String,
        /// The local provider.
        provider: String,
    },
    /// A local answer ended.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// When.
        at: Timestamp,
        /// The request.
        request: String,
        /// `ok`, or the class of failure.
        outcome: &'static str,
        /// The model that answered, as it calls itself.
        model: Option<String>,
        /// Tokens read.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
    },
    /// Refusals beyond the limit, which have no lines of their own.
    #[serde(rename_all = "camelCase")]
    Omitted {
        /// When.
        at: Timestamp,
        /// How many.
        refusals: u64,
    },
}

impl JournalEntry {
    /// The same with every text bounded, and its hidden characters written out.
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

    /// Whether it tells of a failover in which no local provider answered.
    pub const fn nothing_ran(&self) -> bool {
        matches!(self, Self::Failover { outcome: FailoverOutcome::Refused | FailoverOutcome::Failed, .. })
    }

    /// Whether nothing ran, because the centre did not allow it.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Failover { outcome: FailoverOutcome::Refused, .. })
    }
}

/// Names a caller: the user that the local key stands for, or else the beginning of the bearer's SHA-256.
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
