//! Secrets under envelope encryption, bound to the id of their resource.

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::Id;
use mcpctl_secret::envelope;

use crate::{database::Store, error::StoreError};

impl Store {
    /// Encrypts the data of the secret of this id.
    ///
    /// # Errors
    /// When no randomness can be had.
    pub fn seal(&self, id: &Id, plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        envelope::seal(self.keys.current(), id.as_str().as_bytes(), plaintext)
            .map(envelope::Sealed::into_bytes)
            .map_err(|error| StoreError::Vault(error.to_string()))
    }

    /// Decrypts the data of a stored secret.
    ///
    /// # Errors
    /// When it is no secret, was tampered with, or is sealed with a key that is not here.
    pub fn unseal(&self, stored: &Stored) -> Result<Vec<u8>, StoreError> {
        let Some(Confidential::Sealed(sealed)) = &stored.confidential else {
            return Err(StoreError::Vault("nothing is sealed here".to_owned()));
        };
        envelope::open(&self.keys, stored.id().as_str().as_bytes(), sealed)
            .map(|plain| plain.to_vec())
            .map_err(|error| StoreError::Vault(error.to_string()))
    }
}
