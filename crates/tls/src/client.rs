//! TLS of clients: which authorities a server's certificate has to be of, and the certificate that the client presents.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, Error,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};

use crate::{
    TlsError, any_certificate::AnyCertificate, client_identity::ClientIdentity, file_verifier::FileVerifier,
    platform_verifier::PlatformVerifier,
};

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// What all clients share that trust this machine's authorities.
struct Machine {
    config: Arc<ClientConfig>,
    verifier: Arc<PlatformVerifier>,
}

/// The files of the TLS of connections to one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// The authorities that may sign the server's certificate, instead of those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that the client presents, with its chain.
    pub certificate: Option<PathBuf>,
    /// The key of that.
    pub key: Option<PathBuf>,
}

/// TLS of connections to one server. Cheap to clone; equal where the files are the same.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    files: ClientFiles,
    /// `None` where no file is named.
    config: Option<Arc<ClientConfig>>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl ClientTls {
    /// Reads the files. Later they are read again by the first connection after a change.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn read(files: ClientFiles) -> Result<Self, TlsError> {
        if files == ClientFiles::default() {
            return Ok(Self::default());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &files.ca {
            Some(ca) => Arc::new(FileVerifier::read(ca.clone(), &provider)?),
            None => Arc::new(PlatformVerifier::new(Arc::clone(&provider))),
        };
        Self::with_verifier(files, provider, verifier)
    }

    /// As [`ClientTls::read`], of connections that accept every certificate; `files` has no authority. Only for connections on which
    /// nothing secret is sent, and whose answer decides about nothing but the health of the one that gives it.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn read_unverified(files: ClientFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(AnyCertificate::new(Arc::clone(&provider)));
        Self::with_verifier(files, provider, verifier)
    }

    fn with_verifier(
        files: ClientFiles,
        provider: Arc<CryptoProvider>,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, TlsError> {
        let identity = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                Some(ClientIdentity::read(certificate.clone(), key.clone(), Arc::clone(&provider))?)
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(TlsError::Half { given: "a client's certificate", missing: "its key" });
            }
            (None, Some(_)) => {
                return Err(TlsError::Half { given: "a client's key", missing: "its certificate" });
            }
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let named = files.ca.iter().chain(&files.certificate).next().cloned().unwrap_or_default();
        let builder = builder.map_err(|error| TlsError::unusable(&named, &error))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn();
        // A session that is resumed is not verified anew, and the authorities may be others by then.
        config.resumption = Resumption::disabled();
        Ok(Self { files, config: Some(Arc::new(config)) })
    }

    /// The files.
    pub fn files(&self) -> &ClientFiles {
        &self.files
    }

    /// The configuration, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When the cryptography of this build has no usable version of TLS.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        self.config.as_ref().map_or_else(client_config, |config| Ok(Arc::clone(config)))
    }
}

/// The configuration of clients that trust this machine's authorities, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When the cryptography of this build has no usable version of TLS.
pub fn client_config() -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::clone(&machine()?.config))
}

/// Reads this machine's trusted certificates, for a daemon that will need them; blocks meanwhile.
///
/// # Errors
/// When there are none; the next connection over TLS tries again.
pub fn load() -> Result<(), Error> {
    machine()?.verifier.loaded().map(drop)
}

fn machine() -> Result<&'static Machine, Error> {
    if let Some(machine) = MACHINE.get() {
        return Ok(machine);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PlatformVerifier::new(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(MACHINE.get_or_init(|| Machine { config: Arc::new(config), verifier }))
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_share_one_configuration() {
        let (first, second) = (client_config().unwrap(), ClientTls::default().config().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }

    #[test]
    fn half_an_identity_is_an_error() {
        let read = |certificate: Option<&str>, key: Option<&str>| {
            let files =
                ClientFiles { ca: None, certificate: certificate.map(Into::into), key: key.map(Into::into) };
            ClientTls::read(files).unwrap_err().to_string()
        };
        assert_eq!(read(Some("/c"), None), "a client's certificate is given without its key");
        assert_eq!(read(None, Some("/k")), "a client's key is given without its certificate");
    }
}
