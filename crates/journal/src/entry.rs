//! What the lines of the journal record. Every text has a bound and no hidden character.

use std::fmt::Write as _;

use jiff::Timestamp;
use mcpctl_api::{agent::FailoverOutcome, visible::short};
use serde::{Deserialize, Serialize};

/// Maximum of bytes of a name: an Llm's, a provider's, a user's, a model's.
const MAX_NAME: usize = 128;
/// Maximum of bytes of a reason.
pub const MAX_REASON: usize = 512;
/// Maximum of bytes of a proof or a lease; a longer one is none of mcpd's.
const MAX_TOKEN: usize = 4096;

/// Who asked, as far as the agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallerKind {
    /// The user who was signed in, by the local key.
    User,
    /// A caller with a bearer of its own.
    Bearer,
}

/// Whose request a line is about, and what answered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// The request's id.
    pub request: String,
    /// The signed-in user, or the beginning of the bearer's SHA-256.
    pub who: String,
    /// Which of the two.
    pub caller: CallerKind,
    /// The central Llm; `None` where the user asked for the local provider by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<String>,
    /// Its id, where mcpd's answer to the probe had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_id: Option<String>,
    /// The local provider.
    pub provider: String,
}

/// What a model counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenCount {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// What a line of the journal records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum JournalEntry {
    /// The primary failed, and a local provider was to answer.
    #[serde(rename_all = "camelCase")]
    Failover {
        /// The time.
        at: Timestamp,
        /// The request.
        #[serde(flatten)]
        served: Served,
        /// The class of the primary's failure.
        class: Option<String>,
        /// The results of the probes, in order.
        access: Vec<String>,
        /// The result.
        outcome: FailoverOutcome,
        /// Why no local provider answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What mcpd signed to allow it: a proof, or a lease where the last of `access` is `lease`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<String>,
    },
    /// The user requested a local provider by name, without mcpd.
    #[serde(rename_all = "camelCase")]
    Own {
        /// The time.
        at: Timestamp,
        /// The request.
        #[serde(flatten)]
        served: Served,
    },
    /// A local answer ended.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// The time.
        at: Timestamp,
        /// The request.
        #[serde(flatten)]
        served: Served,
        /// `ok`, or the class of failure.
        outcome: String,
        /// The model's own name.
        model: Option<String>,
        /// What the model counted; `None` where it did not get to report it.
        #[serde(flatten)]
        tokens: Option<TokenCount>,
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
    /// Lines that mcpd does not have, and will not get.
    #[serde(rename_all = "camelCase")]
    Lost {
        /// The time.
        at: Timestamp,
        /// Number of the first one.
        from: u64,
        /// Number of the last one.
        to: u64,
        /// Why.
        reason: String,
    },
}

impl JournalEntry {
    /// This entry with every text bounded, and its invisible characters escaped.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let (served, words, reason) = match &mut self {
            Self::Failover { served, class, access, reason, proof, .. } => {
                proof.take_if(|proof| {
                    proof.len() > MAX_TOKEN || !proof.bytes().all(|byte| byte.is_ascii_graphic())
                });
                access.truncate(MAX_PROBES);
                (Some(served), access.iter_mut().chain(class).collect::<Vec<_>>(), reason.as_mut())
            }
            Self::Own { served, .. } => (Some(served), Vec::new(), None),
            Self::Ended { served, outcome, model, .. } => {
                (Some(served), std::iter::once(outcome).chain(model).collect(), None)
            }
            Self::Lost { reason, .. } => (None, Vec::new(), Some(reason)),
            Self::Omitted { .. } => (None, Vec::new(), None),
        };
        let names = served.into_iter().flat_map(|served| {
            let Served { request, who, caller: _, llm, llm_id, provider } = served;
            [request, who, provider].into_iter().chain(llm).chain(llm_id)
        });
        for name in names.chain(words) {
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

    /// When it happened, by the agent's clock.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Failover { at, .. }
            | Self::Own { at, .. }
            | Self::Ended { at, .. }
            | Self::Omitted { at, .. }
            | Self::Lost { at, .. } => *at,
        }
    }

    /// Whose request it is about; `None` for lines about the journal itself.
    pub const fn served(&self) -> Option<&Served> {
        match self {
            Self::Failover { served, .. } | Self::Own { served, .. } | Self::Ended { served, .. } => {
                Some(served)
            }
            Self::Omitted { .. } | Self::Lost { .. } => None,
        }
    }

    /// The word of `event`.
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Failover { .. } => "failover",
            Self::Own { .. } => "own",
            Self::Ended { .. } => "ended",
            Self::Omitted { .. } => "omitted",
            Self::Lost { .. } => "lost",
        }
    }
}

/// Maximum of probes of one request in its line: one before and one after the start of an engine, and some to spare.
const MAX_PROBES: usize = 8;

/// Characters of a bearer's digest in a name: enough to distinguish callers, useless as a credential.
const DIGEST_LENGTH: usize = 12;

/// The name of a caller with a bearer of its own, by the bearer's SHA-256.
pub fn bearer_name(digest: &[u8; 32]) -> String {
    let mut name = String::from("bearer:");
    for byte in digest.iter().take(DIGEST_LENGTH / 2) {
        // A string takes everything.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// A name as a line has it.
pub fn short_name(name: &str) -> String {
    short(name, MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainHead, Line};

    #[test]
    fn a_line_has_a_bound_no_hidden_character_and_reads_back() {
        let evil = "\x1b[2J\u{202e}\n\"".repeat(100_000);
        let at = Timestamp::now();
        let served = Served {
            request: evil.clone(),
            who: evil.clone(),
            caller: CallerKind::User,
            llm: Some(evil.clone()),
            llm_id: Some(evil.clone()),
            provider: evil.clone(),
        };
        for entry in [
            JournalEntry::Failover {
                at,
                served: served.clone(),
                class: Some(evil.clone()),
                access: vec![evil.clone(); 100],
                outcome: FailoverOutcome::Failed,
                reason: Some(evil.clone()),
                proof: Some(evil.clone()),
            },
            JournalEntry::Failover {
                at,
                served: served.clone(),
                class: None,
                access: vec!["lease".to_owned()],
                outcome: FailoverOutcome::Served,
                reason: None,
                proof: Some("v4.public.x".to_owned()),
            },
            JournalEntry::Own { at, served: Served { llm: None, llm_id: None, ..served.clone() } },
            JournalEntry::Ended {
                at,
                served: served.clone(),
                outcome: "ok".to_owned(),
                model: Some(evil.clone()),
                tokens: Some(TokenCount { input_tokens: u64::MAX, output_tokens: u64::MAX }),
                cost: 0,
            },
            JournalEntry::Ended {
                at,
                served: served.clone(),
                outcome: "access_revoked".to_owned(),
                model: None,
                tokens: None,
                cost: 0,
            },
            JournalEntry::Omitted { at, refusals: 1 },
            JournalEntry::Lost { at, from: 1, to: 2, reason: evil },
        ] {
            let entry = entry.bounded();
            let (line, head) = Line::after(ChainHead::genesis(&mcpctl_api::Id::mint()), &entry).unwrap();
            let text = String::from_utf8(line).unwrap();
            assert!(text.len() < 4096 && !text.contains(mcpctl_api::visible::is_hidden), "{text}");
            let read: Line = serde_json::from_str(&text).unwrap();
            assert_eq!((read.seq, read.entry.event(), read.entry), (head.seq, entry.event(), entry));
        }
    }
}
