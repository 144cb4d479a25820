//! Rules for the trust of service accounts, and the token of a workload that one of them trusts.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Spec,
    spec::{ServiceAccountSpec, Subject, SubjectKind, TokenOrigin, TokenSpec, TrustedWorkload},
};
use mcpctl_secret::token::TokenHash;

use super::{
    Batch, Plan, Planner, Refusal, shown,
    token::{TokenDraft, expiry},
};

/// Maximum of exchanged tokens of one account, so that exchanges do not fill the store.
const MAX_EXCHANGED: usize = 256;

/// A workload whose token was verified, and the token to make.
pub struct Workload<'a> {
    /// The service account's name.
    pub account: &'a Name,
    /// Its id.
    pub id: &'a Id,
    /// The issuer of the workload's token, and whom it is about.
    pub origin: &'a TokenOrigin,
    /// The audiences of the workload's token.
    pub audiences: &'a [String],
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
    let Workload { origin, audiences, .. } = workload;
    let (account, spec) = trusting(before, workload.account, workload.id, |trusted| {
        audiences.iter().any(|audience| trusted.trusts(&origin.issuer, audience, &origin.subject))
    })?;
    let mut batch = Batch::new(before);
    let token = TokenSpec {
        subject: Subject { kind: SubjectKind::ServiceAccount, name: account.name().clone() },
        subject_id: account.id().clone(),
        expires_at: expiry(now, workload.validity).min(workload.expires_at),
        session: true,
        origin: Some((*origin).clone()),
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by: spec.trust_set_by.clone(),
        rules: None,
    };
    let draft = TokenDraft { name: workload.token.clone(), spec: token, hash: workload.hash };
    let made = draft.into_stored(batch.next_revision(), now);
    batch.put(Arc::clone(&made));
    for ended in to_end(before, account.id(), origin, now) {
        batch.remove(ended);
    }
    Ok(Plan::of(before, batch, Some(made)))
}

/// The tokens of an account that make room for another one of this workload: expired ones, then the oldest of the workload that
/// has most. So a workload that exchanges in a loop ends its own, and those of no workload that has fewer.
fn to_end<'a>(
    before: &'a Snapshot,
    account: &Id,
    origin: &TokenOrigin,
    now: Timestamp,
) -> Vec<&'a Arc<Stored>> {
    let mut kept: Vec<(&Arc<Stored>, &TokenSpec)> = before
        .tokens_of(account)
        .filter_map(|stored| match &stored.resource.spec {
            Spec::Token(token) if token.session => Some((stored, token)),
            _ => None,
        })
        .collect();
    kept.sort_by_key(|(stored, _)| stored.resource.revision);
    let mut ended = Vec::new();
    while kept.len() >= MAX_EXCHANGED {
        let mut counts: HashMap<Option<&TokenOrigin>, usize> = HashMap::from([(Some(origin), 1)]);
        for (_, token) in &kept {
            *counts.entry(token.origin.as_ref()).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let expired = kept.iter().position(|(_, token)| token.expires_at <= now);
        let of_most = || {
            let has_most = |token: &TokenSpec| counts.get(&token.origin.as_ref()) == Some(&most);
            kept.iter().position(|(_, token)| has_most(token))
        };
        // The new one alone has most where each workload has one.
        let at = expired.or_else(of_most).unwrap_or_default();
        ended.push(kept.remove(at).0);
    }
    ended
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use mcpctl_api::{Resource, Revision};

    use super::*;

    fn origin(subject: &str) -> TokenOrigin {
        TokenOrigin { issuer: "https://ci.example.com".parse().unwrap(), subject: subject.to_owned() }
    }

    fn exchanged(world: &Snapshot, subject: &str, now: Timestamp) -> Snapshot {
        let account = "ci".parse().unwrap();
        let id = world.by_name(Kind::ServiceAccount, "ci").unwrap().id().clone();
        let token = Id::mint();
        let mut hash = [0; 32];
        hash[..25].copy_from_slice(token.as_str().as_bytes());
        let workload = Workload {
            account: &account,
            id: &id,
            origin: &origin(subject),
            audiences: &["mcpd".to_owned()],
            expires_at: now + SignedDuration::from_hours(1),
            validity: HumanDuration::from_secs(600),
            token: format!("exchange-{token}").parse().unwrap(),
            hash: hash.into(),
        };
        begin(world, &workload, now).unwrap().after
    }

    fn world() -> Snapshot {
        let trust = TrustedWorkload {
            issuer: origin("").issuer,
            audience: "mcpd".to_owned().try_into().unwrap(),
            subject: "job:*".to_owned().try_into().unwrap(),
        };
        let resource = Resource {
            id: Id::mint(),
            name: "ci".parse().unwrap(),
            labels: Default::default(),
            annotations: Default::default(),
            revision: Revision(1),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec: Spec::ServiceAccount(ServiceAccountSpec { trust: vec![trust], ..Default::default() }),
        };
        Snapshot::new(Revision(1), [Arc::new(Stored { resource, confidential: None })])
    }

    fn count(world: &Snapshot, subject: &str) -> usize {
        let of = |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Token(token) if token.origin == Some(origin(subject)));
        world.all(Kind::Token).filter(of).count()
    }

    #[test]
    fn workload_in_a_loop_ends_its_own_tokens() {
        let (mut world, now) = (world(), Timestamp::UNIX_EPOCH);
        for _ in 0..3 {
            world = exchanged(&world, "job:quiet", now);
        }
        for _ in 0..2 * MAX_EXCHANGED {
            world = exchanged(&world, "job:loop", now);
        }
        assert_eq!((count(&world, "job:quiet"), count(&world, "job:loop")), (3, MAX_EXCHANGED - 3));
        world = exchanged(&world, "job:new", now);
        assert_eq!((count(&world, "job:quiet"), count(&world, "job:new")), (3, 1));
        assert_eq!(world.all(Kind::Token).count(), MAX_EXCHANGED);
        // Expired ones make room first.
        let later = now + SignedDuration::from_mins(11);
        for _ in 0..MAX_EXCHANGED {
            world = exchanged(&world, "job:late", later);
        }
        assert_eq!(
            (count(&world, "job:late"), world.all(Kind::Token).count()),
            (MAX_EXCHANGED, MAX_EXCHANGED)
        );
        // Many workloads with one token each: the oldest ends.
        for number in 1..MAX_EXCHANGED {
            world = exchanged(&world, &format!("job:{number}"), later);
        }
        assert_eq!(world.all(Kind::Token).count(), MAX_EXCHANGED);
        assert_eq!(count(&world, "job:late"), 1);
        world = exchanged(&world, "job:last", later);
        assert_eq!((count(&world, "job:last"), count(&world, "job:late")), (1, 0));
    }
}
