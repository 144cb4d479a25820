//! Random bytes from the operating system. There is no fallback: where the system returns none, minting and sealing fail
//! rather than continue with something weaker.

/// The operating system gave no random bytes, so nothing secret was made.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomError(#[from] getrandom::Error);

/// Where random bytes come from; a parameter only so that a test can make the source fail.
pub(crate) type Source = fn(&mut [u8]) -> Result<(), getrandom::Error>;

/// The operating system's generator.
pub(crate) const OS: Source = getrandom::fill;
