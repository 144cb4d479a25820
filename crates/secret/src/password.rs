//! Passwords: argon2id, and a comparison that takes as long for a user who does not exist. Both functions
//! work for some tens of milliseconds on one core with 19 MiB of memory, so async callers run them on a
//! blocking thread. Rate limits on attempts are the caller's.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc},
};
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// Fewest characters of a new password (NIST SP 800-63B, section 5.1.1.1).
pub const MIN_CHARS: usize = 8;
/// Most bytes of a password: long enough for any passphrase, short enough that hashing it costs nothing extra.
pub const MAX_BYTES: usize = 1024;

/// Memory in KiB; with the passes and lanes below the configuration that the OWASP Password Storage Cheat Sheet
/// gives as the least for argon2id (19 MiB, 2 iterations, 1 degree of parallelism).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Most that a stored hash may ask for: a damaged or planted row must not cost the server its memory.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The password is shorter than [`MIN_CHARS`].
    #[error("the password is too short: it needs at least {MIN_CHARS} characters")]
    TooShort,
    /// The password is longer than [`MAX_BYTES`].
    #[error("the password is too long: it may have at most {MAX_BYTES} bytes")]
    TooLong,
    /// There was no salt to be had.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The hash could not be computed.
    #[error("the password could not be hashed")]
    Argon2(#[source] argon2::password_hash::Error),
}

/// Why a password was not accepted; every variant is a deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The password is wrong, or there is no such user: callers cannot tell, and should not.
    #[error("wrong name or password")]
    Mismatch,
    /// What is stored is no argon2id hash that this version accepts: worth a line in the log.
    #[error("the stored password hash cannot be read")]
    Unreadable,
}

/// Hashes a new password with a fresh salt, giving a PHC string to store.
pub fn hash(password: &str) -> Result<String, HashError> {
    if password.chars().count() < MIN_CHARS {
        return Err(HashError::TooShort);
    }
    if password.len() > MAX_BYTES {
        return Err(HashError::TooLong);
    }
    let mut salt = [0_u8; 16];
    random::OS(&mut salt).map_err(RandomError::from)?;
    let hashed = argon2()
        .and_then(|argon2| argon2.hash_password_with_salt(password.as_bytes(), &salt))
        .map_err(HashError::Argon2)?;
    Ok(hashed.to_string())
}

/// Compares a password with the stored PHC string; `None` is an unknown user, and takes as long as a known one.
pub fn verify(password: &str, stored: Option<&str>) -> Result<(), VerifyError> {
    // Before the user is looked at, so that the answer's time says nothing about whether there is one.
    if password.len() > MAX_BYTES {
        return Err(VerifyError::Mismatch);
    }
    let Some(stored) = stored else {
        spend_the_time(password);
        return Err(VerifyError::Mismatch);
    };
    let stored = phc::PasswordHash::new(stored).map_err(|_| VerifyError::Unreadable)?;
    // INVARIANT 8: a hash of another algorithm, without an output or with absurd costs is a deny.
    if !acceptable(&stored) {
        return Err(VerifyError::Unreadable);
    }
    argon2()
        .and_then(|argon2| argon2.verify_password(password.as_bytes(), &stored))
        .map_err(|_| VerifyError::Mismatch)
}

fn argon2() -> argon2::password_hash::Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn acceptable(stored: &phc::PasswordHash) -> bool {
    let Ok(params) = Params::try_from(stored) else { return false };
    stored.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && stored.salt.is_some()
        && stored.hash.as_ref().is_some_and(|output| output.len() >= 16)
        && params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_PASSES
        && params.p_cost() <= MAX_LANES
}

/// Does the work of a verification and throws the result away.
fn spend_the_time(password: &str) {
    let mut out = Zeroizing::new([0_u8; 32]);
    if let Ok(argon2) = argon2() {
        let done = argon2.hash_password_into(password.as_bytes(), b"there is no user", out.as_mut_slice());
        std::hint::black_box((done.is_ok(), &out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn round_trip_with_the_parameters_of_owasp() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(verify("correct horse", Some(&stored)), Ok(()));
        assert_eq!(verify("correct horsf", Some(&stored)), Err(VerifyError::Mismatch));
        assert_ne!(hash("correct horse").unwrap(), stored, "the same salt twice");
    }

    #[test]
    fn length_is_bounded_on_both_ends() {
        assert!(matches!(hash("1234567"), Err(HashError::TooShort)));
        assert!(matches!(hash("ééééééé"), Err(HashError::TooShort)));
        assert!(matches!(hash(&"x".repeat(MAX_BYTES + 1)), Err(HashError::TooLong)));
        let longest = "x".repeat(MAX_BYTES);
        let stored = hash(&longest).unwrap();
        assert_eq!(verify(&longest, Some(&stored)), Ok(()));
        assert_eq!(verify(&format!("{longest}x"), Some(&stored)), Err(VerifyError::Mismatch));
    }

    #[test]
    fn inv_08_a_stored_hash_that_cannot_be_read_is_a_deny() {
        let good = hash("correct horse").unwrap();
        let no_output = good.rsplit_once('$').unwrap().0;
        let unreadable = [
            "",
            "correct horse",
            no_output,
            &good.replace("argon2id", "argon2i"),
            &good.replace("argon2id", "scrypt"),
            &good.replace("m=19456", "m=4194304"),
            &good.replace("t=2", "t=4000000"),
            &good.replace("p=1", "p=64"),
        ];
        for stored in unreadable {
            assert_eq!(verify("correct horse", Some(stored)), Err(VerifyError::Unreadable), "{stored}");
        }
    }

    #[test]
    fn inv_15_absent_hash_is_nobody_and_an_empty_password_does_not_open_it() {
        assert_eq!(verify("", None), Err(VerifyError::Mismatch));
        assert_eq!(verify("", Some("")), Err(VerifyError::Unreadable));
    }

    /// Without the dummy work the ratio is beyond a thousand; the generous factor leaves room for a busy machine.
    #[test]
    fn an_unknown_user_takes_as_long_as_a_known_one() {
        let stored = hash("correct horse").unwrap();
        let time = |stored: Option<&str>| {
            let start = Instant::now();
            assert!(verify("wrong horse", stored).is_err());
            start.elapsed()
        };
        let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
        for _ in 0..7 {
            known = known.min(time(Some(&stored)));
            unknown = unknown.min(time(None));
        }
        assert!(unknown * 4 > known && known * 4 > unknown, "known {known:?}, unknown {unknown:?}");
    }
}
