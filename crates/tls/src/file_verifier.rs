//! Verifies servers by the authorities of a file, which is read again when it changes.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{TlsError, pem, reloaded::Reloaded};

#[derive(Debug)]
pub(crate) struct FileVerifier {
    loaded: Reloaded<Arc<WebPkiServerVerifier>>,
}

impl FileVerifier {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn read(ca: PathBuf, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (paths, provider) = (vec![ca.clone()], Arc::clone(provider));
        let read = move || {
            let roots = Arc::new(pem::authorities(&ca)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            verifier.map_err(|error| TlsError::unusable(&ca, &error))
        };
        Ok(Self { loaded: Reloaded::new(paths, read)? })
    }
}

impl ServerCertVerifier for FileVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.loaded.refreshed();
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.loaded.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.loaded.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.loaded.current().supported_verify_schemes()
    }
}
