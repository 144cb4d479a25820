//! The certificate that a client presents to a server that asks for one.

use std::{path::PathBuf, sync::Arc};

use rustls::{SignatureScheme, client::ResolvesClientCert, crypto::CryptoProvider, sign::CertifiedKey};

use crate::{TlsError, pem, reloaded::Reloaded};

/// The certificate of two files, read again when they change.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    loaded: Reloaded<Arc<CertifiedKey>>,
}

impl ClientIdentity {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn read(
        certificate: PathBuf,
        key: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let paths = vec![certificate.clone(), key.clone()];
        let read = move || pem::identity(&provider, &certificate, &key).map(Arc::new);
        Ok(Self { loaded: Reloaded::new(paths, read)? })
    }
}

impl ResolvesClientCert for ClientIdentity {
    /// It is presented whatever authorities the server names: one that does not accept it has an alert for that, and without a
    /// certificate the reason would be hidden.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.loaded.refreshed()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
