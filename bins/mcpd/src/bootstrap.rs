//! The first start: built-in roles, the user `admin`, and its first token. And the way back in for the owner of the data
//! directory, whatever became of that user.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Change, Confidential, Snapshot, Stored, builtin};
use mcpctl_api::{
    Id, Kind, Name, Resource, Revision, Spec, Verb,
    spec::{LlmSpec, RoleBindingSpec, SecretKeyRef, Subject, SubjectKind, TokenSpec, UserSpec},
};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_store::{AuditRow, CommitError, Decision, Store};

/// How long a bootstrap token is good for. INVARIANT 15: no credential is for ever.
const BOOTSTRAP_DAYS: i64 = 30;
const ADMIN: &str = "admin";
const TOKEN_FILE: &str = "bootstrap-token";

/// Brings the store to the state that the daemon relies on. Replicas may do so at the same moment; one wins.
///
/// Answers the path of the bootstrap token where one was written.
///
/// # Errors
/// When the store or the token file cannot be written.
pub async fn prepare(store: &Store, data_dir: &Path, now: Timestamp) -> anyhow::Result<Option<PathBuf>> {
    loop {
        let snapshot = store.load().await?;
        let mut draft = Draft::new(&snapshot, now);
        draft.roles();
        draft.bind_references();
        // An empty store is at revision 0. A store without users is not empty: its users were deleted, or its
        // administrators are service accounts.
        let first = snapshot.revision() == Revision::default();
        let minted = if first { Some(draft.restore_admin()?) } else { None };
        if draft.changes.is_empty() {
            return Ok(None);
        }
        // The file first: a token that nobody can read would lock everybody out, a file without a token does no harm.
        let file = match &minted {
            Some(minted) => Some(TokenFile::stage(data_dir, minted.expose())?),
            None => None,
        };
        match store.commit(snapshot.revision(), "mcpd", draft.changes, Vec::new()).await {
            Ok(_) => return file.map(TokenFile::publish).transpose(),
            Err(CommitError::Moved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a new token for the user `admin`, for the owner of the data directory who has lost all others, and restores what
/// the user needs to be an administrator: the user itself, enabled, and a binding of the role. Where anything had to be
/// restored, the other credentials of the user end: they may have been made for a user who was no administrator.
///
/// # Errors
/// When the store or the file cannot be written.
pub async fn reissue(store: &Store, data_dir: &Path, now: Timestamp) -> anyhow::Result<PathBuf> {
    loop {
        // Locked before planning: writers of running replicas must not keep the owner out.
        let lock = store.lock_writes().await?;
        let snapshot = store.load().await?;
        let mut draft = Draft::new(&snapshot, now);
        draft.roles();
        let minted = draft.restore_admin()?;
        let rows = draft.audit_rows();
        let file = TokenFile::stage(data_dir, minted.expose())?;
        match store.commit_locked(lock, snapshot.revision(), "mcpd", draft.changes, rows).await {
            Ok(_) => return file.publish(),
            Err(CommitError::Moved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

struct Draft<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    revision: Revision,
    changes: Vec<Change>,
}

impl<'a> Draft<'a> {
    fn new(snapshot: &'a Snapshot, now: Timestamp) -> Self {
        Self { snapshot, now, revision: snapshot.revision(), changes: Vec::new() }
    }

    /// Built-in roles as this version defines them, so that listing shows the truth after an upgrade.
    fn roles(&mut self) {
        for (name, spec) in builtin::specs() {
            let spec = Spec::Role(spec);
            let existing = self.snapshot.by_name(Kind::Role, name);
            if existing.is_some_and(|stored| stored.resource.spec == spec) {
                continue;
            }
            if let Ok(name) = name.parse::<Name>() {
                let id = existing.map_or_else(Id::mint, |stored| stored.id().clone());
                self.put(id, name, spec, None);
            }
        }
    }

    /// Binds references by name, which earlier versions wrote, to the secrets that they mean now.
    fn bind_references(&mut self) {
        for stored in self.snapshot.all(Kind::Llm) {
            let Spec::Llm(llm) = &stored.resource.spec else { continue };
            let Some(key) = llm.api_key.as_ref().filter(|key| key.secret_id.is_none()) else { continue };
            // Where there is none, to no secret at all: one that is made later under the name is not meant.
            let secret = self.snapshot.by_name(Kind::Secret, key.secret.as_str());
            let secret_id = secret.map_or_else(Id::mint, |secret| secret.id().clone());
            let key = SecretKeyRef { secret_id: Some(secret_id), ..key.clone() };
            let spec = Spec::Llm(LlmSpec { api_key: Some(key), ..llm.clone() });
            self.put(stored.id().clone(), stored.name().clone(), spec, None);
        }
    }

    /// The user `admin`, active and bound to the role `admin`, and a new token for it.
    fn restore_admin(&mut self) -> anyhow::Result<token::MintedToken> {
        let name: Name = ADMIN.parse()?;
        let subject = Subject { kind: SubjectKind::User, name: name.clone() };
        let user = self.snapshot.by_name(Kind::User, ADMIN);
        let active = user.filter(|_| self.snapshot.is_active(&subject));
        let holds_everything = self.snapshot.subject_holds_everything(&subject);
        if let Some(user) = active.filter(|_| holds_everything) {
            return self.token_for(user.id().clone());
        }
        let id = user.map_or_else(Id::mint, |user| user.id().clone());
        let spec = match user.map(|user| &user.resource.spec) {
            Some(Spec::User(spec)) => {
                UserSpec { disabled: false, password_set_by: Vec::new(), ..spec.clone() }
            }
            _ => UserSpec { display_name: Some("the first administrator".to_owned()), ..UserSpec::default() },
        };
        // Without its password, and without its tokens.
        self.put(id.clone(), name.clone(), Spec::User(spec), None);
        for token in self.snapshot.all(Kind::Token) {
            if matches!(&token.resource.spec, Spec::Token(spec) if spec.subject_id == id) {
                self.revision = self.revision.next();
                let (id, name) = (token.id().clone(), token.name().clone());
                self.changes.push(Change::Delete { kind: Kind::Token, id, name, revision: self.revision });
            }
        }
        if !holds_everything {
            let taken = self.snapshot.by_name(Kind::RoleBinding, ADMIN).is_some();
            let binding_name =
                if taken { format!("admin-{}", self.now.as_second()).parse()? } else { name.clone() };
            let binding = RoleBindingSpec { role: name, subjects: vec![subject] };
            self.put(Id::mint(), binding_name, Spec::RoleBinding(binding), None);
        }
        self.token_for(id)
    }

    /// What was changed from the command line is on record too.
    fn audit_rows(&self) -> Vec<AuditRow> {
        let row = |change: &Change| {
            let (action, name) = match change {
                Change::Put(stored) if stored.resource.created_at == self.now => {
                    (Verb::Create, stored.name())
                }
                Change::Put(stored) => (Verb::Edit, stored.name()),
                Change::Delete { name, .. } => (Verb::Delete, name),
            };
            AuditRow {
                id: uuid::Uuid::now_v7(),
                at: self.now,
                principal: "mcpd bootstrap-token".to_owned(),
                principal_id: None,
                token_id: None,
                action: action.as_str().to_owned(),
                kind: change.kind(),
                resource_id: Some(change.id().clone()),
                resource_name: name.to_string(),
                decision: Decision::Allowed,
                reason: String::new(),
                revision: change.revision(),
                request_id: String::new(),
            }
        };
        self.changes.iter().map(row).collect()
    }

    fn token_for(&mut self, admin: Id) -> anyhow::Result<token::MintedToken> {
        let minted = token::mint(Prefix::Mcpd)?;
        let spec = TokenSpec {
            subject: Subject { kind: SubjectKind::User, name: ADMIN.parse()? },
            subject_id: admin,
            expires_at: self.now.checked_add(SignedDuration::from_hours(24 * BOOTSTRAP_DAYS))?,
            session: false,
            issued_by: Vec::new(),
        };
        let id = Id::mint();
        let name = format!("bootstrap-{}", id.as_str()).parse()?;
        let hash = Confidential::TokenHash(*minted.hash().as_bytes());
        self.put(id, name, Spec::Token(spec), Some(hash));
        Ok(minted)
    }

    fn put(&mut self, id: Id, name: Name, spec: Spec, confidential: Option<Confidential>) {
        self.revision = self.revision.next();
        let before = self.snapshot.by_id(&id).map(|stored| &stored.resource);
        let created_at = before.map_or(self.now, |before| before.created_at);
        let labels = before.map(|before| before.labels.clone()).unwrap_or_default();
        let resource =
            Resource { id, name, labels, revision: self.revision, created_at, updated_at: self.now, spec };
        self.changes.push(Change::Put(Arc::new(Stored { resource, confidential })));
    }
}

/// Written under another name and renamed once the token is good, so that the file never holds a token that is not.
struct TokenFile {
    staged: PathBuf,
    target: PathBuf,
}

impl TokenFile {
    fn stage(data_dir: &Path, token: &str) -> anyhow::Result<Self> {
        let target = data_dir.join(TOKEN_FILE);
        let staged = data_dir.join(format!("{TOKEN_FILE}.{}", Id::mint()));
        let write = || -> std::io::Result<()> {
            let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
            writeln!(file, "{token}")?;
            file.sync_all()
        };
        write().with_context(|| format!("`{}` cannot be written", staged.display()))?;
        Ok(Self { staged, target })
    }

    fn publish(self) -> anyhow::Result<PathBuf> {
        std::fs::rename(&self.staged, &self.target)
            .with_context(|| format!("`{}` cannot be written", self.target.display()))?;
        Ok(self.target.clone())
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        // Gone already when it was published.
        let _ = std::fs::remove_file(&self.staged);
    }
}
