//! Rules for writing the account at an OpenID provider that a user is linked to.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Id, Name, Spec,
    spec::{ExternalIdentity, ExternalLink, Subject, SubjectKind, TokenOrigin, UserSpec},
};

use super::{Planner, Refusal, invalid_hint};

impl Planner<'_> {
    /// Links, unlinks or keeps the external identity. The server sets its groups and links, whatever the document has, so
    /// a document that was read before changes nothing. An administrator who writes a void link again takes it over.
    pub(super) fn set_external(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        user: &mut UserSpec,
    ) -> Result<(), Refusal> {
        let stored = existing.and_then(|stored| identity(stored));
        let written = std::mem::take(&mut user.external);
        user.external = match (written, stored) {
            (ExternalLink::Keep, stored) => stored.cloned().into(),
            (ExternalLink::Remove, None) => ExternalLink::Keep,
            (ExternalLink::Set(new), Some(old)) if new.is_same_account(old) => {
                let owner = existing.map_or(name, |stored| stored.name());
                Some(self.kept_or_taken_over(owner, old)).into()
            }
            (ExternalLink::Remove, Some(_)) => {
                self.check_may_link()?;
                ExternalLink::Keep
            }
            (ExternalLink::Set(new), _) => {
                self.check_may_link()?;
                self.check_unlinked(existing, &new)?;
                let linked_by = self.linkers(existing.map_or(name, |stored| stored.name()));
                Some(ExternalIdentity { groups: Vec::new(), linked_by, ..*new }).into()
            }
        };
        Ok(())
    }

    /// The link as it is, unless an account that made it is gone or could not make it any more, and the writer can.
    fn kept_or_taken_over(&mut self, owner: &Name, old: &ExternalIdentity) -> ExternalIdentity {
        let in_force = old.linked_by.iter().all(|maker| self.before.account_holds_everything(maker));
        if in_force || !self.before.holds_everything(self.actor) {
            return old.clone();
        }
        self.warnings.push(format!(
            "an account that linked User `{owner}` to the provider is gone, disabled or no administrator, and you answer for \
             the link now"
        ));
        ExternalIdentity { linked_by: self.linkers(owner), ..old.clone() }
    }

    /// The accounts that answer for a link of this user that the writer makes.
    fn linkers(&self, owner: &Name) -> Vec<Id> {
        self.before.makers(self.actor, &Subject { kind: SubjectKind::User, name: owner.clone() })
    }

    /// The holder of the external account signs in as the user, so a link is as much as a password. Only administrators, who
    /// know both accounts, make and remove it.
    fn check_may_link(&self) -> Result<(), Refusal> {
        if self.before.holds_everything(self.actor) {
            return Ok(());
        }
        Err(invalid_hint(
            "external",
            "only an administrator links a user to an account at a provider, or removes the link",
            "leave `external` as it is",
        ))
    }

    fn check_unlinked(&self, existing: Option<&Arc<Stored>>, new: &ExternalIdentity) -> Result<(), Refusal> {
        let account = TokenOrigin { issuer: new.issuer.clone(), subject: new.subject.clone() };
        let mut linked = self.batch.after.linked_to(&account);
        match linked.find(|user| existing.is_none_or(|own| own.id() != user.id())) {
            None => Ok(()),
            Some(other) => Err(invalid_hint(
                "external",
                format!("the user `{}` is linked to this account already", other.name()),
                "remove that link first: an account at a provider is one user here",
            )),
        }
    }

    /// Ends the sessions that an account at a provider began, where it is no longer the user's.
    pub(super) fn external_changed(&mut self, old: &Stored, new: &Stored) {
        let kept = match (identity(old), identity(new)) {
            (Some(old), Some(new)) => old.is_same_account(new),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if kept {
            return;
        }
        self.end_tokens(old.id(), |token| token.origin.is_some());
    }
}

/// The external identity of a stored user.
pub(super) fn identity(stored: &Stored) -> Option<&ExternalIdentity> {
    match &stored.resource.spec {
        Spec::User(user) => user.external.identity(),
        _ => None,
    }
}
