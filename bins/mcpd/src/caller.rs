//! The authenticated caller of a request.

use std::sync::Arc;

use mcpctl_access::{Principal, Rejected, Snapshot};
use mcpctl_secret::token::TokenHash;
use mcpctl_store::StoreError;

use crate::clock;

/// An authenticated caller, and the snapshot in which it was authenticated.
#[derive(Clone)]
pub struct Caller {
    /// The account and the credential.
    pub principal: Principal,
    /// At least as new as the store was when the request arrived.
    pub snapshot: Arc<Snapshot>,
    bearer: TokenHash,
}

/// Why a caller is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The credential is not valid.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// No fresh snapshot could be loaded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Caller {
    /// Authenticates the bearer in this snapshot.
    ///
    /// # Errors
    /// When the credential is not valid there.
    pub fn of(bearer: TokenHash, snapshot: Arc<Snapshot>) -> Result<Self, Rejected> {
        let principal = snapshot.authenticate(bearer.as_bytes(), clock::now())?;
        Ok(Self { principal, snapshot, bearer })
    }

    /// The hash of the credential.
    pub const fn bearer(&self) -> TokenHash {
        self.bearer
    }

    /// Authenticates the same credential in another snapshot.
    ///
    /// # Errors
    /// When it is no longer valid.
    pub fn within(&self, snapshot: Arc<Snapshot>) -> Result<Self, Rejected> {
        Self::of(self.bearer, snapshot)
    }
}
