//! The lease: lets an agent that gets no answer fall back a little longer, for the caller and the Llm of an allowing proof.

use std::time::Duration;

use jiff::Timestamp;
use mcpctl_api::{Id, Revision, spec::Failover};
use serde::{Deserialize, Serialize};

use super::{
    claims::{Contradiction, ProofClaims, ProofSubject, seconds},
    text::{BearerHash, ProbeNonce},
    token::Claims,
};
use crate::{FailoverDecision, Principal};

/// A lease, which accompanies one proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseClaims {
    /// The nonce of the probe, so that an old lease does not pass beside a new proof.
    pub nonce: ProbeNonce,
    /// The agent's id.
    pub agent: Id,
    /// Whose credential it is.
    pub subject: ProofSubject,
    /// The hash of the credential.
    pub bearer: BearerHash,
    /// The Llm's id.
    pub llm: Id,
    /// The revision of the snapshot that decided.
    pub revision: Revision,
    /// When it was decided, by mcpd's clock.
    pub iat: Timestamp,
    /// For how many seconds it lasts, from the sending of the probe by the agent's clock.
    pub grace: u32,
}

impl LeaseClaims {
    /// The lease beside an allowing proof; `None` where the decision gives none. It ends with the principal's credential.
    pub fn beside(proof: &ProofClaims, principal: &Principal, decision: &FailoverDecision) -> Option<Self> {
        if !proof.allows() || !decision.is_allowed() {
            return None;
        }
        let until_expiry = seconds(principal.expires_at.duration_since(proof.iat));
        let grace = u32::try_from(decision.offline_grace.as_secs()).unwrap_or(0).min(until_expiry);
        Some(Self {
            nonce: proof.nonce,
            agent: proof.agent.clone(),
            subject: proof.subject.clone()?,
            bearer: proof.bearer?,
            llm: proof.llm.clone()?,
            revision: proof.revision,
            iat: proof.iat,
            grace,
        })
        .filter(|lease| lease.grace > 0)
    }

    /// How long it lasts, from the sending of the probe.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(self.grace.into())
    }

    /// Checks that this lease accompanies this proof.
    ///
    /// # Errors
    /// When a claim differs, or the proof denies.
    pub fn accompanies(&self, proof: &ProofClaims) -> Result<(), Contradiction> {
        // In full, so that a claim that is added has to be compared here.
        let Self { nonce, agent, subject, bearer, llm, revision, iat, grace: _ } = self;
        let same = [
            ("decision", proof.allows()),
            ("nonce", proof.nonce == *nonce),
            ("agent", proof.agent == *agent),
            ("subject", proof.subject.as_ref() == Some(subject)),
            ("bearer", proof.bearer.as_ref() == Some(bearer)),
            ("llm", proof.llm.as_ref() == Some(llm)),
            ("revision", proof.revision == *revision),
            ("iat", proof.iat == *iat),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((claim, _)) => Err(Contradiction { claim }),
            None => Ok(()),
        }
    }
}

impl Claims for LeaseClaims {
    const PURPOSE: &'static str = "mcpctl access lease v1";

    fn are_consistent(&self) -> bool {
        self.grace > 0 && self.lasts() <= Failover::MAX_OFFLINE_GRACE.0
    }
}
