//! Seals and opens the data of secrets by envelope encryption, bound to the id of their resource.

use mcpctl_access::{Confidential, Stored};
use mcpctl_api::Id;
use mcpctl_secret::envelope;

use crate::{database::Store, error::StoreError};

impl Store {
    /// Encrypts the data of the secret of this id.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, id: &Id, plaintext: &[u8]) -> Result<Vec<u8>, StoreError> {
        envelope::seal(self.keys.current(), id.as_str().as_bytes(), plaintext)
            .map(envelope::Sealed::into_bytes)
            .map_err(|error| StoreError::Vault(error.to_string()))
    }

    /// Decrypts the data of a stored secret.
    ///
    /// # Errors
    /// When the resource is no secret, its data was tampered with, or it is sealed with an unknown key.
    pub fn unseal(&self, stored: &Stored) -> Result<Vec<u8>, StoreError> {
        let Some(Confidential::Sealed(sealed)) = &stored.confidential else {
            return Err(StoreError::Vault("nothing is sealed here".to_owned()));
        };
        envelope::open(&self.keys, stored.id().as_str().as_bytes(), sealed)
            .map(|plain| plain.to_vec())
            .map_err(|error| StoreError::Vault(error.to_string()))
    }
}
