//! The first start: built-in roles, the user `admin`, and the token that lets somebody in.

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
    Id, Kind, Name, Resource, Revision, Spec,
    spec::{RoleBindingSpec, Subject, SubjectKind, TokenSpec, UserSpec},
};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_store::{CommitError, Store};

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
        let first = snapshot.all(Kind::User).next().is_none();
        let minted = if first { Some(draft.admin()?) } else { None };
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

/// Makes a new token for `admin`, for whoever owns the data directory and has lost all others.
///
/// # Errors
/// When there is no user `admin`, or the store or the file cannot be written.
pub async fn reissue(store: &Store, data_dir: &Path, now: Timestamp) -> anyhow::Result<PathBuf> {
    loop {
        let snapshot = store.load().await?;
        let mut draft = Draft::new(&snapshot, now);
        let admin = snapshot
            .by_name(Kind::User, ADMIN)
            .context("there is no user `admin`\nhint: start `mcpd serve` once on an empty store")?;
        let minted = draft.token_for(admin.id().clone())?;
        let file = TokenFile::stage(data_dir, minted.expose())?;
        match store.commit(snapshot.revision(), "mcpd", draft.changes, Vec::new()).await {
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

    fn admin(&mut self) -> anyhow::Result<token::MintedToken> {
        let (name, id): (Name, Id) = (ADMIN.parse()?, Id::mint());
        let user =
            UserSpec { display_name: Some("the first administrator".to_owned()), ..UserSpec::default() };
        self.put(id.clone(), name.clone(), Spec::User(user), None);
        let subject = Subject { kind: SubjectKind::User, name: name.clone() };
        let binding = RoleBindingSpec { role: name.clone(), subjects: vec![subject] };
        self.put(Id::mint(), name, Spec::RoleBinding(binding), None);
        self.token_for(id)
    }

    fn token_for(&mut self, admin: Id) -> anyhow::Result<token::MintedToken> {
        let minted = token::mint(Prefix::Mcpd)?;
        let spec = TokenSpec {
            subject: Subject { kind: SubjectKind::User, name: ADMIN.parse()? },
            subject_id: admin,
            expires_at: self.now.checked_add(SignedDuration::from_hours(24 * BOOTSTRAP_DAYS))?,
            session: false,
        };
        let name = format!("bootstrap-{}", self.now.as_second()).parse()?;
        let hash = Confidential::TokenHash(*minted.hash().as_bytes());
        self.put(Id::mint(), name, Spec::Token(spec), Some(hash));
        Ok(minted)
    }

    fn put(&mut self, id: Id, name: Name, spec: Spec, confidential: Option<Confidential>) {
        self.revision = self.revision.next();
        let created_at = self.snapshot.by_id(&id).map_or(self.now, |stored| stored.resource.created_at);
        let resource = Resource {
            id,
            name,
            labels: Default::default(),
            revision: self.revision,
            created_at,
            updated_at: self.now,
            spec,
        };
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
