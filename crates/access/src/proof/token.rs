//! Signs and verifies tokens of any kind.

use pasetors::{
    Public,
    token::UntrustedToken,
    version4::{PublicToken, V4},
};
use serde::{Serialize, de::DeserializeOwned};

use super::key::{PublicKey, SigningKey};

/// The longest token, in bytes: three times what the longest claims take, and a fraction of the agent's bound of a response head.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The claims of one kind of token.
pub trait Claims: Serialize + DeserializeOwned {
    /// The implicit assertion: signed with each token of this kind, and with no other.
    const PURPOSE: &'static str;

    /// Whether the claims agree with each other.
    fn are_consistent(&self) -> bool;
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The claims contradict each other.
    #[error("the claims contradict each other")]
    Claims,
    /// The token would be longer than agents read.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// The library failed.
    #[error("nothing could be signed")]
    Failed,
}

/// Why a token is not accepted. None shows the content of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// No PASETO v4.public token.
    #[error("the token is malformed")]
    Malformed,
    /// None of the keys signed it.
    #[error("the token names no key that is known")]
    UnknownKey,
    /// The key that it names did not sign it, or not for this purpose.
    #[error("the signature is wrong")]
    Signature,
    /// The claims are not those of this kind of token, or contradict each other.
    #[error("the claims are not those of such a token")]
    Claims,
}

/// Signs claims.
///
/// # Errors
/// When the claims contradict each other, or make too long a token.
pub fn sign<C: Claims>(claims: &C, key: &SigningKey) -> Result<String, SignError> {
    if !claims.are_consistent() {
        return Err(SignError::Claims);
    }
    let payload = serde_json::to_vec(claims).map_err(|_| SignError::Failed)?;
    let footer = key.public().id().footer();
    let (footer, purpose) = (Some(footer.as_bytes()), Some(C::PURPOSE.as_bytes()));
    let token = PublicToken::sign(&key.secret, &payload, footer, purpose).map_err(|_| SignError::Failed)?;
    if token.len() > MAX_TOKEN_BYTES { Err(SignError::TooLong) } else { Ok(token) }
}

/// The claims of a token that one of these keys signed for the purpose of `C`.
///
/// # Errors
/// When none did, or the token cannot be read.
pub fn verify<C: Claims>(token: &str, keys: &[PublicKey]) -> Result<C, VerifyError> {
    let untrusted = read(token)?;
    // The footer is compared, not parsed, so that nothing unsigned is interpreted.
    let names = |key: &&PublicKey| key.id().footer().as_bytes() == untrusted.untrusted_footer();
    let key = keys.iter().find(names).ok_or(VerifyError::UnknownKey)?;
    let verifying = key.verifying().ok_or(VerifyError::UnknownKey)?;
    let footer = key.id().footer();
    let (footer, purpose) = (Some(footer.as_bytes()), Some(C::PURPOSE.as_bytes()));
    let trusted =
        PublicToken::verify(&verifying, &untrusted, footer, purpose).map_err(|_| VerifyError::Signature)?;
    claims(trusted.payload().as_bytes())
}

/// The claims of a token whose signature is not verified: for an agent without a pinned key, which may take a denial from
/// them and nothing else.
///
/// # Errors
/// When the token cannot be read.
pub fn read_unverified<C: Claims>(token: &str) -> Result<C, VerifyError> {
    claims(read(token)?.untrusted_payload())
}

fn read(token: &str) -> Result<UntrustedToken<Public, V4>, VerifyError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(VerifyError::TooLong);
    }
    UntrustedToken::try_from(token).map_err(|_| VerifyError::Malformed)
}

fn claims<C: Claims>(payload: &[u8]) -> Result<C, VerifyError> {
    let claims: C = serde_json::from_slice(payload).map_err(|_| VerifyError::Claims)?;
    if claims.are_consistent() { Ok(claims) } else { Err(VerifyError::Claims) }
}
