//! Planning of writes: a pure step from one snapshot to a list of changes, or a refusal.
//!
//! Every rule about what may be stored is here, whichever route the write comes by. Nothing is stored here: the
//! caller commits the plan against the snapshot that it was made for, and plans again when that is no longer the latest.

mod batch;
mod change;
mod freed_names;
mod llm;
mod people;
mod references;
pub mod secret;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Denied, Escalation, Principal, Snapshot, Stored};
use mcpctl_api::{
    Document, Id, Kind, Name, Revision, Verb,
    question::{Applied, ApplyOutcome},
};

pub use references::shown;

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

/// A document, and the hash of its password where one was computed.
#[derive(Debug, Clone)]
pub struct Write {
    /// As the person wrote it.
    pub document: Document,
    /// PHC string of the new password. Hashing is the most expensive step, so a first plan without it decides whether
    /// the write is allowed at all; a plan with a password and without its hash must not be committed.
    pub password_hash: Option<String>,
}

impl From<Document> for Write {
    fn from(document: Document) -> Self {
        Self { document, password_hash: None }
    }
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
    /// The state that the plan leads to.
    pub after: Snapshot,
}

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It would hand out or take away rights that the writer does not hold.
    #[error(transparent)]
    Escalation(#[from] Escalation),
    /// It would leave no way to administer the installation.
    #[error("no active administrator who can sign in would be left")]
    LastAdministrator,
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
    warnings: Vec<String>,
}

/// What became of one intent: the resource that it left and how it changed; `None` for a deletion.
type Planned = Option<(Arc<Stored>, ApplyOutcome)>;

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
    let mut planner = Planner { before, actor, now, vault, batch: Batch::new(before), warnings: Vec::new() };
    let mut planned: Vec<(usize, Planned)> = Vec::with_capacity(intents.len());
    // Secrets first, whatever their place in a file, so that references find the ids that this batch gives them.
    let (secrets, others): (Vec<_>, Vec<_>) =
        intents.into_iter().enumerate().partition(|(_, intent)| intent.describe().1 == Kind::Secret);
    for (at, intent) in secrets.into_iter().chain(others) {
        let done = match intent {
            Intent::Create(write) => planner.create(write).map(Some),
            Intent::Apply(write) => planner.apply(write).map(Some),
            Intent::Replace { target, write, expected } => {
                planner.replace(&target, write, expected).map(Some)
            }
            Intent::Delete { kind, target, expected } => {
                planner.delete(kind, &target, expected).map(|()| None)
            }
        };
        planned.push((at, done.map_err(|refusal| (at, refusal))?));
    }
    planned.sort_by_key(|(at, _)| *at);
    // References are judged in the end, so that the order of documents in a file does not matter.
    for (at, done) in &planned {
        if let Some((stored, _)) = done {
            planner.check_references(stored).map_err(|refusal| (*at, refusal))?;
        }
    }
    let last = planned.len().saturating_sub(1);
    let Planner { batch, warnings, .. } = planner;
    let changes = batch.into_changes();
    let revision = changes.last().map_or(before.revision(), Change::revision);
    let after = before.after(revision, changes.clone());
    check_outcome(before, &after, actor, now, &changes).map_err(|refusal| (last, refusal))?;
    let (mut results, mut resources) = (Vec::new(), Vec::new());
    for (stored, outcome) in planned.into_iter().filter_map(|(_, done)| done) {
        results.push(Applied { kind: stored.kind(), name: stored.name().clone(), outcome });
        resources.push(stored);
    }
    Ok(Plan { changes, results, resources, warnings, after })
}

/// What only the whole step shows: rights that it hands out or takes away, and the last administrator.
fn check_outcome(
    before: &Snapshot,
    after: &Snapshot,
    actor: &Principal,
    now: Timestamp,
    changes: &[Change],
) -> Result<(), Refusal> {
    // Llms and secrets change neither rights nor accounts.
    if changes.iter().all(|change| matches!(change.kind(), Kind::Llm | Kind::Secret)) {
        return Ok(());
    }
    before.check_step(after, actor).map_err(|escalation| shown(before, actor, escalation))?;
    if before.has_administrator(now) && !after.has_administrator(now) {
        return Err(Refusal::LastAdministrator);
    }
    Ok(())
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
