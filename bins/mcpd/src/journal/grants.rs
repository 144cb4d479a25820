//! What mcpd itself signed: the proof or lease in a line of a journal, and whether it confirms this line. An agent holds what it was
//! given, so a signature alone confirms nothing: it has to be about this agent, this Llm, this caller and this time. A proof
//! confirms one line, which the store sees to; a lease all lines of its time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::proof::{self, BearerHash, LeaseClaims, ProbeNonce, ProofClaims, ProofSubject, PublicKey};
use mcpctl_api::{Id, Revision};
use mcpctl_failover::Access;
use mcpctl_journal::{CallerKind, Served, bearer_name};

/// How far the clock of an agent may differ from mcpd's; as of Kerberos' tickets (RFC 4120, 1.6).
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Verifies signatures in lines of one agent.
pub(super) struct Grants {
    keys: [PublicKey; 2],
    agent: Id,
    /// Rows of an earlier time are removed, and with them what is known of the use of a proof.
    oldest: Timestamp,
}

/// A decision that mcpd signed, and which confirms a line.
pub(super) struct Grant {
    pub(super) subject: ProofSubject,
    pub(super) llm: Id,
    pub(super) revision: Revision,
    /// What a proof confirms one line by; `None` of a lease.
    pub(super) nonce: Option<ProbeNonce>,
}

/// Why the proof or lease in a line does not confirm it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotConfirmed {
    #[error("no key of mcpd's signed its proof")]
    Signature,
    #[error("its proof denies")]
    Denies,
    #[error("its proof is about another agent")]
    Agent,
    #[error("its proof is about another Llm")]
    Llm,
    #[error("its proof is about another caller")]
    Caller,
    #[error("its proof is about another time")]
    Time,
    #[error("its proof was used by another line")]
    Used,
}

/// What proofs and leases have in common.
struct Claimed {
    agent: Id,
    bearer: BearerHash,
    iat: Timestamp,
    lasts: Duration,
    grant: Grant,
}

impl Grants {
    pub(super) const fn new(keys: [PublicKey; 2], agent: Id, oldest: Timestamp) -> Self {
        Self { keys, agent, oldest }
    }

    /// The decision that confirms a line with this proof, in which the last probe had this result.
    pub(super) fn confirm(
        &self,
        token: &str,
        access: Option<&str>,
        served: &Served,
        at: Timestamp,
    ) -> Result<Grant, NotConfirmed> {
        let Claimed { agent, bearer, iat, lasts, grant } = match access {
            Some(access) if access == Access::Leased.as_str() => self.lease(token)?,
            _ => self.proof(token)?,
        };
        if agent != self.agent {
            return Err(NotConfirmed::Agent);
        }
        if served.llm_id.as_deref() != Some(grant.llm.as_str()) {
            return Err(NotConfirmed::Llm);
        }
        let who = match served.caller {
            CallerKind::User => grant.subject.name.to_string(),
            CallerKind::Bearer => bearer_name(bearer.as_bytes()),
        };
        if served.who != who {
            return Err(NotConfirmed::Caller);
        }
        let lasts = SignedDuration::try_from(lasts).unwrap_or(SignedDuration::ZERO);
        let (from, to) =
            (iat.checked_sub(CLOCK_TOLERANCE), iat.checked_add(lasts.saturating_add(CLOCK_TOLERANCE)));
        match (from, to) {
            (Ok(from), Ok(to)) if (from..=to).contains(&at) && from >= self.oldest => Ok(grant),
            _ => Err(NotConfirmed::Time),
        }
    }

    fn proof(&self, token: &str) -> Result<Claimed, NotConfirmed> {
        let claims: ProofClaims = proof::verify(token, &self.keys).map_err(|_| NotConfirmed::Signature)?;
        let allowed = claims.allows();
        let ProofClaims { nonce, agent, subject, bearer, llm, revision, iat, holds, .. } = claims;
        match (subject, bearer, llm) {
            (Some(subject), Some(bearer), Some(llm)) if allowed => {
                let grant = Grant { subject, llm, revision, nonce: Some(nonce) };
                Ok(Claimed { agent, bearer, iat, lasts: Duration::from_secs(holds.into()), grant })
            }
            _ => Err(NotConfirmed::Denies),
        }
    }

    fn lease(&self, token: &str) -> Result<Claimed, NotConfirmed> {
        let claims: LeaseClaims = proof::verify(token, &self.keys).map_err(|_| NotConfirmed::Signature)?;
        let lasts = claims.lasts();
        let LeaseClaims { nonce: _, agent, subject, bearer, llm, revision, iat, grace: _ } = claims;
        Ok(Claimed { agent, bearer, iat, lasts, grant: Grant { subject, llm, revision, nonce: None } })
    }
}
