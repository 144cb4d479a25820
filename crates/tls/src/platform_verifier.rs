//! The platform's verifier, made when the first certificate is to be verified. It decides alone: this type only makes it.

use std::sync::{Arc, OnceLock};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;

#[derive(Debug)]
pub(crate) struct PlatformVerifier {
    provider: Arc<CryptoProvider>,
    loaded: OnceLock<Verifier>,
}

impl PlatformVerifier {
    /// A verifier that has read no certificates yet.
    pub(crate) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, loaded: OnceLock::new() }
    }

    /// The verifier, with this machine's trusted certificates.
    ///
    /// # Errors
    /// When there are none; the next call tries again.
    pub(crate) fn loaded(&self) -> Result<&Verifier, Error> {
        if let Some(verifier) = self.loaded.get() {
            return Ok(verifier);
        }
        let verifier = Verifier::new(Arc::clone(&self.provider))?;
        Ok(self.loaded.get_or_init(|| verifier))
    }
}

impl ServerCertVerifier for PlatformVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.loaded()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.loaded()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.loaded()?.verify_tls13_signature(message, cert, dss)
    }

    /// Of the provider, as the platform's verifier has them: asked before anything is verified.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::*;

    fn verifier() -> PlatformVerifier {
        PlatformVerifier::new(Arc::new(aws_lc_rs::default_provider()))
    }

    #[test]
    fn certificates_are_read_by_the_first_verification() {
        let verifier = verifier();
        assert!(verifier.loaded.get().is_none());
        let name = ServerName::try_from("localhost").unwrap();
        let forged = CertificateDer::from(vec![0; 16]);
        let verified = verifier.verify_server_cert(&forged, &[], &name, &[], UnixTime::now());
        assert!(verified.is_err(), "no certificate");
        assert!(verifier.loaded.get().is_some());
    }

    #[test]
    fn schemes_are_the_platforms() {
        let verifier = verifier();
        assert_eq!(
            verifier.supported_verify_schemes(),
            verifier.loaded().unwrap().supported_verify_schemes()
        );
    }
}
