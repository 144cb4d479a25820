//! The decision of a probe: may an agent answer this caller from a local provider in place of this Llm?
//!
//! One function decides for the signed proof, for the lease, and for what runs at agents already.

use std::time::Duration;

use mcpctl_api::{Id, Kind, Revision, Spec, Verb};
use serde::{Deserialize, Serialize};

use crate::{
    Denied, Principal, Snapshot,
    verb::{Run, View},
};

/// Whether an agent may fall back for a principal and an Llm, as one snapshot decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverDecision {
    /// Why it is allowed or denied.
    pub reason: FailoverReason,
    /// The Llm, where the principal may view it.
    pub llm: Option<Id>,
    /// The verb that decided.
    pub verb: Verb,
    /// The Llm's `offlineGrace`; zero where the failover is denied.
    pub offline_grace: Duration,
    /// The revision of the snapshot.
    pub revision: Revision,
}

/// Why a failover is allowed or denied; one word on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailoverReason {
    /// The principal holds the verb that the Llm requires.
    Allowed,
    /// The caller has no valid credential.
    Unauthenticated,
    /// The principal may not view the Llm, whether or not it exists.
    Forbidden,
    /// There is no such Llm, and the principal may know.
    NotFound,
    /// The Llm does not let agents fall back.
    FailoverOff,
    /// The principal may view the Llm, which requires `run`.
    RunRequired,
}

impl FailoverReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Allowed,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::FailoverOff,
        Self::RunRequired,
    ];

    /// The word on the wire and in the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::FailoverOff => "failover_off",
            Self::RunRequired => "run_required",
        }
    }

    /// The reason in a sentence, for people who know the Llm by this name.
    pub fn describe(self, llm: &str) -> String {
        match self {
            Self::Allowed => "falling back is allowed".to_owned(),
            Self::Unauthenticated => "the caller is not known".to_owned(),
            Self::Forbidden => format!("the caller may not view `{llm}`"),
            Self::NotFound => format!("there is no Llm `{llm}`"),
            Self::FailoverOff => {
                format!("the Llm `{llm}` does not let agents answer in its place (failover.allowed is false)")
            }
            Self::RunRequired => {
                format!("falling back needs the right to run `{llm}` (failover.require is run)")
            }
        }
    }

    /// Whether it allows the failover.
    pub const fn allows(self) -> bool {
        matches!(self, Self::Allowed)
    }
}

impl FailoverDecision {
    /// Whether the agent may fall back.
    pub const fn is_allowed(&self) -> bool {
        self.reason.allows()
    }

    /// The decision about a caller without a valid credential.
    pub const fn unauthenticated(revision: Revision) -> Self {
        Self::without_llm(FailoverReason::Unauthenticated, revision)
    }

    const fn without_llm(reason: FailoverReason, revision: Revision) -> Self {
        Self { reason, llm: None, verb: Verb::View, offline_grace: Duration::ZERO, revision }
    }
}

impl Snapshot {
    /// Decides whether an agent may fall back for the principal, from the Llm of this id or name.
    ///
    /// INVARIANT 9: it begins with the authorization of GET, so that an allowing proof never comes with a status that denies.
    pub fn failover_decision(&self, principal: &Principal, id_or_name: &str) -> FailoverDecision {
        let revision = self.revision();
        let stored = match self.authorize::<View>(principal, Kind::Llm, id_or_name) {
            Ok(permit) => permit.into_resource(),
            Err(Denied::Forbidden { .. }) => {
                return FailoverDecision::without_llm(FailoverReason::Forbidden, revision);
            }
            Err(Denied::NotFound { .. }) => {
                return FailoverDecision::without_llm(FailoverReason::NotFound, revision);
            }
        };
        let Spec::Llm(llm) = &stored.resource.spec else {
            // Stored under the wrong kind: nothing to fall back from.
            return FailoverDecision::without_llm(FailoverReason::Forbidden, revision);
        };
        let failover = llm.failover;
        let verb = failover.require.verb();
        // By id, so that both verbs are decided on the same resource.
        let may_run = || self.authorize::<Run>(principal, Kind::Llm, stored.id().as_str()).is_ok();
        let reason = match verb {
            _ if !failover.allowed => FailoverReason::FailoverOff,
            Verb::View => FailoverReason::Allowed,
            Verb::Run if may_run() => FailoverReason::Allowed,
            _ => FailoverReason::RunRequired,
        };
        // The bound again, for documents that an older version stored.
        let longest = mcpctl_api::spec::Failover::MAX_OFFLINE_GRACE;
        let offline_grace =
            if reason.allows() { failover.offline_grace.min(longest).0 } else { Duration::ZERO };
        FailoverDecision { reason, llm: Some(stored.id().clone()), verb, offline_grace, revision }
    }
}
