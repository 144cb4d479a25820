//! Prepares the store at a start, and writes the token of the user `admin`: at the first start, and for the owner of the data
//! directory who has lost all other credentials.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use mcpctl_api::{Id, Revision};
use mcpctl_secret::token::{self, MintedToken, Prefix, TokenHash};
use mcpctl_store::{Author, Replica, Store};

use crate::{
    commit::{self, Locking, Proposal},
    writes::{Plan, first_start},
};

const TOKEN_FILE: &str = "bootstrap-token";

/// Brings the store to the state that the daemon relies on. Several replicas may do so at the same time. Returns the path
/// of the bootstrap token if it wrote one.
///
/// # Errors
/// When the store or the token file cannot be written.
pub async fn prepare(
    store: &Store,
    replica: &Replica,
    data_dir: &Path,
    now: Timestamp,
) -> anyhow::Result<Option<PathBuf>> {
    let mut file = None;
    let preparation =
        Preparation { replica, data_dir, now, minted: token::mint(Prefix::Mcpd)?, file: &mut file };
    commit::run(store, Locking::AfterLosses, preparation).await?;
    file.map(TokenFile::publish).transpose()
}

struct Preparation<'a> {
    replica: &'a Replica,
    data_dir: &'a Path,
    now: Timestamp,
    minted: MintedToken,
    /// The staged file, if the plan contains the token.
    file: &'a mut Option<TokenFile>,
}

impl Proposal for Preparation<'_> {
    type Error = anyhow::Error;

    async fn plan(&mut self) -> anyhow::Result<(Plan, Author)> {
        let snapshot = self.replica.fresh().await?;
        // An empty store is at revision 0. A store without users is not empty: its users were deleted, or its
        // administrators are service accounts.
        let is_empty = snapshot.revision() == Revision::default();
        // The file before the commit: a token that no one can read would lock everyone out, whereas a file without a
        // token does no harm.
        *self.file =
            if is_empty { Some(TokenFile::stage(self.data_dir, self.minted.expose())?) } else { None };
        let plan = first_start::prepare(&snapshot, is_empty.then(|| self.minted.hash()), self.now)?;
        Ok((plan, author("mcpd")))
    }
}

/// Writes a new token for the user `admin`, and makes that user an administrator again if it is none.
///
/// # Errors
/// When the store or the file cannot be written.
pub async fn reissue(store: &Store, data_dir: &Path, now: Timestamp) -> anyhow::Result<PathBuf> {
    let minted = token::mint(Prefix::Mcpd)?;
    let file = TokenFile::stage(data_dir, minted.expose())?;
    // Locked before planning, so that writers of running replicas cannot keep the owner out.
    commit::run(store, Locking::FromTheStart, Restoration { store, now, hash: minted.hash() }).await?;
    file.publish()
}

struct Restoration<'a> {
    store: &'a Store,
    now: Timestamp,
    hash: TokenHash,
}

impl Proposal for Restoration<'_> {
    type Error = anyhow::Error;

    async fn plan(&mut self) -> anyhow::Result<(Plan, Author)> {
        let snapshot = self.store.load().await?;
        let plan = first_start::restore_admin(&snapshot, self.hash, self.now)?;
        Ok((plan, author("mcpd bootstrap-token")))
    }
}

fn author(principal: &str) -> Author {
    Author { principal: principal.to_owned(), ..Author::default() }
}

/// The token's file. It is staged under another name and renamed after the commit, so that it never contains an invalid
/// token.
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
        // Already renamed if it was published.
        let _ = std::fs::remove_file(&self.staged);
    }
}
