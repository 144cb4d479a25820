//! The keys of mcpd that this user's programs pin: kept beside the contexts, one entry per server, and replaced by following the
//! list of keys that a pinned key signed.

use std::path::Path;

use jiff::Timestamp;
use mcpctl_access::proof::{Fingerprint, KeyListClaims, PublicKey, VerifyError, read_unverified, verify};
use url::Url;

use crate::config::{self, ConfigError};

/// Why pinned keys are not replaced.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file of contexts cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No key of this server is pinned, so none is replaced.
    #[error("no key of {0} is pinned")]
    NotPinned(Url),
    /// No pinned key signed the list.
    #[error("the list of keys is not signed by a pinned key: {0}")]
    NotSigned(#[from] VerifyError),
}

/// The current and the next key of a list that one of these keys signed.
///
/// # Errors
/// When none of them did.
pub fn signed_keys(signed: &str, pinned: &[PublicKey]) -> Result<Vec<PublicKey>, VerifyError> {
    let list: KeyListClaims = verify(signed, pinned)?;
    // The next key does not sign before it is the current one.
    let list: KeyListClaims = verify(signed, &[list.current().public_key])?;
    Ok(list.keys.iter().map(|key| key.public_key).collect())
}

/// The keys of a server are not the pinned ones: a program in its place answers, or they were rotated more than once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mcpd signs with {shown}, which is not pinned")]
pub struct OtherKeys {
    /// The fingerprint of the key that signs there now.
    pub shown: Fingerprint,
}

impl OtherKeys {
    /// The next step for a person who signs in at this server.
    pub fn hint(server: &Url) -> String {
        let server = server.as_str().trim_end_matches('/');
        format!("compare it with the operator's, then: mcpctl login {server} --accept-new-keys")
    }
}

/// The keys of a list that is signed by its own current key, and by none of the pinned ones; `None` where a pinned key signed it,
/// or where the list is not even its own.
pub fn other_keys(signed: &str, pinned: &[PublicKey]) -> Option<OtherKeys> {
    if signed_keys(signed, pinned).is_ok() {
        return None;
    }
    let claimed: KeyListClaims = read_unverified(signed).ok()?;
    let list: KeyListClaims = verify(signed, &[claimed.current().public_key]).ok()?;
    Some(OtherKeys { shown: list.current().fingerprint.clone() })
}

/// Replaces the pinned keys of a server by those of a list that one of them signed. Returns the keys that are pinned now.
///
/// # Errors
/// When none is pinned, none of them signed the list, or the file cannot be written.
pub fn follow(path: &Path, server: &Url, signed: &str, now: Timestamp) -> Result<Vec<PublicKey>, PinError> {
    config::update(path, |config| {
        let pinned = config.pins_of(server).ok_or_else(|| PinError::NotPinned(server.clone()))?.keys.clone();
        let keys = signed_keys(signed, &pinned)?;
        let changed = keys != pinned;
        if changed {
            config.pin(server, keys.clone(), now);
        }
        Ok((changed, keys))
    })
}

#[cfg(test)]
mod tests {
    use mcpctl_access::proof::{SigningKey, sign};

    use super::*;
    use crate::config::Config;

    fn list(current: &SigningKey, next: &SigningKey, signer: &SigningKey) -> String {
        sign(&KeyListClaims::new(current.public(), next.public(), Timestamp::UNIX_EPOCH), signer).unwrap()
    }

    #[test]
    fn one_rotation_is_followed_and_a_foreign_list_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let server: Url = "https://mcpd.example.com/".parse().unwrap();
        let [one, two, three, foreign] = [(); 4].map(|()| SigningKey::generate().unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let followed = |signed: &str| follow(&path, &server, signed, now);
        let unpinned = followed(&list(&one, &two, &one)).unwrap_err();
        assert!(matches!(unpinned, PinError::NotPinned(_)) && !path.exists(), "first contact is no rotation");

        let mut config = Config::default();
        config.pin(&"https://other.example.com".parse().unwrap(), vec![*foreign.public()], now);
        config.pin(&server, vec![*one.public(), *two.public()], now);
        config.save(&path).unwrap();
        for (what, signed) in [
            ("its own key", list(&foreign, &two, &foreign)),
            ("the pinned keys, signed by another", list(&one, &two, &foreign)),
            ("nonsense", "v4.public.AAAA".to_owned()),
        ] {
            let error = followed(&signed).unwrap_err();
            assert!(matches!(error, PinError::NotSigned(_)), "{what}: {error}");
        }
        let rotated = vec![*two.public(), *three.public()];
        assert_eq!(followed(&list(&two, &three, &two)).unwrap(), rotated);
        let config = Config::load(&path).unwrap();
        let without_slash: Url = "https://mcpd.example.com".parse().unwrap();
        assert_eq!(config.pins_of(&without_slash).unwrap().keys, rotated);
        assert_eq!(config.pins.len(), 2);
        let other = |signed: &str| other_keys(signed, &rotated).map(|other| other.shown);
        assert_eq!(other(&list(&foreign, &one, &foreign)), Some(foreign.public().fingerprint()));
        assert_eq!(other(&list(&two, &three, &two)), None);
        assert_eq!(other(&list(&foreign, &one, &one)), None, "not its own");
        // The list from before the rotation takes nothing back.
        assert!(followed(&list(&one, &two, &one)).is_err());
    }
}
