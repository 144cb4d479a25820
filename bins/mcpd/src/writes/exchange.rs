//! Rules for the trust of service accounts, and the token of a workload that one of them trusts.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Spec,
    oidc::IssuerUrl,
    spec::{ServiceAccountSpec, Subject, SubjectKind, TokenSpec, TrustedWorkload},
};
use mcpctl_secret::token::TokenHash;

use super::{
    Batch, Plan, Planner, Refusal,
    session::sessions_to_end,
    shown,
    token::{TokenDraft, expiry},
};

/// Maximum of exchanged tokens of one account; beyond it the oldest ends, so that exchanges do not fill the store.
const MAX_EXCHANGED: usize = 256;

/// A workload whose token was verified, and the token to make.
pub struct Workload<'a> {
    /// The service account's name.
    pub account: &'a Name,
    /// Its id.
    pub id: &'a Id,
    /// The issuer of the workload's token.
    pub issuer: &'a IssuerUrl,
    /// The audiences of the workload's token.
    pub audiences: &'a [String],
    /// Whom it is about.
    pub subject: &'a str,
    /// When it ends; the new token does not outlast it.
    pub expires_at: Timestamp,
    /// How long the new token is valid at most.
    pub validity: HumanDuration,
    /// The new token's name.
    pub token: Name,
    /// Its hash.
    pub hash: TokenHash,
}

/// Why a verified workload gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefusal {
    /// There is no such account, it is disabled, or it does not trust this workload.
    #[error("the service account does not trust this token")]
    NotTrusted,
    /// The account that wrote the trust is gone or disabled.
    #[error("the account that wrote `trust` is gone or disabled")]
    Void,
}

/// The account of this name and id, if it trusts a workload and its trust is in force.
///
/// # Errors
/// When it does not, or is gone or disabled.
pub fn trusting<'a>(
    snapshot: &'a Snapshot,
    name: &Name,
    id: &Id,
    trusts: impl Fn(&TrustedWorkload) -> bool,
) -> Result<(&'a Stored, &'a ServiceAccountSpec), ExchangeRefusal> {
    let account = snapshot.by_name(Kind::ServiceAccount, name.as_str());
    let account = account.filter(|account| account.id() == id).ok_or(ExchangeRefusal::NotTrusted)?;
    let Spec::ServiceAccount(spec) = &account.resource.spec else { return Err(ExchangeRefusal::NotTrusted) };
    if spec.disabled || !spec.trust.iter().any(trusts) {
        return Err(ExchangeRefusal::NotTrusted);
    }
    if !snapshot.are_active(&spec.trust_set_by) {
        return Err(ExchangeRefusal::Void);
    }
    Ok((account, spec))
}

/// Makes the token. It is capped by the accounts that wrote the trust, like a token that they made.
///
/// # Errors
/// When the account does not trust the workload, or no longer.
pub fn begin(before: &Snapshot, workload: &Workload<'_>, now: Timestamp) -> Result<Plan, ExchangeRefusal> {
    let Workload { issuer, audiences, subject, .. } = workload;
    let (account, spec) = trusting(before, workload.account, workload.id, |trusted| {
        audiences.iter().any(|audience| trusted.trusts(issuer, audience, subject))
    })?;
    let mut batch = Batch::new(before);
    let token = TokenSpec {
        subject: Subject { kind: SubjectKind::ServiceAccount, name: account.name().clone() },
        subject_id: account.id().clone(),
        expires_at: expiry(now, workload.validity).min(workload.expires_at),
        session: true,
        external: false,
        rotated_from: None,
        issued_by: spec.trust_set_by.clone(),
        rules: None,
    };
    let draft = TokenDraft { name: workload.token.clone(), spec: token, hash: workload.hash };
    let made = draft.into_stored(batch.next_revision(), now);
    batch.put(Arc::clone(&made));
    for oldest in sessions_to_end(before, account.id(), MAX_EXCHANGED) {
        batch.remove(oldest);
    }
    Ok(Plan::of(before, batch, Some(made)))
}

impl Planner<'_> {
    /// Whom an account trusts may act for it, so writing it takes what making a credential for the account takes, under its
    /// old and its new name, and is recorded like it. An editor may leave it as it is, or end it.
    pub(super) fn set_trust(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        account: &mut ServiceAccountSpec,
    ) -> Result<(), Refusal> {
        let old = existing.and_then(|stored| match &stored.resource.spec {
            Spec::ServiceAccount(old) => Some(old),
            _ => None,
        });
        let old_trust = old.map_or(&[][..], |old| old.trust.as_slice());
        account.trust_set_by = old.map(|old| old.trust_set_by.clone()).unwrap_or_default();
        // Where its writer is gone, the same list is written again to take it over.
        let in_force = self.before.are_active(&account.trust_set_by);
        if account.trust == old_trust && in_force {
            return Ok(());
        }
        if account.trust.is_empty() {
            account.trust_set_by = Vec::new();
            return Ok(());
        }
        let subject = |name: &Name| Subject { kind: SubjectKind::ServiceAccount, name: name.clone() };
        for name in existing.map(|stored| stored.name()).into_iter().chain([name]) {
            let checked = self.before.check_credential(self.actor, &subject(name), None);
            match checked {
                Ok(()) => {}
                // Left as it was, void.
                Err(_) if account.trust == old_trust => return Ok(()),
                Err(escalation) => return Err(shown(self.before, self.actor, escalation).into()),
            }
        }
        if account.trust == old_trust {
            self.warnings
                .push(format!("the trust of ServiceAccount `{name}` was void, and you answer for it now"));
        }
        let owner = existing.map_or(name, |stored| stored.name());
        account.trust_set_by = self.before.makers(self.actor, &subject(owner));
        Ok(())
    }
}
