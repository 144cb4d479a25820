//! Rules for a person who changes the own password, and for the attempts to sign in with one. An administrator writes another's with
//! the user's document.

use std::sync::Arc;

use mcpctl_access::{Confidential, Denied, Stored, verb::Edit};
use mcpctl_api::{
    Kind, Resource, Spec, Verb,
    question::ApplyOutcome,
    spec::{SecretValue, TokenSpec, UserSpec},
};

use super::{Planner, Refusal, people::NOT_HASHED};

/// A new password of the caller, whose present one was verified.
#[derive(Debug, Clone)]
pub struct OwnPassword {
    /// The hash that the present password was verified with.
    pub verified: String,
    /// The new one.
    pub new: SecretValue,
    /// Its hash, once it is computed. A plan without it must not be committed.
    pub hash: Option<String>,
}

impl Planner<'_> {
    /// Takes no rule, because the present password was right. Other sessions end: one of them may be the reason for the change.
    /// The accounts that cap the credential in use cap the new password too.
    pub(super) fn change_own_password(
        &mut self,
        change: OwnPassword,
    ) -> Result<(Arc<Stored>, ApplyOutcome), Refusal> {
        // A narrowed credential would end its narrowing by it.
        self.before.check_credential(self.actor, &self.actor.subject, None)?;
        let verified = Some(Confidential::PasswordHash(change.verified));
        let user = self.before.by_id(&self.actor.id).filter(|user| user.confidential == verified);
        let user = Arc::clone(user.ok_or(Refusal::PasswordMoved)?);
        let Spec::User(spec) = &user.resource.spec else { return Err(Refusal::PasswordMoved) };
        let password_set_by = self.before.makers(self.actor, &self.actor.subject);
        let hash = change.hash.unwrap_or_else(|| NOT_HASHED.to_owned());
        let changed = self.put_user(
            &user,
            UserSpec { password_set_by, ..spec.clone() },
            Some(Confidential::PasswordHash(hash)),
        );
        let in_use = &self.actor.token;
        let others = |stored: &&Arc<Stored>| {
            matches!(&stored.resource.spec, Spec::Token(TokenSpec { session: true, .. }))
                && stored.id() != in_use
        };
        let ended: Vec<_> = self.batch.after.tokens_of(user.id()).filter(others).cloned().collect();
        ended.iter().for_each(|session| self.batch.remove(session));
        Ok((changed, ApplyOutcome::Configured))
    }

    /// Lets attempts to sign in as this user count anew, for a writer who may edit the user; of an account that
    /// may do everything, for another such.
    pub(super) fn lift_throttle(&mut self, target: &str) -> Result<(Arc<Stored>, ApplyOutcome), Refusal> {
        let user = self.before.authorize::<Edit>(self.actor, Kind::User, target)?.into_resource();
        let Spec::User(spec) = &user.resource.spec else {
            return Err(Denied::NotFound { kind: Kind::User, target: target.to_owned() }.into());
        };
        // Otherwise the right to edit people would be one to guess administrators' passwords without end.
        if self.before.account_holds_everything(user.id()) && !self.before.holds_everything(self.actor) {
            return Err(self.before.forbidden(self.actor, Verb::Edit, Kind::User, target).into());
        }
        let spec = UserSpec { throttle_lifted_at: Some(self.now), ..spec.clone() };
        let changed = self.put_user(&user, spec, user.confidential.clone());
        Ok((changed, ApplyOutcome::Configured))
    }

    fn put_user(&mut self, user: &Stored, spec: UserSpec, confidential: Option<Confidential>) -> Arc<Stored> {
        let resource = Resource {
            revision: self.batch.next_revision(),
            updated_at: self.now,
            spec: Spec::User(spec),
            ..user.resource.clone()
        };
        let changed = Arc::new(Stored { resource, confidential });
        self.batch.put(Arc::clone(&changed));
        changed
    }
}
