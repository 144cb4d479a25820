//! Passwords: argon2id, and a comparison that takes as long for a user who does not exist.
//!
//! A [`Hasher`] works for some tens of milliseconds on one core, with 19 MiB of memory that it keeps for the next
//! password. How many hashers work at once, and how often a caller may try, is decided elsewhere.

use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{self, Output, ParamsString, Salt},
    },
};
use subtle::ConstantTimeEq as _;
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

/// Highest costs of a stored hash that are accepted: a damaged or planted row must not exhaust the server's memory.
const MAX_MEMORY_KIB: u32 = 64 * 1024;
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
    Argon2(#[source] password_hash::Error),
}

/// Why a password was not accepted; every variant is a deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The password is wrong, or there is no such user: callers cannot distinguish the two, and should not.
    #[error("wrong name or password")]
    Mismatch,
    /// What is stored is no argon2id hash that this version accepts: worth a line in the log.
    #[error("the stored password hash cannot be read")]
    Unreadable,
}

/// Bytes of the output of a new hash.
const OUTPUT_BYTES: usize = 32;

/// Rejects a password by its length, before any work is spent on it.
///
/// # Errors
/// [`HashError::TooShort`] or [`HashError::TooLong`].
pub fn check_length(password: &str) -> Result<(), HashError> {
    // The bytes first: counting the characters of a long text takes time.
    if password.len() > MAX_BYTES {
        return Err(HashError::TooLong);
    }
    if password.chars().count() < MIN_CHARS {
        return Err(HashError::TooShort);
    }
    Ok(())
}

/// Hashes one password at a time, in memory that is allocated once.
#[derive(Default)]
pub struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// Hashes a new password with a fresh salt, giving a PHC string to store.
    ///
    /// # Errors
    /// A length that is not allowed, or no randomness.
    pub fn hash(&mut self, password: &str) -> Result<String, HashError> {
        check_length(password)?;
        let mut salt = [0_u8; 16];
        random::OS(&mut salt).map_err(RandomError::from)?;
        let hashed = self.phc(password, &salt).map_err(HashError::Argon2)?;
        Ok(hashed.to_string())
    }

    fn phc(&mut self, password: &str, salt: &[u8]) -> password_hash::Result<phc::PasswordHash> {
        let argon2 = argon2()?;
        let mut output = Zeroizing::new([0_u8; OUTPUT_BYTES]);
        self.derive(&argon2, password, salt, output.as_mut_slice())?;
        Ok(phc::PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(argon2.params())?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(output.as_slice())?),
        })
    }

    /// Compares a password with the stored PHC string; `None` is an unknown user, and takes as long as a known one.
    ///
    /// # Errors
    /// When it is not the password; see [`VerifyError`].
    pub fn verify(&mut self, password: &str, stored: Option<&str>) -> Result<(), VerifyError> {
        // Before the stored hash is read, so that the response time does not show whether the user exists.
        if password.len() > MAX_BYTES {
            return Err(VerifyError::Mismatch);
        }
        let Some(stored) = stored else {
            self.verify_against_nothing(password);
            return Err(VerifyError::Mismatch);
        };
        // INVARIANT 8: a hash of another algorithm, without an output or with absurd costs is a deny.
        let (argon2, salt, expected) = parse(stored).ok_or(VerifyError::Unreadable)?;
        let mut output = Zeroizing::new(vec![0_u8; expected.len()]);
        self.derive(&argon2, password, salt.as_ref(), &mut output).map_err(|_| VerifyError::Mismatch)?;
        let same: bool = output.as_slice().ct_eq(expected.as_bytes()).into();
        if same { Ok(()) } else { Err(VerifyError::Mismatch) }
    }

    /// Does the work of a verification and discards the result.
    fn verify_against_nothing(&mut self, password: &str) {
        let mut output = Zeroizing::new([0_u8; OUTPUT_BYTES]);
        if let Ok(argon2) = argon2() {
            let done = self.derive(&argon2, password, b"there is no user", output.as_mut_slice());
            std::hint::black_box((done.is_ok(), &output));
        }
    }

    fn derive(
        &mut self,
        argon2: &Argon2<'_>,
        password: &str,
        salt: &[u8],
        output: &mut [u8],
    ) -> argon2::Result<()> {
        let needed = argon2.params().block_count();
        if self.blocks.len() < needed {
            self.blocks.reserve_exact(needed - self.blocks.len());
            self.blocks.resize(needed, Block::new());
        }
        let done = argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut self.blocks);
        // Frees the extra memory that a stored hash with higher costs needed; the memory of new hashes is kept.
        if self.blocks.len() > MEMORY_KIB as usize {
            self.blocks.truncate(MEMORY_KIB as usize);
            self.blocks.shrink_to_fit();
        }
        done
    }
}

fn argon2() -> password_hash::Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Parses a stored hash into its parameters, salt and output. `None` where it cannot be parsed or its costs are too high.
fn parse(stored: &str) -> Option<(Argon2<'static>, Salt, Output)> {
    let stored = phc::PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&stored).ok()?;
    let version = match stored.version {
        Some(version) => Version::try_from(version).ok()?,
        None => Version::default(),
    };
    let (salt, output) = (stored.salt?, stored.hash?);
    let acceptable = stored.algorithm == ARGON2ID_IDENT
        && output.len() >= 16
        && params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_PASSES
        && params.p_cost() <= MAX_LANES;
    acceptable.then(|| (Argon2::new(Algorithm::Argon2id, version, params), salt, output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn hash(password: &str) -> Result<String, HashError> {
        Hasher::default().hash(password)
    }

    fn verify(password: &str, stored: Option<&str>) -> Result<(), VerifyError> {
        Hasher::default().verify(password, stored)
    }

    #[test]
    fn hasher_reuses_its_memory_and_frees_the_excess() {
        let mut hasher = Hasher::default();
        let stored = hasher.hash("correct horse").unwrap();
        let place = hasher.blocks.as_ptr();
        assert_eq!(hasher.verify("correct horse", Some(&stored)), Ok(()));
        assert_eq!(hasher.verify("correct horsf", Some(&stored)), Err(VerifyError::Mismatch));
        assert_eq!(hasher.verify("correct horse", None), Err(VerifyError::Mismatch));
        assert_eq!(hasher.blocks.as_ptr(), place);

        let params = Params::new(2 * MEMORY_KIB, 1, 1, None).unwrap();
        let costly = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let costly = argon2::PasswordHasher::hash_password_with_salt(&costly, b"correct horse", &[7; 16]);
        assert_eq!(hasher.verify("correct horse", Some(&costly.unwrap().to_string())), Ok(()));
        assert_eq!(hasher.blocks.capacity(), MEMORY_KIB as usize);
    }

    #[test]
    fn hashes_are_those_of_the_crate_itself() {
        use argon2::{PasswordHasher as _, PasswordVerifier as _};
        let theirs = argon2().unwrap().hash_password_with_salt(b"correct horse", &[7; 16]).unwrap();
        assert_eq!(Hasher::default().phc("correct horse", &[7; 16]).unwrap(), theirs);
        let ours = phc::PasswordHash::new(&hash("correct horse").unwrap()).unwrap();
        assert!(argon2().unwrap().verify_password(b"correct horse", &ours).is_ok());
    }

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
    fn inv_08_unreadable_stored_hash_denies() {
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
    fn inv_15_absent_or_empty_hash_accepts_no_password() {
        assert_eq!(verify("", None), Err(VerifyError::Mismatch));
        assert_eq!(verify("", Some("")), Err(VerifyError::Unreadable));
    }

    /// Without the dummy work the ratio is beyond a thousand; the generous factor leaves room for a busy machine.
    #[test]
    fn unknown_user_takes_as_long_as_a_known_one() {
        let stored = hash("correct horse").unwrap();
        let mut hasher = Hasher::default();
        let mut time = |stored: Option<&str>| {
            let start = Instant::now();
            assert!(hasher.verify("wrong horse", stored).is_err());
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
