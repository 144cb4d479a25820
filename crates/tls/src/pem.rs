//! Reads certificates and keys in PEM.

use std::path::Path;

use mcpctl_owner::file::{self, Content};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};

use crate::TlsError;

/// Maximum length of a file, in bytes: the authorities of an operating system are 200 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The certificates of a file, at least one.
pub(crate) fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = file::read_named(path, Content::Public, MAX_FILE_BYTES)
        .map_err(|error| TlsError::File { what: "the certificate", error })?;
    let content = |reason: String| TlsError::Content { what, path: path.to_owned(), reason };
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(content("there is none in it".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(content(error.to_string())),
    }
}

/// The authorities of a file, as roots.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "certificate of an authority")? {
        roots.add(certificate).map_err(|error| TlsError::unusable(path, &error))?;
    }
    Ok(roots)
}

/// A certificate with the chain up to its authority, and its key.
pub(crate) fn identity(
    provider: &CryptoProvider,
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate, "certificate")?;
    let private = private_key(key)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::OtherKey { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        // The key is looked at first.
        rustls::Error::General(_) => TlsError::unusable(key, &error),
        _ => TlsError::unusable(certificate, &error),
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = file::read_named(path, Content::Secret, MAX_FILE_BYTES)
        .map_err(|error| TlsError::File { what: "the key", error })?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) => {
            TlsError::Encrypted { path: path.to_owned() }
        }
        pem::Error::NoItemsFound => {
            let reason = "there is none in it".to_owned();
            TlsError::Content { what: "private key", path: path.to_owned(), reason }
        }
        // The error may quote a line of the key.
        _ => {
            let reason = "its text is damaged".to_owned();
            TlsError::Content { what: "private key", path: path.to_owned(), reason }
        }
    })
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";
