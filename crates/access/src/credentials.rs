//! Who may revoke or renew a stored token, and enable an account: what a write checks, and what a page asks before it offers the write.

use jiff::Timestamp;
use mcpctl_api::{
    Kind, Spec, Verb,
    spec::{Subject, TokenSpec},
};

use crate::{Escalation, Narrowing, Principal, Snapshot, Stored};

impl Snapshot {
    /// The account of a token under its name of now: found by id, because it may have been renamed.
    pub fn owner_of(&self, token: &TokenSpec) -> Subject {
        let name = self.by_id(&token.subject_id).map_or(&token.subject.name, |owner| owner.name());
        Subject { name: name.clone(), kind: token.subject.kind }
    }

    /// As [`Self::check_withdrawal`], of a stored token; one that has expired takes nothing away.
    ///
    /// # Errors
    /// As [`Self::check_withdrawal`].
    pub fn check_revocation(
        &self,
        actor: &Principal,
        token: &TokenSpec,
        now: Timestamp,
    ) -> Result<(), Escalation> {
        if token.expires_at <= now {
            return Ok(());
        }
        let narrowing = token.rules.as_deref().map(Narrowing::new);
        self.check_withdrawal(actor, &self.owner_of(token), narrowing.as_ref())
    }

    /// Whether `actor` may give a stored token a new secret: make such a token for its account, and end the old secret.
    ///
    /// # Errors
    /// As [`Self::check_credential`] and [`Self::check_withdrawal`].
    pub fn check_rotation(&self, actor: &Principal, token: &TokenSpec) -> Result<(), Escalation> {
        let (owner, narrowing) = (self.owner_of(token), token.rules.as_deref().map(Narrowing::new));
        self.check_credential(actor, &owner, narrowing.as_ref())?;
        self.check_withdrawal(actor, &owner, narrowing.as_ref())
    }

    /// Whether the principal may revoke this token: one of its own, or one that a rule lets it delete, within what it may take away.
    pub fn may_revoke_token(&self, principal: &Principal, token: &Stored, now: Timestamp) -> bool {
        let may_delete = self.own_token(principal, Verb::Delete, token.id().as_str()).is_some()
            || self.authorize_name(principal, Verb::Delete, Kind::Token, token.name().as_str()).is_ok();
        match &token.resource.spec {
            Spec::Token(spec) => may_delete && self.check_revocation(principal, spec, now).is_ok(),
            _ => false,
        }
    }

    /// Whether the principal may give this token a new secret, as far as its rights decide that.
    pub fn may_rotate_token(&self, principal: &Principal, token: &Stored) -> bool {
        let may_make = self.own_token(principal, Verb::Create, token.id().as_str()).is_some()
            || self.authorize_name(principal, Verb::Create, Kind::Token, token.name().as_str()).is_ok();
        match &token.resource.spec {
            Spec::Token(spec) => may_make && !spec.session && self.check_rotation(principal, spec).is_ok(),
            _ => false,
        }
    }

    /// Whether the principal may disable this account, or enable it where it is disabled.
    pub fn may_switch_account(&self, principal: &Principal, account: &Subject) -> bool {
        let kind = account.kind.kind();
        let may_edit = self.authorize_name(principal, Verb::Edit, kind, account.name.as_str()).is_ok();
        let step = match self.is_active(account) {
            true => self.check_withdrawal(principal, account, None),
            false => self.check_gain(principal, account, &[], &self.rights_of(account)),
        };
        may_edit && step.is_ok()
    }
}
