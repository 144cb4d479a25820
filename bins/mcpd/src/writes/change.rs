//! Plans to create, change or delete one resource: the rights that this takes, and refusals that show nothing to a writer
//! without them.

use std::sync::Arc;

use mcpctl_access::{
    Denied, Stored, builtin,
    verb::{Delete, Edit},
};
use mcpctl_api::{Document, Id, Kind, Name, Resource, Revision, Spec, Verb, question::ApplyOutcome};

use super::{Planner, Refusal, Write, invalid, invalid_hint, shown};

/// The resource that an intent left, and how it changed.
type Written = Result<(Arc<Stored>, ApplyOutcome), Refusal>;

impl Planner<'_> {
    pub(super) fn create(&mut self, write: Write) -> Written {
        let (kind, name) = (write.document.kind(), required_name(&write.document)?);
        // Only a writer that may create the resource learns whether it exists.
        self.before.authorize_create(self.actor, kind, &name)?;
        if self.batch.by_name(kind, name.as_str()).is_some() {
            return Err(Refusal::Exists { kind, name });
        }
        if let Some(revision) = write.document.revision {
            return Err(invalid(
                "revision",
                format!("`{name}` does not exist, so it cannot be at revision {revision}"),
            ));
        }
        if write.document.id.is_some() {
            return Err(
                invalid("id", "ids are made by the server").or_hint("leave `id` out to make a new resource")
            );
        }
        self.put(None, name, write)
    }

    pub(super) fn apply(&mut self, write: Write) -> Written {
        let (kind, name) = (write.document.kind(), required_name(&write.document)?);
        match self.batch.by_name(kind, name.as_str()) {
            Some(existing) => self.change(&existing, name.as_str(), write, None),
            None => {
                self.authorize_new(kind, name.as_str())?;
                self.create(write)
            }
        }
    }

    pub(super) fn replace(&mut self, target: &str, mut write: Write, expected: Option<Revision>) -> Written {
        let kind = write.document.kind();
        if let Some(existing) = self.batch.resolve(kind, target) {
            return self.change(&existing, target, write, expected);
        }
        // PUT to a free name creates the resource; an id or an expected revision means an existing one.
        if expected.is_some() || Id::has_shape(target) {
            return Err(match self.before.authorize::<Edit>(self.actor, kind, target) {
                Err(denied) => denied.into(),
                Ok(_) => Refusal::Denied(Denied::NotFound { kind, target: target.to_owned() }),
            });
        }
        self.authorize_new(kind, target)?;
        let name: Name = target.parse().map_err(|error| invalid("name", format!("{error}")))?;
        match &write.document.name {
            Some(written) if *written != name => {
                return Err(invalid("name", format!("the path has `{name}`, the document `{written}`")));
            }
            _ => write.document.name = Some(name),
        }
        self.create(write)
    }

    fn change(
        &mut self,
        existing: &Arc<Stored>,
        target: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> Written {
        let kind = existing.kind();
        self.may_edit(existing, target)?;
        for expected in [expected, write.document.revision].into_iter().flatten() {
            check_revision(existing, expected)?;
        }
        if write.document.id.as_ref().is_some_and(|id| id != existing.id()) {
            return Err(invalid("id", format!("`{target}` has another id"))
                .or_hint("ids do not change; leave `id` out"));
        }
        let name = write.document.name.clone().unwrap_or_else(|| existing.name().clone());
        if name != *existing.name() {
            self.authorize_rename(existing, &name)?;
            if self.batch.by_name(kind, name.as_str()).is_some() {
                return Err(Refusal::Exists { kind, name });
            }
        }
        self.put(Some(existing), name, write)
    }

    pub(super) fn delete(
        &mut self,
        kind: Kind,
        target: &str,
        expected: Option<Revision>,
    ) -> Result<(), Refusal> {
        let own = match kind {
            Kind::Token => self.before.own_token(self.actor, Verb::Delete, target).map(Arc::clone),
            _ => None,
        };
        let existing = match own {
            Some(own) => own,
            None => self.before.authorize::<Delete>(self.actor, kind, target)?.into_resource(),
        };
        if let Some(expected) = expected {
            check_revision(&existing, expected)?;
        }
        refuse_builtin(kind, existing.name())?;
        if let Spec::Token(token) = &existing.resource.spec {
            self.before
                .check_revocation(self.actor, token, self.now)
                .map_err(|escalation| shown(self.before, self.actor, escalation))?;
        }
        self.batch.remove(&existing);
        match kind {
            Kind::User | Kind::ServiceAccount => self.account_deleted(&existing),
            Kind::Secret => self.secret_unbound(&existing),
            _ => {}
        }
        if let Spec::Token(token) = &existing.resource.spec {
            self.end_what_came_of(existing.id(), &token.subject_id);
        }
        self.name_freed(&existing);
        Ok(())
    }

    fn put(&mut self, existing: Option<&Arc<Stored>>, name: Name, write: Write) -> Written {
        let Write { document, password_hash } = write;
        let kind = document.kind();
        if !name.suits(kind) {
            return Err(invalid_hint(
                "name",
                format!("`{name}` is an e-mail address, and only a user's name may be one"),
                "choose another name",
            ));
        }
        if let Some(existing) = existing.filter(|existing| is_as_built_in(existing, &name, &document)) {
            return Ok((Arc::clone(existing), ApplyOutcome::Unchanged));
        }
        refuse_builtin(kind, &name)?;
        if let Some(existing) = existing {
            refuse_builtin(kind, existing.name())?;
        }
        if kind == Kind::Token {
            return Err(invalid_hint(
                "kind",
                "tokens cannot be written",
                "make one with `mcpctl create token NAME --for KIND/NAME`",
            ));
        }
        let id = existing.map_or_else(Id::mint, |stored| stored.id().clone());
        let mut spec = document.spec;
        let mut confidential = existing.and_then(|stored| stored.confidential.clone());
        match &mut spec {
            Spec::Secret(secret) => {
                confidential = Some(self.seal_secret(&id, existing, &name, secret)?);
            }
            Spec::Llm(llm) => {
                self.guard_capture(existing, &name, llm)?;
                self.guard_credentials(existing, &name, llm)?;
            }
            Spec::User(user) => {
                confidential = self.set_password(existing, &name, user, password_hash, confidential)?;
                self.set_external(existing, &name, user)?;
            }
            Spec::ServiceAccount(account) => self.set_trust(existing, &name, account)?,
            _ => {}
        }
        let unchanged = existing.filter(|old| {
            old.resource.spec == spec
                && old.resource.labels == document.labels
                && old.resource.annotations == document.annotations
                && *old.name() == name
                && old.confidential == confidential
        });
        if let Some(old) = unchanged {
            return Ok((Arc::clone(old), ApplyOutcome::Unchanged));
        }
        let stored = Arc::new(Stored {
            resource: Resource {
                id,
                name,
                labels: document.labels,
                annotations: document.annotations,
                revision: self.batch.next_revision(),
                created_at: existing.map_or(self.now, |old| old.resource.created_at),
                updated_at: self.now,
                spec,
            },
            confidential,
        });
        self.batch.put(Arc::clone(&stored));
        match existing {
            Some(old) => {
                self.warn_of_loosened_failover(old, &stored);
                self.account_changed(old, &stored);
                self.name_changed(old, stored.name());
            }
            None => self.warn_of_awaited(&stored),
        }
        let outcome = if existing.is_some() { ApplyOutcome::Configured } else { ApplyOutcome::Created };
        Ok((stored, outcome))
    }

    /// Decided in the snapshot before the batch, so that a batch cannot grant itself rights. The writer may change what an
    /// earlier document of the same batch created.
    fn may_edit(&self, stored: &Stored, target: &str) -> Result<(), Refusal> {
        if self.before.by_id(stored.id()).is_none() {
            return Ok(());
        }
        let (kind, name) = (stored.kind(), stored.name().as_str());
        // Decided by name; the denial repeats the target of the request, so that an id does not reveal a name, nor the
        // reverse.
        match self.before.authorize_name(self.actor, Verb::Edit, kind, name) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.before.forbidden(self.actor, Verb::Edit, kind, target).into()),
        }
    }

    /// Authorizes the creation of a resource that does not exist. A writer with neither `edit` nor `create` gets the denial
    /// of an existing resource.
    fn authorize_new(&self, kind: Kind, target: &str) -> Result<(), Refusal> {
        let may = |verb| self.before.authorize_name(self.actor, verb, kind, target).is_ok();
        let verb = match (may(Verb::Create), may(Verb::Edit)) {
            (true, _) => return Ok(()),
            (false, true) => Verb::Create,
            (false, false) => Verb::Edit,
        };
        Err(self.before.forbidden(self.actor, verb, kind, target).into())
    }

    /// A rename deletes one resource and creates another, and brings its content under the rules of the new name. So it
    /// takes the rights to do both, and to `use` the secret, or the secret of an Llm's key.
    fn authorize_rename(&self, existing: &Stored, name: &Name) -> Result<(), Refusal> {
        let (kind, old) = (existing.kind(), existing.name().as_str());
        self.before.authorize_create(self.actor, kind, name)?;
        self.before.authorize_name(self.actor, Verb::Delete, kind, old)?;
        match &existing.resource.spec {
            Spec::Secret(_) => self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, old)?,
            Spec::Llm(llm) => {
                for key in llm.upstreams().filter_map(|upstream| upstream.api_key) {
                    self.before.authorize_name(self.actor, Verb::Use, Kind::Secret, key.secret.as_str())?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn check_revision(existing: &Stored, expected: Revision) -> Result<(), Refusal> {
    let actual = existing.resource.revision;
    if actual == expected {
        return Ok(());
    }
    Err(Refusal::Stale { kind: existing.kind(), name: existing.name().clone(), expected, actual })
}

fn required_name(document: &Document) -> Result<Name, Refusal> {
    document.name.clone().ok_or_else(|| invalid("name", "missing field `name`"))
}

/// Whether a document has a built-in role as it is, as in a file of everything that there is.
fn is_as_built_in(existing: &Stored, name: &Name, document: &Document) -> bool {
    let Resource { spec, labels, annotations, .. } = &existing.resource;
    refuse_builtin(existing.kind(), existing.name()).is_err()
        && existing.name() == name
        && (spec, labels, annotations) == (&document.spec, &document.labels, &document.annotations)
}

fn refuse_builtin(kind: Kind, name: &Name) -> Result<(), Refusal> {
    if kind == Kind::Role && builtin::is_builtin(name.as_str()) {
        return Err(invalid_hint(
            "name",
            format!("the role `{name}` is built in and cannot be changed"),
            "make a role of another name",
        ));
    }
    Ok(())
}
