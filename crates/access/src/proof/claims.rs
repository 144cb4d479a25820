//! The proof: what mcpd decided about one probe.

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{Id, Name, Revision, Verb, spec::SubjectKind};
use serde::{Deserialize, Serialize};

use super::{
    text::{BearerHash, ProbeNonce},
    token::Claims,
};
use crate::{FailoverDecision, FailoverReason, Principal};

/// What a probe asks. The answer repeats all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofQuestion {
    /// The nonce of this probe.
    pub nonce: ProbeNonce,
    /// Id of the agent.
    pub agent: Id,
    /// The hash of the credential that came with the probe; `None` where none came.
    pub bearer: Option<BearerHash>,
    /// The Llm's id or name, as the request has it.
    pub asked: String,
}

impl ProofQuestion {
    /// The longest `asked`, in bytes. No id or name is as long, so a longer text is answered without a proof.
    pub const MAX_ASKED: usize = 128;
}

/// The account that the credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofSubject {
    /// User or service account.
    pub kind: SubjectKind,
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: Id,
}

impl From<&Principal> for ProofSubject {
    fn from(principal: &Principal) -> Self {
        let subject = principal.subject.clone();
        Self { kind: subject.kind, name: subject.name, id: principal.id.clone() }
    }
}

/// The outcome of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The agent may fall back for this caller and this Llm now.
    Allow,
    /// It may not.
    Deny,
}

/// A decision of mcpd about one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProofClaims {
    /// The probe's nonce.
    pub nonce: ProbeNonce,
    /// The agent's id.
    pub agent: Id,
    /// Whose credential it is; absent where the credential is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<ProofSubject>,
    /// The hash of the credential; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<BearerHash>,
    /// The Llm's id or name, as the probe has it.
    pub asked: String,
    /// The Llm's id, where the subject may view it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<Id>,
    /// The verb that decided.
    pub verb: Verb,
    /// The decision.
    pub decision: Decision,
    /// Why.
    pub reason: FailoverReason,
    /// The revision of the snapshot that decided.
    pub revision: Revision,
    /// When it was decided, by mcpd's clock.
    pub iat: Timestamp,
    /// How many seconds what runs may rely on it; 0 of a denial.
    pub holds: u32,
    /// When the credential expires; absent where it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The proof answers another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its `{claim}` is not that of the question")]
pub struct Contradiction {
    /// The claim that differs.
    pub claim: &'static str,
}

impl ProofClaims {
    /// The longest `holds`: after this long without a newer decision an agent ends what runs.
    pub const MAX_HOLDS_SECS: u32 = 15;

    /// The claims of a decision about a question. `holds` ends with the principal's credential.
    pub fn new(
        question: ProofQuestion,
        principal: Option<&Principal>,
        decision: &FailoverDecision,
        at: Timestamp,
    ) -> Self {
        let ProofQuestion { nonce, agent, bearer, asked } = question;
        let allowed = decision.is_allowed();
        let holds = principal.filter(|_| allowed).map_or(0, |principal| {
            seconds(principal.expires_at.duration_since(at)).min(Self::MAX_HOLDS_SECS)
        });
        Self {
            nonce,
            agent,
            subject: principal.map(ProofSubject::from),
            bearer,
            asked,
            llm: decision.llm.clone(),
            verb: decision.verb,
            decision: if allowed { Decision::Allow } else { Decision::Deny },
            reason: decision.reason,
            revision: decision.revision,
            iat: at,
            holds,
            expires_at: principal.map(|principal| principal.expires_at),
        }
    }

    /// Whether mcpd allows the failover.
    pub fn allows(&self) -> bool {
        self.decision == Decision::Allow
    }

    /// Checks that these claims answer this question.
    ///
    /// # Errors
    /// When a claim differs.
    pub fn answers(&self, question: &ProofQuestion) -> Result<(), Contradiction> {
        // In full, so that a field that is added to the question has to be compared here.
        let ProofQuestion { nonce, agent, bearer, asked } = question;
        let same = [
            ("nonce", self.nonce == *nonce),
            ("agent", self.agent == *agent),
            ("bearer", self.bearer == *bearer),
            ("asked", self.asked == *asked),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((claim, _)) => Err(Contradiction { claim }),
            None => Ok(()),
        }
    }
}

impl Claims for ProofClaims {
    const PURPOSE: &'static str = "mcpctl access proof v1";

    fn are_consistent(&self) -> bool {
        let allows = self.allows();
        let known = self.subject.as_ref().is_some_and(|subject| subject.kind != SubjectKind::Group);
        // An id that was asked for is the id that was found.
        let same_llm = match (&self.llm, self.asked.parse::<Id>()) {
            (Some(llm), Ok(asked)) => *llm == asked,
            _ => true,
        };
        allows == self.reason.allows()
            && known == (self.reason != FailoverReason::Unauthenticated)
            && known == self.subject.is_some()
            && known == self.expires_at.is_some()
            && (known <= self.bearer.is_some())
            && (self.llm.is_some() <= known)
            && (allows <= self.llm.is_some())
            && same_llm
            && self.holds <= if allows { Self::MAX_HOLDS_SECS } else { 0 }
            && matches!(self.verb, Verb::View | Verb::Run)
            && self.asked.len() <= ProofQuestion::MAX_ASKED
    }
}

/// The whole seconds of a duration; 0 of one that is negative.
pub(super) fn seconds(duration: SignedDuration) -> u32 {
    u32::try_from(duration.as_secs().max(0)).unwrap_or(u32::MAX)
}
