//! The commit loop. Every change of resources goes through it: plan on the latest snapshot, commit with the audit rows, and
//! if another writer was first, plan again.

use std::time::{Duration, Instant};

use mcpctl_api::{
    Spec,
    spec::{NewPassword, UserSpec},
};
use mcpctl_store::{Author, CommitError, RecordedChanges, Store, StoreError};

use crate::{
    app::App,
    caller::{AuthenticationError, Caller},
    clock,
    inference::credential_checks::{self, RefusedCredential},
    limits, login,
    writers::Lane,
    writes::{self, Intent, Plan, Refusal, Write, password::OwnPassword},
};

/// Commits that a writer tries. From [`LOCKED_FROM`] on it holds the store's lock, so that a further loss is the store's
/// fault.
const MAX_ATTEMPTS: usize = 8;
/// Writers of this process take turns, so a loss is to another replica. After this many losses the store is locked before
/// planning.
const LOCKED_FROM: usize = 2;

/// When the loop takes the store's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// After the first losses to other replicas.
    AfterLosses,
    /// Before the first plan.
    FromTheStart,
}

/// All attempts lost to other writers.
#[derive(Debug, thiserror::Error)]
#[error("too many writers at once")]
pub struct TooManyWriters {
    /// Why the store rejected the last attempt.
    #[source]
    last: Option<CommitError>,
}

/// A write that the loop plans, again after each loss.
pub trait Proposal: Send {
    /// Why the write is not committed.
    type Error: From<StoreError> + From<TooManyWriters>;

    /// Plans the write on the latest snapshot, and names its author.
    fn plan(&mut self) -> impl Future<Output = Result<(Plan, Author), Self::Error>> + Send;
}

/// Runs the loop. Returns the plan that was committed, or an empty one, which needs no commit.
///
/// # Errors
/// An error of the proposal or of the store, or [`TooManyWriters`].
pub async fn run<P: Proposal>(store: &Store, locking: Locking, mut proposal: P) -> Result<Plan, P::Error> {
    let mut last = None;
    for attempt in 0..MAX_ATTEMPTS {
        // The lock before the plan: what is planned under it can be committed.
        let lock = match locking {
            Locking::AfterLosses if attempt < LOCKED_FROM => None,
            _ => Some(store.lock_writes().await?),
        };
        let (plan, author) = proposal.plan().await?;
        if plan.changes.is_empty() {
            return Ok(plan);
        }
        let changes = RecordedChanges::new(plan.base, author, clock::now(), plan.changes.clone())
            .rotating(&plan.rotated);
        let committed = match lock {
            None => store.commit(changes).await,
            Some(lock) => store.commit_locked(lock, changes).await,
        };
        match committed {
            Ok(revision) => {
                tracing::info!(%revision, changes = plan.changes.len(), "resources changed");
                return Ok(plan);
            }
            Err(error @ (CommitError::Moved { .. } | CommitError::NameTaken { .. })) => last = Some(error),
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(TooManyWriters { last }.into())
}

/// Why the intents of a caller were not committed.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct WriteError {
    /// Index of the intent that the cause is about; 0 if it is about all.
    pub intent: usize,
    /// The cause.
    #[source]
    pub cause: WriteFailure,
}

/// The cause of a [`WriteError`].
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// The write is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The caller's credential is no longer valid.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The principal writes too much.
    #[error("too many changes by one account")]
    TooManyWrites {
        /// When it may write again.
        retry_after: Duration,
    },
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Busy(#[from] login::Busy),
    /// A provider refuses a credential that the write makes new.
    #[error(transparent)]
    Credential(#[from] RefusedCredential),
    /// The password cannot be hashed.
    #[error("{0}")]
    Password(anyhow::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All attempts lost to other writers.
    #[error(transparent)]
    TooManyWriters(#[from] TooManyWriters),
}

impl<C: Into<WriteFailure>> From<C> for WriteError {
    fn from(cause: C) -> Self {
        Self { intent: 0, cause: cause.into() }
    }
}

/// How a caller's intents are committed.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Judge everything, store nothing.
    pub dry_run: bool,
    /// Ask no provider whether it accepts a new credential.
    pub skip_check: bool,
}

/// Plans and commits all intents of a caller, or none.
///
/// # Errors
/// When an intent is refused, the principal writes too much, or the store fails.
pub async fn commit(
    app: &App,
    caller: Caller,
    mut intents: Vec<Intent>,
    options: WriteOptions,
) -> Result<Plan, WriteError> {
    let admitted = app.writers.admit(&caller.principal.id, Instant::now());
    let _admission = admitted.map_err(|retry_after| WriteFailure::TooManyWrites { retry_after })?;
    // Planned before anything expensive: a caller without rights causes no hashing, and waits in no queue.
    let plan = plan(app, &caller, &intents).await?;
    if options.dry_run || plan.changes.is_empty() {
        return Ok(plan);
    }
    // Before the turn and outside any transaction: a provider may be silent for seconds.
    let unchecked =
        if options.skip_check { Vec::new() } else { check_credentials(app, &caller, &plan).await? };
    hash_passwords(app, &mut intents).await?;
    let _turn = app.writers.turn(lane(&caller, &intents)).await;
    let intents = CallersIntents { app, caller: &caller, intents: &intents };
    let mut plan = run(&app.store, Locking::AfterLosses, intents).await?;
    plan.warnings.extend(unchecked);
    Ok(plan)
}

/// Asks providers whether they accept the credentials that a plan makes new; returns a warning for each that did not answer.
async fn check_credentials(app: &App, caller: &Caller, plan: &Plan) -> Result<Vec<String>, WriteError> {
    let checked = credential_checks::check(&app.inference.client, &app.store, caller, plan).await;
    checked.map_err(|(intent, refused)| WriteError { intent, cause: refused.into() })
}

/// The intents of a caller.
struct CallersIntents<'a> {
    app: &'a App,
    caller: &'a Caller,
    intents: &'a [Intent],
}

impl Proposal for CallersIntents<'_> {
    type Error = WriteError;

    async fn plan(&mut self) -> Result<(Plan, Author), WriteError> {
        // Rights and resources may have changed.
        let caller = self.app.authenticate(self.caller.bearer()).await?;
        let plan = plan(self.app, &caller, self.intents).await?;
        Ok((plan, author(&caller)))
    }
}

fn lane(caller: &Caller, intents: &[Intent]) -> Lane {
    let revokes = |intent: &Intent| matches!(intent, Intent::Delete { .. } | Intent::EndSession);
    if intents.iter().all(revokes) || caller.snapshot.holds_everything(&caller.principal) {
        Lane::Urgent
    } else {
        Lane::Ordinary
    }
}

fn author(caller: &Caller) -> Author {
    let principal = &caller.principal;
    Author {
        principal: principal.subject.to_string(),
        principal_id: Some(principal.id.clone()),
        token_id: Some(principal.token.clone()),
        request_id: mcpctl_server::request_id(),
    }
}

/// Plans the intents of a caller, for a page that shows what they would do. A refusal is not recorded: to look at a page is no attempt.
///
/// # Errors
/// When an intent is refused, or the principal writes too much.
pub fn preview(app: &App, caller: &Caller, intents: Vec<Intent>) -> Result<Plan, WriteError> {
    let admitted = app.writers.admit(&caller.principal.id, Instant::now());
    let _admission = admitted.map_err(|retry_after| WriteFailure::TooManyWrites { retry_after })?;
    judged(app, caller, intents).map_err(|(intent, refusal)| WriteError { intent, cause: refusal.into() })
}

async fn plan(app: &App, caller: &Caller, intents: &[Intent]) -> Result<Plan, WriteError> {
    match judged(app, caller, intents.to_vec()) {
        Ok(plan) => Ok(plan),
        Err((at, refusal)) => {
            record_refusal(app, caller, intents.get(at), &refusal).await?;
            Err(WriteError { intent: at, cause: refusal.into() })
        }
    }
}

/// The plan of the intents with all its warnings, or the first refusal.
fn judged(app: &App, caller: &Caller, intents: Vec<Intent>) -> Result<Plan, (usize, Refusal)> {
    let mut plan = writes::plan(&caller.snapshot, &caller.principal, clock::now(), &app.store, intents)?;
    for written in &plan.resources {
        let warnings = limits::unpriced::warnings(&app.prices, &plan.after, &caller.principal, written);
        // A Limit and an Llm that are written together would each warn of the other.
        let new = warnings.into_iter().filter(|warning| !plan.warnings.contains(warning));
        plan.warnings.extend(new.collect::<Vec<_>>());
    }
    Ok(plan)
}

/// Records a refusal for lack of rights. Other refusals are mistakes of the caller, not decisions.
async fn record_refusal(
    app: &App,
    caller: &Caller,
    intent: Option<&Intent>,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    if !matches!(
        refusal,
        Refusal::Denied(_)
            | Refusal::Escalation(_)
            | Refusal::OwnTokenName { .. }
            | Refusal::LastAdministrator
    ) {
        return Ok(());
    }
    let Some((verb, kind, target)) = intent.map(Intent::describe) else { return Ok(()) };
    let (revision, reason) = (caller.snapshot.revision(), refusal.to_string());
    let entry = app.audit.denial(&caller.principal, verb, kind, &target, revision, &reason);
    app.audit.record(entry).await
}

/// Hashes every new password, before the turn: it takes long.
async fn hash_passwords(app: &App, intents: &mut [Intent]) -> Result<(), WriteError> {
    for (at, intent) in intents.iter_mut().enumerate() {
        let (password, password_hash) = match intent {
            Intent::Create(write) | Intent::Apply(write) | Intent::Replace { write, .. } => {
                let Write { document, password_hash } = write;
                match &document.spec {
                    Spec::User(UserSpec { password: NewPassword::Set(password), .. }) => {
                        (password, password_hash)
                    }
                    _ => continue,
                }
            }
            Intent::ChangePassword(OwnPassword { new, hash, .. }) => (&*new, hash),
            _ => continue,
        };
        let hashed = app.logins.hash(password.expose().to_owned()).await;
        *password_hash = Some(hashed.map_err(|error| WriteError {
            intent: at,
            cause: error.downcast::<login::Busy>().map_or_else(WriteFailure::Password, WriteFailure::Busy),
        })?);
    }
    Ok(())
}
