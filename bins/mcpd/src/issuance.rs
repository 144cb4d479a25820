//! What the ways to a new credential share: a session with a password or by a provider, and a token by exchange.

use mcpctl_api::{Id, Name, question::IssuedToken, spec::Subject};
use mcpctl_secret::token::{self, MintedToken, Prefix};
use mcpctl_store::{Author, StoreError};

use crate::{
    commit::TooManyWriters,
    login::NotChecked,
    writes::{Plan, token::issued},
};

/// Why no credential is issued; `D` is why one way denies it.
#[derive(Debug, thiserror::Error)]
pub enum IssueError<D> {
    /// The caller gets none.
    #[error(transparent)]
    Denied(D),
    /// The attempt was not made.
    #[error(transparent)]
    NotChecked(#[from] NotChecked),
    /// The operating system gave no random bytes.
    #[error("no token could be made")]
    Token,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All attempts to commit lost to other writers.
    #[error(transparent)]
    TooManyWriters(#[from] TooManyWriters),
}

/// A new token, and the name of its resource.
pub struct NewCredential {
    /// The name.
    pub name: Name,
    /// The token.
    pub minted: MintedToken,
}

impl NewCredential {
    /// Makes one whose name begins with `kind`.
    ///
    /// # Errors
    /// [`IssueError::Token`].
    pub fn mint<D>(prefix: Prefix, kind: &str) -> Result<Self, IssueError<D>> {
        let minted = token::mint(prefix).map_err(|_| IssueError::Token)?;
        let name = format!("{kind}-{}", Id::mint()).parse().map_err(|_| IssueError::Token)?;
        Ok(Self { name, minted })
    }

    /// What the caller gets of the committed plan.
    ///
    /// # Errors
    /// [`IssueError::Token`], where the plan has no token.
    pub fn issued<D>(&self, plan: &Plan) -> Result<IssuedToken, IssueError<D>> {
        plan.resources.first().and_then(|stored| issued(stored, &self.minted)).ok_or(IssueError::Token)
    }
}

/// The author of a plan that issues a credential: the account that gets it, with that credential.
pub fn author(account: &Subject, id: &Id, plan: &Plan) -> Author {
    Author {
        principal: account.to_string(),
        principal_id: Some(id.clone()),
        token_id: plan.resources.first().map(|token| token.id().clone()),
        request_id: mcpctl_server::request_id(),
    }
}
