//! Planning of writes: a pure step from one snapshot to a list of changes, or a refusal.
//!
//! Every rule about what may be stored is here, whichever route the write comes by. Nothing is stored here: the
//! caller commits the plan against the snapshot that it was made for, and plans again when that is no longer the latest.

mod batch;
mod llm;
pub mod secret;

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Denied, Escalation, Principal, Snapshot, Stored, builtin};
use mcpctl_api::{
    Document, Id, Kind, Name, Resource, Revision, Spec, Verb,
    question::{Applied, ApplyOutcome},
    spec::{Subject, SubjectKind},
};

use batch::Batch;

/// Seals secrets and opens them again, so that planning needs neither keys nor database.
pub trait Vault {
    /// Encrypts the data of the secret of this id.
    ///
    /// # Errors
    /// When no randomness can be had.
    fn seal(&self, id: &Id, plaintext: &[u8]) -> anyhow::Result<Vec<u8>>;
    /// Decrypts the data of a stored secret.
    ///
    /// # Errors
    /// When the data was tampered with or is sealed by a key that is not here.
    fn open(&self, stored: &Stored) -> anyhow::Result<Vec<u8>>;
}

/// One thing that somebody wants done.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Make it; there must be none of that name.
    Create(Write),
    /// Make it or change it, whichever fits.
    Apply(Write),
    /// Change what this id or name means.
    Replace {
        /// Id or name from the path.
        target: String,
        /// What it is to be.
        write: Write,
        /// The revision that it must still have.
        expected: Option<Revision>,
    },
    /// Remove it.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Id or name from the path.
        target: String,
        /// The revision that it must still have.
        expected: Option<Revision>,
    },
}

impl Intent {
    /// Verb, kind and target, for the record.
    pub fn describe(&self) -> (Verb, Kind, String) {
        let name = |write: &Write| {
            write.document.name.as_ref().map_or_else(String::new, |name| name.as_str().to_owned())
        };
        match self {
            Self::Create(write) => (Verb::Create, write.document.kind(), name(write)),
            Self::Apply(write) => (Verb::Edit, write.document.kind(), name(write)),
            Self::Replace { target, write, .. } => (Verb::Edit, write.document.kind(), target.clone()),
            Self::Delete { kind, target, .. } => (Verb::Delete, *kind, target.clone()),
        }
    }
}

/// A document ready to be stored: its password, if any, is hashed already, because that takes too long to do twice.
#[derive(Debug, Clone)]
pub struct Write {
    /// As the person wrote it, the password taken out.
    pub document: Document,
    /// PHC string of the new password.
    pub password_hash: Option<String>,
}

/// What is to be committed.
#[derive(Debug, Default)]
pub struct Plan {
    /// In order of revision, the first right after the snapshot's.
    pub changes: Vec<Change>,
    /// In the order of the intents; deletions left out.
    pub results: Vec<Applied>,
    /// The resources that the intents left, in their order; deletions left out.
    pub resources: Vec<Arc<Stored>>,
    /// What the writer should know.
    pub warnings: Vec<String>,
}

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It would hand out what the writer does not hold.
    #[error(transparent)]
    Escalation(#[from] Escalation),
    /// It breaks a rule.
    #[error("{message}")]
    Invalid {
        /// Which field.
        param: String,
        /// What is wrong.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// There is one of that name already.
    #[error("there is a {kind} `{name}` already")]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// It changed since the writer read it.
    #[error("{kind} `{name}` is at revision {actual}, not at {expected}")]
    Stale {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// What the writer saw.
        expected: Revision,
        /// What it is.
        actual: Revision,
    },
    /// Sealing or opening failed.
    #[error("a secret could not be processed")]
    Vault(#[source] anyhow::Error),
}

fn invalid(param: &str, message: impl Into<String>) -> Refusal {
    Refusal::Invalid { param: param.to_owned(), message: message.into(), hint: None }
}

fn invalid_hint(param: &str, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal::Invalid { param: param.to_owned(), message: message.into(), hint: Some(hint.into()) }
}

/// Everything that planning looks at.
pub struct Planner<'a> {
    before: &'a Snapshot,
    actor: &'a Principal,
    now: Timestamp,
    vault: &'a dyn Vault,
    batch: Batch<'a>,
    plan: Plan,
}

/// Plans all intents or refuses them all; the number is that of the intent that is refused, from 0.
///
/// # Errors
/// The first refusal.
pub fn plan(
    before: &Snapshot,
    actor: &Principal,
    now: Timestamp,
    vault: &dyn Vault,
    intents: Vec<Intent>,
) -> Result<Plan, (usize, Refusal)> {
    let mut planner = Planner { before, actor, now, vault, batch: Batch::new(before), plan: Plan::default() };
    let mut touched = Vec::new();
    for (at, intent) in intents.into_iter().enumerate() {
        let stored = match intent {
            Intent::Create(write) => planner.create(write).map(Some),
            Intent::Apply(write) => planner.apply(write).map(Some),
            Intent::Replace { target, write, expected } => {
                planner.replace(&target, write, expected).map(Some)
            }
            Intent::Delete { kind, target, expected } => {
                planner.delete(kind, &target, expected).map(|()| None)
            }
        };
        touched.push(stored.map_err(|refusal| (at, refusal))?);
    }
    // References are judged in the end, so that the order of documents in a file does not matter.
    for (at, stored) in touched.iter().enumerate() {
        if let Some(stored) = stored {
            planner.check_references(stored).map_err(|refusal| (at, refusal))?;
        }
    }
    let Planner { batch, mut plan, .. } = planner;
    plan.changes = batch.into_changes();
    let revision = plan.changes.last().map_or(before.revision(), Change::revision);
    before
        .check_escalation(&before.after(revision, plan.changes.clone()), actor)
        .map_err(|escalation| (touched.len().saturating_sub(1), escalation.into()))?;
    Ok(plan)
}

impl Planner<'_> {
    fn create(&mut self, write: Write) -> Result<Arc<Stored>, Refusal> {
        let (kind, name) = (write.document.kind(), required_name(&write.document)?);
        // Whether there is one already is told only to those who may make one.
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

    fn apply(&mut self, write: Write) -> Result<Arc<Stored>, Refusal> {
        let (kind, name) = (write.document.kind(), required_name(&write.document)?);
        match self.batch.by_name(kind, name.as_str()) {
            Some(existing) => self.change(&existing, write, None),
            None => self.create(write),
        }
    }

    fn replace(
        &mut self,
        target: &str,
        mut write: Write,
        expected: Option<Revision>,
    ) -> Result<Arc<Stored>, Refusal> {
        let kind = write.document.kind();
        if let Some(existing) = self.batch.resolve(kind, target) {
            return self.change(&existing, write, expected);
        }
        // PUT to a free name makes it; an id or an expected revision means one that is there.
        if expected.is_some() || Id::has_shape(target) {
            return Err(match self.before.authorize(self.actor, Verb::Edit, kind, target) {
                Err(denied) => denied.into(),
                Ok(_) => Refusal::Denied(Denied::NotFound { kind, target: target.to_owned() }),
            });
        }
        let name: Name = target.parse().map_err(|error| invalid("name", format!("{error}")))?;
        match &write.document.name {
            Some(said) if *said != name => {
                return Err(invalid("name", format!("the path says `{name}`, the document `{said}`")));
            }
            _ => write.document.name = Some(name),
        }
        self.create(write)
    }

    fn change(
        &mut self,
        existing: &Arc<Stored>,
        write: Write,
        expected: Option<Revision>,
    ) -> Result<Arc<Stored>, Refusal> {
        let kind = existing.kind();
        self.may(Verb::Edit, existing)?;
        for expected in [expected, write.document.revision].into_iter().flatten() {
            self.check_revision(existing, expected)?;
        }
        if write.document.id.as_ref().is_some_and(|id| id != existing.id()) {
            return Err(invalid("id", format!("`{}` has another id", existing.name()))
                .or_hint("ids do not change; leave `id` out"));
        }
        let name = write.document.name.clone().unwrap_or_else(|| existing.name().clone());
        if name != *existing.name() {
            // A rename moves the resource under other rules, so it takes the right to make one there.
            self.before.authorize_create(self.actor, kind, &name)?;
            if self.batch.by_name(kind, name.as_str()).is_some() {
                return Err(Refusal::Exists { kind, name });
            }
        }
        self.put(Some(existing), name, write)
    }

    fn delete(&mut self, kind: Kind, target: &str, expected: Option<Revision>) -> Result<(), Refusal> {
        let permit = self.before.authorize(self.actor, Verb::Delete, kind, target)?;
        let existing = Arc::clone(permit.resource());
        if let Some(expected) = expected {
            self.check_revision(&existing, expected)?;
        }
        refuse_builtin(kind, existing.name())?;
        self.batch.remove(&existing);
        // A credential does not outlive its owner.
        if matches!(kind, Kind::User | Kind::ServiceAccount) {
            let owned = |token: &&Arc<Stored>| matches!(&token.resource.spec, Spec::Token(t) if t.subject_id == *existing.id());
            for token in self.before.all(Kind::Token).filter(owned) {
                self.batch.remove(token);
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        existing: Option<&Arc<Stored>>,
        name: Name,
        write: Write,
    ) -> Result<Arc<Stored>, Refusal> {
        let Write { document, password_hash } = write;
        let kind = document.kind();
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
                confidential = Some(self.seal_secret(&id, existing, secret)?);
            }
            Spec::Llm(llm) => self.guard_credential(existing, &name, llm)?,
            Spec::User(user) => {
                user.password = None;
                if let Some(hash) = password_hash {
                    let subject = Subject { kind: SubjectKind::User, name: name.clone() };
                    self.before.check_impersonation(self.actor, &subject)?;
                    confidential = Some(Confidential::PasswordHash(hash));
                }
            }
            _ => {}
        }
        let unchanged = existing.filter(|old| {
            old.resource.spec == spec
                && old.resource.labels == document.labels
                && *old.name() == name
                && old.confidential == confidential
        });
        if let Some(old) = unchanged {
            let old = Arc::clone(old);
            self.report(&old, ApplyOutcome::Unchanged);
            return Ok(old);
        }
        let stored = Arc::new(Stored {
            resource: Resource {
                id,
                name,
                labels: document.labels,
                revision: self.batch.next_revision(),
                created_at: existing.map_or(self.now, |old| old.resource.created_at),
                updated_at: self.now,
                spec,
            },
            confidential,
        });
        self.batch.put(Arc::clone(&stored));
        let outcome = if existing.is_some() { ApplyOutcome::Configured } else { ApplyOutcome::Created };
        self.report(&stored, outcome);
        Ok(stored)
    }

    fn report(&mut self, stored: &Arc<Stored>, outcome: ApplyOutcome) {
        self.plan.results.push(Applied { kind: stored.kind(), name: stored.name().clone(), outcome });
        self.plan.resources.push(Arc::clone(stored));
    }

    /// Judged in the snapshot before the batch, so that a batch cannot give itself rights. What an earlier document of
    /// the same batch made is its maker's to change.
    fn may(&self, verb: Verb, stored: &Stored) -> Result<(), Refusal> {
        if self.before.by_id(stored.id()).is_none() {
            return Ok(());
        }
        self.before.authorize(self.actor, verb, stored.kind(), stored.id().as_str())?;
        Ok(())
    }

    fn check_revision(&self, existing: &Stored, expected: Revision) -> Result<(), Refusal> {
        let actual = existing.resource.revision;
        if actual == expected {
            return Ok(());
        }
        Err(Refusal::Stale { kind: existing.kind(), name: existing.name().clone(), expected, actual })
    }

    fn check_references(&mut self, stored: &Stored) -> Result<(), Refusal> {
        match &stored.resource.spec {
            Spec::Llm(llm) => self.check_key_exists(llm),
            Spec::RoleBinding(binding) => {
                if self.batch.by_name(Kind::Role, binding.role.as_str()).is_none() {
                    return Err(invalid_hint(
                        "role",
                        format!("there is no Role `{}`", binding.role),
                        "`mcpctl get roles` lists them",
                    ));
                }
                self.warn_of_missing(stored, &binding.subjects);
                Ok(())
            }
            Spec::Group(group) => {
                self.warn_of_missing(stored, &group.members);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Subjects may come later, but a typing error should not go unseen.
    fn warn_of_missing(&mut self, stored: &Stored, subjects: &[Subject]) {
        for subject in subjects {
            if self.batch.by_name(subject.kind.kind(), subject.name.as_str()).is_none() {
                self.plan.warnings.push(format!(
                    "{} `{}` names {subject}, which does not exist yet",
                    stored.kind(),
                    stored.name()
                ));
            }
        }
    }
}

impl Refusal {
    fn or_hint(self, text: &str) -> Self {
        match self {
            Self::Invalid { param, message, hint: None } => {
                Self::Invalid { param, message, hint: Some(text.to_owned()) }
            }
            other => other,
        }
    }
}

fn required_name(document: &Document) -> Result<Name, Refusal> {
    document.name.clone().ok_or_else(|| invalid("name", "missing field `name`"))
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
