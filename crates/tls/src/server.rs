//! TLS of the server: its certificate, and the authority whose certificates clients have to present, where there is one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::{EndEntityCert, KeyUsage};

use crate::{
    TlsError, pem,
    reloaded::{Refreshed, Reloaded},
};

/// The files of a server's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The authorities of which every client has to present a certificate.
    pub client_ca: Option<PathBuf>,
}

/// TLS of a server.
#[derive(Debug)]
pub struct ServerTls {
    loaded: Reloaded<Loaded>,
    asks_for_certificates: bool,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn read(files: ServerFiles) -> Result<Self, TlsError> {
        let paths = [&files.certificate, &files.key].into_iter().chain(&files.client_ca).cloned().collect();
        let asks_for_certificates = files.client_ca.is_some();
        Ok(Self { loaded: Reloaded::new(paths, move || load(&files))?, asks_for_certificates })
    }

    /// The configuration of new connections, for HTTP/2 and HTTP/1.1.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.current().config)
    }

    /// Looks at the files, and uses them for new connections where one has changed. Blocks.
    pub fn refresh(&self) -> Refreshed {
        self.loaded.refresh()
    }

    /// The time from which clients reject the certificate; `None` where it cannot be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        not_after(&self.loaded.current().certificate)
    }

    /// Why the files as they are now are not in use; `None` where they are.
    pub fn refused(&self) -> Option<String> {
        self.loaded.refused()
    }

    /// Whether every client has to present a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.asks_for_certificates
    }

    /// Whether the certificate is of this host, a name or an address.
    pub fn names(&self, host: &str) -> bool {
        let loaded = self.loaded.current();
        let certificate = EndEntityCert::try_from(&loaded.certificate);
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']'));
        matches!((certificate, name), (Ok(certificate), Ok(name)) if certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

fn load(files: &ServerFiles) -> Result<Loaded, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let identity = pem::identity(&provider, &files.certificate, &files.key)?;
    let certificate = identity.cert.first().cloned();
    let certificate = certificate.ok_or_else(|| TlsError::unusable(&files.certificate, &"it is empty"))?;
    let verifier = files.client_ca.as_ref().map(|path| client_verifier(path, &provider)).transpose()?;
    let config = config(provider, identity, verifier);
    let config = config.map_err(|error| TlsError::unusable(&files.certificate, &error))?;
    Ok(Loaded { config: Arc::new(config), certificate })
}

/// A new configuration also forgets the sessions of the one before: a client whose authority was taken back cannot resume one.
fn config(
    provider: Arc<CryptoProvider>,
    identity: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    path: &std::path::Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pem::authorities(path)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
    verifier.map_err(|error| TlsError::unusable(path, &error))
}

/// The end of a certificate's validity; `None` where it cannot be read. The library shows it in one place, the error about a certificate that has expired, so the
/// certificate is verified as of the last moment that certificates can name (RFC 5280, section 4.1.2.5).
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let verified = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[],
        &[],
        UnixTime::since_unix_epoch(LAST),
        KeyUsage::server_auth(),
        None,
        None,
    );
    match verified.map(drop) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}
