//! Rules for writing accounts: passwords, and credentials that end with the account or password that they came from.

use std::sync::Arc;

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::{
    Id, Kind, Name, Resource, Spec,
    spec::{NewPassword, Subject, SubjectKind, TokenSpec, UserSpec},
};

use super::{Planner, Refusal, shown};

/// The hash in a plan that only decides whether a write is allowed; no password matches it.
pub(super) const NOT_HASHED: &str = "";

/// What depends on an account.
struct Dependents {
    /// Tokens that it made for others.
    tokens: usize,
    /// Passwords that it set for others.
    passwords: usize,
    /// Users that it linked to a provider, of those that the writer may view.
    linked: Vec<Name>,
    /// Service accounts whose trust it wrote, likewise.
    trusting: Vec<Name>,
    /// Llms that it attached a key to, likewise.
    llms: Vec<Name>,
}

impl Planner<'_> {
    /// Sets, removes or keeps the password. The writer needs the right for the account under its old and its new name. An
    /// account that sets the password of another is recorded as its maker.
    pub(super) fn set_password(
        &self,
        existing: Option<&Arc<Stored>>,
        name: &Name,
        user: &mut UserSpec,
        hash: Option<String>,
        current: Option<Confidential>,
    ) -> Result<Option<Confidential>, Refusal> {
        let old = existing.and_then(|stored| match &stored.resource.spec {
            Spec::User(old) => Some(old),
            _ => None,
        });
        let password = std::mem::take(&mut user.password);
        user.password_set_by = old.map(|old| old.password_set_by.clone()).unwrap_or_default();
        user.throttle_lifted_at = old.and_then(|old| old.throttle_lifted_at);
        if password.is_keep() {
            return Ok(current);
        }
        let subject = |name: &Name| Subject { kind: SubjectKind::User, name: name.clone() };
        let names = existing.map(|stored| stored.name()).into_iter().chain([name]);
        for name in names {
            self.before
                .check_credential(self.actor, &subject(name), None)
                .map_err(|escalation| shown(self.before, self.actor, escalation))?;
        }
        if password == NewPassword::Remove {
            user.password_set_by = Vec::new();
            return Ok(None);
        }
        let owner = existing.map_or(name, |stored| stored.name());
        user.password_set_by = self.before.makers(self.actor, &subject(owner));
        Ok(Some(Confidential::PasswordHash(hash.unwrap_or_else(|| NOT_HASHED.to_owned()))))
    }

    /// Ends all sessions of a user whose password changed: one of them may be the reason for the change.
    pub(super) fn account_changed(&mut self, old: &Stored, new: &Stored) {
        if old.kind() == Kind::User && old.confidential != new.confidential {
            self.end_tokens(old.id(), |token| token.session);
        }
        self.external_changed(old, new);
        // A workload that is trusted no longer is cut off at once.
        let trust = |stored: &Stored| match &stored.resource.spec {
            Spec::ServiceAccount(account) => account.trust.clone(),
            _ => Vec::new(),
        };
        if trust(old) != trust(new) {
            self.end_tokens(old.id(), |token| token.session);
        }
        let disabled = |stored: &Stored| match &stored.resource.spec {
            Spec::User(user) => user.disabled,
            Spec::ServiceAccount(account) => account.disabled,
            _ => false,
        };
        match (disabled(old), disabled(new)) {
            (false, true) => self.warn_of_dependents(old, "is disabled"),
            (true, false) => self.warn_of_regained(old),
            _ => {}
        }
    }

    /// Deletes the credentials of a deleted account.
    pub(super) fn account_deleted(&mut self, account: &Stored) {
        let tokens = self.end_tokens(account.id(), |_| true);
        if !tokens.is_empty() {
            let (count, kind, name) = (tokens.len(), account.kind(), account.name());
            self.warnings.push(format!("{count} token(s) of {kind} `{name}` are deleted too"));
        }
        self.keep_own_credential(account.id());
        self.warn_of_dependents(account, "is deleted");
    }

    /// Lets an administrator delete the account that made the credential in use: the credential loses that maker, so that
    /// it still allows what it allowed before. So do the password, the link and the trust of the administrator's account,
    /// one of which began the credential.
    fn keep_own_credential(&mut self, deleted: &Id) {
        if !self.actor.makers.contains(deleted) || !self.before.holds_everything(self.actor) {
            return;
        }
        let own = self.before.by_id(&self.actor.token).cloned();
        if let Some(own) = own.and_then(|own| self.planned(&own))
            && let Some(spec) = without_maker(&own.resource.spec, deleted)
        {
            self.replace_spec(&own, spec);
        }
        if let Some(own) = self.before.by_id(&self.actor.id).and_then(|own| self.planned(own))
            && let Some(spec) = without_maker(&own.resource.spec, deleted)
        {
            self.replace_spec(&own, spec);
        }
    }

    /// A stored resource as the batch leaves it.
    fn planned(&self, stored: &Stored) -> Option<Arc<Stored>> {
        self.batch.resolve(stored.kind(), stored.id().as_str())
    }

    pub(super) fn replace_spec(&mut self, stored: &Stored, spec: Spec) {
        let resource = Resource {
            revision: self.batch.next_revision(),
            updated_at: self.now,
            spec,
            ..stored.resource.clone()
        };
        self.batch.put(Arc::new(Stored { resource, confidential: stored.confidential.clone() }));
    }

    /// Warns of what depends on the account and is void without it.
    fn warn_of_dependents(&mut self, account: &Stored, event: &str) {
        let Dependents { tokens, passwords, linked, trusting, llms } = self.dependents(account);
        let account = format!("{} `{}`", account.kind(), account.name());
        if tokens > 0 {
            self.warnings
                .push(format!("{tokens} token(s) that {account} made for others are void while it {event}"));
        }
        if passwords > 0 {
            self.warnings.push(format!(
                "{passwords} password(s) that {account} set for others are void while it {event}: set them again"
            ));
        }
        self.warnings.extend(linked.iter().map(|user| {
            format!(
                "User `{user}` cannot sign in at its provider while {account}, who linked it, {event}: write `external` again"
            )
        }));
        self.warnings.extend(trusting.iter().map(|trusting| {
            format!(
                "the trust of ServiceAccount `{trusting}` is void while {account}, who wrote it, {event}: write `trust` again"
            )
        }));
        self.warnings.extend(llms.iter().map(|llm| {
            format!(
                "Llm `{llm}` sends no key while {account}, who attached it, {event}: write `apiKey` again"
            )
        }));
    }

    /// Warns of what depends on an account that is enabled again, and so is no longer void for it. Something else may void it still.
    fn warn_of_regained(&mut self, account: &Stored) {
        const UNLESS: &str = "unless something else voids it";
        let Dependents { tokens, passwords, linked, trusting, llms } = self.dependents(account);
        let account = format!("{} `{}`", account.kind(), account.name());
        for (count, what) in [(tokens, "token(s) that {} made"), (passwords, "password(s) that {} set")] {
            if count > 0 {
                let what = what.replace("{}", &account);
                self.warnings.push(format!("{count} {what} for others are accepted again, each {UNLESS}"));
            }
        }
        self.warnings.extend(linked.iter().map(|user| {
            format!("User `{user}`, whom {account} linked, may sign in at its provider again, {UNLESS}")
        }));
        self.warnings.extend(trusting.iter().map(|trusting| {
            format!(
                "the trust of ServiceAccount `{trusting}`, which {account} wrote, is in force again, {UNLESS}"
            )
        }));
        self.warnings.extend(
            llms.iter()
                .map(|llm| format!("Llm `{llm}` sends the key again that {account} attached, {UNLESS}")),
        );
    }

    /// What the account made for others, and the keys that it attached: both need an active account.
    fn dependents(&self, account: &Stored) -> Dependents {
        let id = account.id();
        let in_force = |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Token(token) if token.expires_at > self.now);
        let linked = self.depending_on(id, |spec| match spec {
            Spec::User(user) => {
                user.external.identity().map_or(&[], |identity| identity.linked_by.as_slice())
            }
            _ => &[],
        });
        let trusting = self.depending_on(id, |spec| match spec {
            Spec::ServiceAccount(account) => account.trust_set_by.as_slice(),
            _ => &[],
        });
        let passwords = self.depending_on(id, |spec| match spec {
            Spec::User(user) => user.password_set_by.as_slice(),
            _ => &[],
        });
        Dependents {
            tokens: self.batch.after.made_by(Kind::Token, id).filter(in_force).count(),
            passwords: passwords.len(),
            linked: self.shown(linked),
            trusting: self.shown(trusting),
            llms: self.shown(self.batch.after.made_by(Kind::Llm, id).cloned().collect()),
        }
    }

    /// The other accounts that a credential of theirs ties to `account`, as the batch leaves them.
    fn depending_on(&self, account: &Id, makers: fn(&Spec) -> &[Id]) -> Vec<Arc<Stored>> {
        let people = [Kind::User, Kind::ServiceAccount].into_iter();
        let tied = people.flat_map(|kind| self.batch.after.made_by(kind, account));
        let others = tied.filter(|stored| stored.id() != account);
        others.filter(|stored| makers(&stored.resource.spec).contains(account)).cloned().collect()
    }

    /// The names of the resources that the writer may view.
    pub(super) fn shown(&self, resources: Vec<Arc<Stored>>) -> Vec<Name> {
        resources
            .into_iter()
            .filter(|stored| self.may_view(stored))
            .map(|stored| stored.name().clone())
            .collect()
    }

    /// Deletes those tokens of an account that match, and returns them.
    pub(super) fn end_tokens(
        &mut self,
        account: &Id,
        matches: impl Fn(&TokenSpec) -> bool,
    ) -> Vec<Arc<Stored>> {
        let fits = |stored: &&Arc<Stored>| match &stored.resource.spec {
            Spec::Token(token) => matches(token),
            _ => false,
        };
        let tokens: Vec<_> = self.batch.after.tokens_of(account).filter(fits).cloned().collect();
        tokens.iter().for_each(|token| self.batch.remove(token));
        tokens
    }
}

/// A token or account without one of the accounts that made its credentials; `None` where that account made none.
fn without_maker(spec: &Spec, deleted: &Id) -> Option<Spec> {
    let mut spec = spec.clone();
    let lists: Vec<&mut Vec<Id>> = match &mut spec {
        Spec::Token(token) => vec![&mut token.issued_by],
        Spec::User(user) => {
            let linked_by = user.external.identity_mut().map(|identity| &mut identity.linked_by);
            std::iter::once(&mut user.password_set_by).chain(linked_by).collect()
        }
        Spec::ServiceAccount(account) => vec![&mut account.trust_set_by],
        _ => Vec::new(),
    };
    let mut changed = false;
    for makers in lists {
        let before = makers.len();
        makers.retain(|maker| maker != deleted);
        changed |= makers.len() != before;
    }
    changed.then_some(spec)
}
