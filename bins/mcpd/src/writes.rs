//! Plans writes: a pure step from a snapshot to a list of changes, or a refusal.
//!
//! Every rule about what may be stored is here: for callers ([`plan`]), for a login ([`session`]), and for mcpd itself
//! ([`first_start`], [`expired_tokens`]). Nothing is stored here; `crate::commit` commits a plan on the snapshot that it was
//! made on, and plans again if another writer was first.

mod batch;
mod change;
pub mod exchange;
pub mod expired_tokens;
mod external;
mod failover;
pub mod fallbacks;
pub mod first_start;
mod freed_names;
mod llm;
mod own_token;
pub mod password;
mod people;
mod references;
pub mod rotation;
pub mod secret;
pub mod session;
pub mod sign_on;
#[cfg(test)]
mod tests;
pub mod token;

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Denied, Escalation, Principal, Snapshot, Stored};
use mcpctl_api::{
    Document, Id, Kind, Name, Revision, Verb,
    question::{Applied, ApplyOutcome},
    spec::FieldError,
};

pub use references::shown;

use batch::Batch;
use password::OwnPassword;
use rotation::Rotation;
use token::NewToken;

/// Seals secrets and opens them again, so that planning needs neither keys nor database.
pub trait Vault {
    /// Encrypts the data of the secret of this id.
    ///
    /// # Errors
    /// When the system has no randomness.
    fn seal(&self, id: &Id, plaintext: &[u8]) -> anyhow::Result<Vec<u8>>;
    /// Decrypts the data of a stored secret.
    ///
    /// # Errors
    /// When the data was tampered with, or is sealed with an unknown key.
    fn open(&self, stored: &Stored) -> anyhow::Result<Vec<u8>>;
}

/// A write that a caller asks for.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Create a resource; none of that name may exist.
    Create(Write),
    /// Create the resource, or change it if it exists.
    Apply(Write),
    /// Change the resource of this id or name.
    Replace {
        /// Id or name from the path.
        target: String,
        /// The new document.
        write: Write,
        /// The revision that the resource must still have.
        expected: Option<Revision>,
    },
    /// Delete the resource of this id or name.
    Delete {
        /// The resource's kind.
        kind: Kind,
        /// Id or name from the path.
        target: String,
        /// The revision that the resource must still have.
        expected: Option<Revision>,
    },
    /// Create a token.
    IssueToken(NewToken),
    /// Give a token a new secret.
    RotateToken(Rotation),
    /// Change the caller's own password.
    ChangePassword(OwnPassword),
    /// Let attempts to sign in as the user of this id or name count anew.
    LiftThrottle(String),
    /// Delete the session that the caller presents.
    EndSession,
}

impl Intent {
    /// Verb, kind and target, for the audit of a denial.
    pub fn describe(&self) -> (Verb, Kind, String) {
        let name = |write: &Write| {
            write.document.name.as_ref().map_or_else(String::new, |name| name.as_str().to_owned())
        };
        match self {
            Self::Create(write) => (Verb::Create, write.document.kind(), name(write)),
            Self::Apply(write) => (Verb::Edit, write.document.kind(), name(write)),
            Self::Replace { target, write, .. } => (Verb::Edit, write.document.kind(), target.clone()),
            Self::Delete { kind, target, .. } => (Verb::Delete, *kind, target.clone()),
            Self::IssueToken(token) => (Verb::Create, Kind::Token, token.name.to_string()),
            Self::RotateToken(rotation) => (Verb::Create, Kind::Token, rotation.target.clone()),
            Self::ChangePassword(_) => (Verb::Edit, Kind::User, String::new()),
            Self::LiftThrottle(target) => (Verb::Edit, Kind::User, target.clone()),
            Self::EndSession => (Verb::Delete, Kind::Token, String::new()),
        }
    }
}

/// A document, and the hash of its new password once it is computed.
#[derive(Debug, Clone)]
pub struct Write {
    /// The document as the caller wrote it.
    pub document: Document,
    /// PHC string of the new password. Hashing is the most expensive step, so a first plan without it decides whether the
    /// write is allowed. A plan with a password and without its hash must not be committed.
    pub password_hash: Option<String>,
}

impl From<Document> for Write {
    fn from(document: Document) -> Self {
        Self { document, password_hash: None }
    }
}

/// The changes of a write, ready to be committed.
#[derive(Debug)]
pub struct Plan {
    /// The revision of the snapshot that the plan was made on.
    pub base: Revision,
    /// In order of revision; the first one follows `base`.
    pub changes: Vec<Change>,
    /// The result of each intent but deletions, in order.
    pub results: Vec<Applied>,
    /// The resource of each intent but deletions, in order.
    pub resources: Vec<Arc<Stored>>,
    /// Tokens that get a new secret: the audit names that, and not a creation.
    pub rotated: Vec<Id>,
    /// Side effects that the writer should know.
    pub warnings: Vec<String>,
    /// The snapshot after the changes.
    pub after: Snapshot,
}

impl Plan {
    /// The plan of a batch that creates at most one `resource`.
    fn of(before: &Snapshot, batch: Batch, resource: Option<Arc<Stored>>) -> Self {
        let Batch { after, changes } = batch;
        Self {
            base: before.revision(),
            after,
            changes,
            results: Vec::new(),
            resources: resource.into_iter().collect(),
            rotated: Vec::new(),
            warnings: Vec::new(),
        }
    }
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
    /// A person's own token would have a name that does not begin with the account's.
    #[error(
        "your own tokens have names that begin with `{account}-`, and with no longer name of another account"
    )]
    OwnTokenName {
        /// The account's name.
        account: Name,
    },
    /// No active administrator who can sign in would remain.
    #[error("no active administrator who can sign in would be left")]
    LastAdministrator,
    /// A field breaks a rule.
    #[error("{message}")]
    Invalid {
        /// The field.
        param: String,
        /// What is wrong.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// A resource of that name exists.
    #[error("there is a {kind} `{name}` already")]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The password changed since it was verified.
    #[error("the password was changed meanwhile")]
    PasswordMoved,
    /// The resource changed since the writer read it.
    #[error("{kind} `{name}` is at revision {actual}, not at {expected}")]
    Stale {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// The revision that the writer expects.
        expected: Revision,
        /// The resource's revision.
        actual: Revision,
    },
    /// A secret could not be sealed or opened.
    #[error("a secret could not be processed")]
    Vault(#[source] anyhow::Error),
}

fn invalid(param: &str, message: impl Into<String>) -> Refusal {
    Refusal::Invalid { param: param.to_owned(), message: message.into(), hint: None }
}

fn invalid_hint(param: &str, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal::Invalid { param: param.to_owned(), message: message.into(), hint: Some(hint.into()) }
}

/// The state of planning the intents of a caller.
pub struct Planner<'a> {
    before: &'a Snapshot,
    actor: &'a Principal,
    now: Timestamp,
    vault: &'a dyn Vault,
    batch: Batch,
    rotated: Vec<Id>,
    warnings: Vec<String>,
}

/// The result of one intent: its resource and how it changed; `None` for a deletion.
type Planned = Option<(Arc<Stored>, ApplyOutcome)>;

/// Plans all intents of a caller, or refuses all.
///
/// # Errors
/// The first refusal, with the index of its intent.
pub fn plan(
    before: &Snapshot,
    actor: &Principal,
    now: Timestamp,
    vault: &dyn Vault,
    intents: Vec<Intent>,
) -> Result<Plan, (usize, Refusal)> {
    let batch = Batch::new(before);
    let mut planner = Planner { before, actor, now, vault, batch, rotated: Vec::new(), warnings: Vec::new() };
    let mut planned: Vec<(usize, Planned)> = Vec::with_capacity(intents.len());
    let mut ordered: Vec<(usize, Intent)> = intents.into_iter().enumerate().collect();
    // Deletions first, so that none removes what a document of the same batch writes. Then secrets, whatever their order in a
    // file, so that references get the ids of this batch.
    ordered.sort_by_key(|(_, intent)| match intent {
        Intent::Delete { .. } => 0,
        other if other.describe().1 == Kind::Secret => 1,
        _ => 2,
    });
    for (at, intent) in ordered {
        let done = match intent {
            Intent::Create(write) => planner.create(write).map(Some),
            Intent::Apply(write) => planner.apply(write).map(Some),
            Intent::Replace { target, write, expected } => {
                planner.replace(&target, write, expected).map(Some)
            }
            Intent::Delete { kind, target, expected } => {
                planner.delete(kind, &target, expected).map(|()| None)
            }
            Intent::IssueToken(token) => planner.issue_token(token).map(Some),
            Intent::RotateToken(rotation) => planner.rotate_token(rotation).map(Some),
            Intent::ChangePassword(change) => planner.change_own_password(change).map(Some),
            Intent::LiftThrottle(target) => planner.lift_throttle(&target).map(Some),
            Intent::EndSession => planner.end_session().map(|()| None),
        };
        planned.push((at, done.map_err(|refusal| (at, refusal))?));
    }
    planned.sort_by_key(|(at, _)| *at);
    // References are checked last, so that the order of documents in a file does not matter.
    for (at, done) in &planned {
        if let Some((stored, _)) = done {
            planner.check_references(stored).map_err(|refusal| (*at, refusal))?;
        }
    }
    let last = planned.len().saturating_sub(1);
    let Planner { batch: Batch { after, changes }, rotated, warnings, .. } = planner;
    check_outcome(before, &after, actor, now, &changes).map_err(|refusal| (last, refusal))?;
    let (mut results, mut resources) = (Vec::new(), Vec::new());
    for (stored, outcome) in planned.into_iter().filter_map(|(_, done)| done) {
        results.push(Applied { kind: stored.kind(), name: stored.name().clone(), outcome, resource: None });
        resources.push(stored);
    }
    Ok(Plan { base: before.revision(), changes, results, resources, rotated, warnings, after })
}

/// Checks the whole step: rights that it grants or takes away, and that an administrator remains.
fn check_outcome(
    before: &Snapshot,
    after: &Snapshot,
    actor: &Principal,
    now: Timestamp,
    changes: &[Change],
) -> Result<(), Refusal> {
    // Llms, secrets and Limits change neither rights nor accounts.
    if changes.iter().all(|change| matches!(change.kind(), Kind::Llm | Kind::Secret | Kind::Limit)) {
        return Ok(());
    }
    before.check_step(after, actor).map_err(|escalation| shown(before, actor, escalation))?;
    if before.has_administrator(now) && !after.has_administrator(now) {
        return Err(Refusal::LastAdministrator);
    }
    Ok(())
}

impl Refusal {
    fn from_field(error: &FieldError) -> Self {
        Self::Invalid { param: error.param.clone(), message: error.message.clone(), hint: error.hint.clone() }
    }

    fn or_hint(self, text: &str) -> Self {
        match self {
            Self::Invalid { param, message, hint: None } => {
                Self::Invalid { param, message, hint: Some(text.to_owned()) }
            }
            other => other,
        }
    }
}
