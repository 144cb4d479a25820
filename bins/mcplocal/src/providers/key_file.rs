//! The key of a model server that is already running. It is in a file of its own and not in the configuration, which people
//! show each other; read whenever it is used, so that a new key holds at once.

use std::path::{Path, PathBuf};

use mcpctl_owner::{
    PathError,
    file::{self, Content},
};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Maximum size of the file, bytes.
const MAX_FILE_BYTES: u64 = 8192;

/// Why a key cannot be read. No message contains any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is not there, or open to others.
    #[error("its key: {0}")]
    File(#[from] PathError),
    /// The file holds something else.
    #[error("its key: `{}` does not hold one line of printable ASCII", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) if error.is_not_found() => {
                Some("write the server's key into it (mode 0600), or correct `apiKeyFile`".to_owned())
            }
            Self::File(error) => error.hint(),
            Self::Content { .. } => Some("write the key alone into it, in one line".to_owned()),
        }
    }
}

/// Reads a key from a file that this user or root owns, and that others can neither read nor write.
///
/// # Errors
/// When there is no such file, or no key in it.
pub fn read(path: &Path) -> Result<SecretString, KeyFileError> {
    let bytes = Zeroizing::new(file::read_named(path, Content::Secret, MAX_FILE_BYTES)?);
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    // A header takes nothing else.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyFileError::Content { path: path.to_owned() });
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn only_a_private_file_with_one_key_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let read_with = |content: &[u8], mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path).map(|key| key.expose_secret().to_owned());
            read.map_err(|error| (error.to_string(), error.hint().unwrap_or_default()))
        };
        assert_eq!(read_with(b"sk-local-1\n", 0o600).unwrap(), "sk-local-1");
        assert_eq!(read_with(b"sk-local-1", 0o400).unwrap(), "sk-local-1");
        let at = path.display();
        let exposed = (
            format!("its key: `{at}` can be read by other users: its mode is 0640"),
            format!("chmod 600 {at}"),
        );
        assert_eq!(read_with(b"sk-local-1", 0o640).unwrap_err(), exposed);
        for wrong in [&b""[..], b" \n", b"one\ntwo\n", b"two words", "schl\u{fc}ssel".as_bytes(), b"\xff"] {
            let (message, hint) = read_with(wrong, 0o600).unwrap_err();
            assert!(message.contains("one line of printable ASCII"), "{message}");
            assert!(!hint.is_empty());
        }
        let (message, _) = read_with(&[b'k'; 9000], 0o600).unwrap_err();
        assert!(message.contains("is longer than 8192 bytes"), "{message}");
        fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().hint().unwrap().contains("`apiKeyFile`"));
    }
}
