//! Rules for tokens: a caller makes one for itself or another account, and ends its own session.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Confidential, Narrowing, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Resource, Revision, Spec,
    question::{ApplyOutcome, IssuedToken},
    spec::{Rule, SecretValue, Subject, SubjectKind, TokenSpec},
};
use mcpctl_secret::token::{MintedToken, TokenHash};

use super::{Planner, Refusal, invalid, invalid_hint, shown};

/// INVARIANT 15: a token without `expiresIn` expires all the same.
const DEFAULT_VALIDITY: HumanDuration = HumanDuration::from_secs(30 * 24 * 3600);
/// A year, so that a yearly renewal never comes too late.
pub(super) const MAX_VALIDITY: HumanDuration = HumanDuration::from_secs(366 * 24 * 3600);

/// A token that a caller asks for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The token's name.
    pub name: Name,
    /// The account that the token stands for.
    pub subject: Subject,
    /// How long the token is valid; 30 days by default.
    pub expires_in: Option<HumanDuration>,
    /// What the token is narrowed to. Left out, it gets the rules of the token that makes it, if that is narrowed.
    pub rules: Option<Vec<Rule>>,
    /// The hash of the minted token.
    pub hash: TokenHash,
    /// Its first characters.
    pub prefix: String,
}

/// A token that is about to be stored.
pub(super) struct TokenDraft {
    pub(super) name: Name,
    pub(super) spec: TokenSpec,
    pub(super) hash: TokenHash,
}

impl TokenDraft {
    pub(super) fn into_stored(self, revision: Revision, now: Timestamp) -> Arc<Stored> {
        let resource = Resource {
            id: Id::mint(),
            name: self.name,
            labels: Default::default(),
            annotations: Default::default(),
            revision,
            created_at: now,
            updated_at: now,
            spec: Spec::Token(self.spec),
        };
        Arc::new(Stored { resource, confidential: Some(Confidential::TokenHash(*self.hash.as_bytes())) })
    }
}

/// The response that shows a new token; the only one that ever contains it. `None` if the resource is no token.
pub fn issued(stored: &Stored, minted: &MintedToken) -> Option<IssuedToken> {
    let Spec::Token(spec) = &stored.resource.spec else { return None };
    Some(IssuedToken {
        id: stored.id().clone(),
        name: stored.name().clone(),
        subject: spec.subject.clone(),
        expires_at: spec.expires_at,
        token: SecretValue::new(minted.expose()),
        rules: spec.rules.clone(),
        warnings: Vec::new(),
    })
}

/// The time after `validity`; the end of time if that is later.
pub(super) fn expiry(now: Timestamp, validity: HumanDuration) -> Timestamp {
    let span = SignedDuration::try_from(validity.0).unwrap_or(SignedDuration::MAX);
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Rejects a validity of nothing, and one that is longer than `max`.
pub(super) fn check_validity(validity: HumanDuration, max: HumanDuration) -> Result<(), Refusal> {
    if validity.is_zero() || validity > max {
        let message = format!("a token is good for more than nothing and at most {max}");
        return Err(invalid("expiresIn", message));
    }
    Ok(())
}

impl Planner<'_> {
    pub(super) fn issue_token(&mut self, token: NewToken) -> Result<(Arc<Stored>, ApplyOutcome), Refusal> {
        let NewToken { name, subject, expires_in, rules, hash, prefix } = token;
        if subject.kind == SubjectKind::Group {
            return Err(invalid("subject.kind", "a token stands for a User or a ServiceAccount"));
        }
        let max = match self.before.authorize_create(self.actor, Kind::Token, &name) {
            Ok(()) => MAX_VALIDITY,
            Err(denied) => self.own_token_limit(&name, &subject, denied)?,
        };
        self.check_not_replaced()?;
        let validity = expires_in.unwrap_or_else(|| DEFAULT_VALIDITY.min(max));
        check_validity(validity, max)?;
        let rules = rules.or_else(|| self.own_rules());
        if let Some(rules) = &rules {
            TokenSpec::check_rules(rules).map_err(|error| Refusal::from_field(&error))?;
        }
        let narrowing = rules.as_deref().map(Narrowing::new);
        // Before the subject is resolved: only those who may make credentials for it learn whether it exists.
        self.before
            .check_credential(self.actor, &subject, narrowing.as_ref())
            .map_err(|escalation| shown(self.before, self.actor, escalation))?;
        if self.batch.by_name(Kind::Token, name.as_str()).is_some() {
            return Err(Refusal::Exists { kind: Kind::Token, name });
        }
        let owner = self
            .batch
            .by_name(subject.kind.kind(), subject.name.as_str())
            .ok_or_else(|| invalid("subject.name", format!("there is no {subject}")))?;
        let spec = TokenSpec {
            issued_by: self.before.makers(self.actor, &subject),
            subject,
            subject_id: owner.id().clone(),
            expires_at: expiry(self.now, validity),
            session: false,
            rules,
            origin: None,
            rotated_from: None,
            begun_with: None,
            prefix: Some(prefix),
        };
        let stored = TokenDraft { name, spec, hash }.into_stored(self.batch.next_revision(), self.now);
        self.batch.put(Arc::clone(&stored));
        Ok((stored, ApplyOutcome::Created))
    }

    /// The rules that the actor's own token is narrowed to.
    fn own_rules(&self) -> Option<Vec<Rule>> {
        match &self.before.by_id(&self.actor.token)?.resource.spec {
            Spec::Token(token) => token.rules.clone(),
            _ => None,
        }
    }

    /// Every caller may end its own session, without the right to delete tokens.
    pub(super) fn end_session(&mut self) -> Result<(), Refusal> {
        if !self.actor.session {
            return Err(invalid_hint(
                "",
                "this token was not made by a login, so it does not end with a logout",
                "delete it with `mcpctl delete token NAME`",
            ));
        }
        if let Some(session) = self.before.by_id(&self.actor.token) {
            self.batch.remove(session);
        }
        Ok(())
    }
}
