//! Rules for rotating a token: a new secret for the same account and the same rules, by an account that may make such a token.

use std::sync::Arc;

use jiff::SignedDuration;
use mcpctl_access::{Confidential, Denied, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Resource, Revision, Spec, Verb, question::ApplyOutcome, spec::TokenSpec,
};
use mcpctl_secret::token::TokenHash;

use super::{
    Planner, Refusal,
    change::check_revision,
    invalid, invalid_hint,
    own_token::made_for,
    shown,
    token::{MAX_VALIDITY, check_validity, expiry},
};

/// How long the old secret may stay valid.
const MAX_GRACE: HumanDuration = HumanDuration::from_secs(7 * 24 * 3600);

/// A rotation that a caller asks for.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Id or name of the token.
    pub target: String,
    /// The revision that the token must still have.
    pub expected: Option<Revision>,
    /// How long the old secret stays valid; it ends at once where left out.
    pub grace: Option<HumanDuration>,
    /// How long the new secret is valid; as long as the old one was made for where left out.
    pub expires_in: Option<HumanDuration>,
    /// The hash of the new secret.
    pub hash: TokenHash,
    /// Its first characters.
    pub prefix: String,
}

impl Planner<'_> {
    /// The token keeps its id, name, account and rules. Older secrets that an earlier rotation kept end. Its maker is the actor from then on, so that a rotation takes over a
    /// token whose maker is gone. During the grace period the old secret is a token of its own, which expires.
    pub(super) fn rotate_token(
        &mut self,
        rotation: Rotation,
    ) -> Result<(Arc<Stored>, ApplyOutcome), Refusal> {
        let Rotation { target, expected, grace, expires_in, hash, prefix } = rotation;
        let existing = self.batch.resolve(Kind::Token, &target);
        let name = existing.as_ref().map_or(target.as_str(), |stored| stored.name().as_str());
        let by_rule = self.before.authorize_name(self.actor, Verb::Create, Kind::Token, name).is_ok();
        if !by_rule && self.before.own_token(self.actor, Verb::Create, &target).is_none() {
            return Err(self.before.forbidden(self.actor, Verb::Create, Kind::Token, &target).into());
        }
        self.check_not_replaced()?;
        if !by_rule {
            self.check_own_credential()?;
        }
        let missing = || {
            // An id shows nothing but to those who may make every token; a free name shows by making it.
            match self.before.authorize_all(self.actor, Verb::Create, Kind::Token) {
                Err(_) if Id::has_shape(&target) => {
                    self.before.forbidden(self.actor, Verb::Create, Kind::Token, &target)
                }
                _ => Denied::NotFound { kind: Kind::Token, target: target.clone() },
            }
        };
        let existing = existing.ok_or_else(missing)?;
        let Spec::Token(old) = &existing.resource.spec else { return Err(missing().into()) };
        if let Some(expected) = expected {
            check_revision(&existing, expected)?;
        }
        self.before
            .check_rotation(self.actor, old)
            .map_err(|escalation| shown(self.before, self.actor, escalation))?;
        if old.session {
            return Err(invalid_hint(
                "",
                "a session is renewed by signing in",
                "`mcpctl login` begins a new one",
            ));
        }
        if grace.is_some_and(|grace| grace > MAX_GRACE) {
            return Err(invalid("grace", format!("the old secret is good for at most {MAX_GRACE} longer")));
        }
        let validity = expires_in.unwrap_or_else(|| made_for(&existing, old));
        check_validity(
            validity,
            if by_rule { MAX_VALIDITY } else { self.own_renewal_limit(&existing, old) },
        )?;
        self.end_what_came_of(existing.id(), &old.subject_id);
        let spec = TokenSpec {
            issued_by: self.before.makers(self.actor, &self.before.owner_of(old)),
            expires_at: expiry(self.now, validity),
            prefix: Some(prefix),
            ..old.clone()
        };
        let resource = Resource {
            revision: self.batch.next_revision(),
            // A new secret: its age and its lifetime count from now.
            created_at: self.now,
            updated_at: self.now,
            spec: Spec::Token(spec),
            ..existing.resource.clone()
        };
        let confidential = Some(Confidential::TokenHash(*hash.as_bytes()));
        let rotated = Arc::new(Stored { resource, confidential });
        self.batch.put(Arc::clone(&rotated));
        self.rotated.push(rotated.id().clone());
        if let Some(grace) = grace.filter(|grace| !grace.is_zero()) {
            self.keep_for(&existing, old, grace)?;
        }
        Ok((rotated, ApplyOutcome::Configured))
    }

    /// Deletes the sessions that were begun with a token, and the tokens that are old secrets of it: an account that deletes or
    /// rotates it means all of them.
    pub(super) fn end_what_came_of(&mut self, token: &Id, account: &Id) {
        for session in self.end_tokens(account, |session| session.begun_with.as_ref() == Some(token)) {
            self.warnings.push(format!("the session `{}` ends too", session.name()));
        }
        for old in self.end_tokens(account, |old| old.rotated_from.as_ref() == Some(token)) {
            self.warnings.push(format!("the old secret `{}` ends too", old.name()));
        }
    }

    /// Keeps the old secret as a token of its own, never for longer than it was valid.
    fn keep_for(&mut self, existing: &Stored, old: &TokenSpec, grace: HumanDuration) -> Result<(), Refusal> {
        let expires_at = expiry(self.now, grace).min(old.expires_at);
        if expires_at.duration_since(self.now) <= SignedDuration::ZERO {
            return Ok(());
        }
        let id = Id::mint();
        let resource = Resource {
            name: old_name(existing.name(), &id)?,
            id,
            revision: self.batch.next_revision(),
            updated_at: self.now,
            spec: Spec::Token(TokenSpec {
                expires_at,
                rotated_from: Some(existing.id().clone()),
                ..old.clone()
            }),
            ..existing.resource.clone()
        };
        let confidential = existing.confidential.clone();
        self.batch.put(Arc::new(Stored { resource, confidential }));
        Ok(())
    }
}

/// `NAME-old-` and the end of its id, which nothing else is called.
fn old_name(name: &Name, id: &Id) -> Result<Name, Refusal> {
    const SUFFIX_CHARS: usize = 13;
    let id = id.as_str();
    let unique = id.get(id.len().saturating_sub(8)..).unwrap_or(id);
    let stem: String = name.as_str().chars().take(Name::MAX_LENGTH - SUFFIX_CHARS).collect();
    format!("{stem}-old-{unique}").parse().map_err(|error| invalid("name", format!("{error}")))
}
