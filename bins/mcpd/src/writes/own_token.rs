//! Rules for tokens that a person makes and renews for the own account without a rule that allows it.

use std::sync::Arc;

use mcpctl_access::{Denied, Stored};
use mcpctl_api::{
    HumanDuration, Name, Spec, Verb,
    spec::{Subject, TokenSpec},
};

use super::{Planner, Refusal, invalid_hint};

/// Longest validity of a token that a person makes for the own account: a token that is in use is renewed each quarter.
const MAX_OWN_VALIDITY: HumanDuration = HumanDuration::from_secs(90 * 24 * 3600);
/// Tokens of one account at which the account itself adds none, so that a person does not fill the store.
const MAX_OWN_TOKENS: usize = 64;

impl Planner<'_> {
    /// The longest validity of a new token that the actor makes for itself, where the rules deny it.
    ///
    /// # Errors
    /// The denial, unless the token is the actor's own; a name that does not begin with the account's: a free name must not show
    /// which tokens others have; too many tokens.
    pub(super) fn own_token_limit(
        &self,
        name: &Name,
        subject: &Subject,
        denied: Denied,
    ) -> Result<HumanDuration, Refusal> {
        let is_own = self.actor.subject == *subject;
        if !is_own || !self.before.may_own_token(self.actor, Verb::Create, name.as_str()) {
            return Err(denied.into());
        }
        self.check_own_credential()?;
        let account = &self.actor.subject.name;
        if !self.before.is_own_token_name(account, name.as_str()) {
            return Err(Refusal::OwnTokenName { account: account.clone() });
        }
        // With those that have expired, which are kept for a day: short ones would fill the store.
        let counts =
            |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Token(token) if !token.session);
        if self.before.tokens_of(&self.actor.id).filter(counts).count() >= MAX_OWN_TOKENS {
            return Err(invalid_hint(
                "",
                format!(
                    "{} has {MAX_OWN_TOKENS} tokens, with those that expired lately, and makes itself no more",
                    self.actor.subject
                ),
                "revoke one: `mcpctl token list` shows when each was last used",
            ));
        }
        Ok(self.own_validity())
    }

    /// The longest validity of a token that the actor renews for itself, where the rules deny it: as long as it was made for, or
    /// as a new one; with a lent credential, as long as that one was made for, whichever token is renewed.
    pub(super) fn own_renewal_limit(&self, old: &Stored, token: &TokenSpec) -> HumanDuration {
        let own = made_for(old, token).max(MAX_OWN_VALIDITY);
        self.lent_for().map_or(own, |lent| lent.min(own))
    }

    /// Refuses the old secret of a rotation, whatever rules allow: its holder would take the token over from the holder of the new one.
    pub(super) fn check_not_replaced(&self) -> Result<(), Refusal> {
        let is_replaced = self.credential().is_some_and(
            |stored| matches!(&stored.resource.spec, Spec::Token(token) if token.rotated_from.is_some()),
        );
        if is_replaced {
            return Err(invalid_hint(
                "",
                "this secret was replaced by a rotation, so it makes and renews no tokens",
                "use the new one, or ask an administrator to rotate the token again",
            ));
        }
        Ok(())
    }

    /// Refuses, of a person who signs in by a provider, everything but a session: a person who is no longer admitted there would renew
    /// tokens for ever.
    pub(super) fn check_own_credential(&self) -> Result<(), Refusal> {
        let is_linked = self.before.by_id(&self.actor.id).is_some_and(
            |stored| matches!(&stored.resource.spec, Spec::User(user) if user.external.identity().is_some()),
        );
        if is_linked && !self.has_own_session() {
            return Err(invalid_hint(
                "",
                format!(
                    "{} signs in by a provider, so only a session makes and renews its tokens",
                    self.actor.subject
                ),
                "`mcpctl login`, then again",
            ));
        }
        Ok(())
    }

    fn has_own_session(&self) -> bool {
        self.credential()
            .is_some_and(|stored| matches!(&stored.resource.spec, Spec::Token(token) if token.session))
    }

    /// The credential in use; of a session that was begun with a token, that token: it counts as if it were presented itself.
    fn credential(&self) -> Option<&Stored> {
        let mut credential = self.before.by_id(&self.actor.token)?;
        while let Spec::Token(TokenSpec { begun_with: Some(token), .. }) = &credential.resource.spec {
            credential = self.before.by_id(token)?;
        }
        Some(credential)
    }

    fn own_validity(&self) -> HumanDuration {
        self.lent_for().map_or(MAX_OWN_VALIDITY, |lent| lent.min(MAX_OWN_VALIDITY))
    }

    /// For how long the credential in use was made, where another account made it and it is no session; nothing is left of one
    /// that has ended meanwhile.
    fn lent_for(&self) -> Option<HumanDuration> {
        let Some(credential) = self.credential() else {
            return Some(HumanDuration::from_secs(0));
        };
        match &credential.resource.spec {
            Spec::Token(token) if !token.session && !token.issued_by.is_empty() => {
                Some(made_for(credential, token))
            }
            _ => None,
        }
    }
}

/// For how long a token was made.
pub(super) fn made_for(stored: &Stored, token: &TokenSpec) -> HumanDuration {
    let span = token.expires_at.duration_since(stored.resource.created_at);
    HumanDuration::from_secs(span.as_secs().max(1).unsigned_abs())
}
