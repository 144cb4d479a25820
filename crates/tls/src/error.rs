//! Why the files of TLS cannot be used.

use std::path::{Path, PathBuf};

use mcpctl_owner::PathError;

/// Why a file of TLS, or two of them together, cannot be used. Prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read, or others could have written it.
    #[error("{what} {error}")]
    File {
        /// What it holds.
        what: &'static str,
        /// The file, and what is wrong with it.
        error: PathError,
    },
    /// It holds something else.
    #[error("`{}` holds no {what} in PEM: {reason}", path.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        reason: String,
    },
    /// The key is encrypted.
    #[error("the key in `{}` is encrypted", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("the key in `{}` is not the one of the certificate in `{}`", key.display(), certificate.display())]
    OtherKey {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A certificate without its key, or the reverse.
    #[error("{given} is given without {missing}")]
    Half {
        /// The one that is there.
        given: &'static str,
        /// The other one.
        missing: &'static str,
    },
    /// TLS refuses it.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TlsError {
    pub(crate) fn unusable(path: &Path, error: &impl std::fmt::Display) -> Self {
        Self::Unusable { path: path.to_owned(), reason: error.to_string() }
    }

    /// The next step.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { error, .. } => return error.hint(),
            Self::Content { what, .. } => format!("a {what} in PEM begins with `-----BEGIN`"),
            Self::Encrypted { path } => {
                format!("decrypt it: (umask 077; openssl pkey -in {0} -out {0}.plain)", path.display())
            }
            Self::OtherKey { .. } => {
                "give the two files that were issued together, with the server's own certificate first"
                    .to_owned()
            }
            Self::Half { .. } => "give both".to_owned(),
            Self::Unusable { .. } => return None,
        })
    }
}
