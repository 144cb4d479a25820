//! What mcpd signs for agents: the proof of a decision, a lease, and the list of its keys. No clock, no I/O.
//!
//! All are PASETO v4.public tokens (Ed25519). Each kind has an implicit assertion of its own, so that one never passes for
//! another, and the footer names the key. What is read is read strictly: an unknown or missing claim, a token that is too long
//! and a claim that contradicts another one are errors, and every error is a deny (INVARIANT 8).
//!
//! INVARIANT 4: an answer to a probe is [`ProofClaims`] that [`verify`] returned, and that
//! [answer](ProofClaims::answers) the question of this very request.

mod claims;
mod key;
mod key_list;
mod lease;
mod text;
mod token;

pub use claims::{Contradiction, Decision, ProofClaims, ProofQuestion, ProofSubject};
pub use key::{Fingerprint, KeyId, NotAKey, PublicKey, SigningKey};
pub use key_list::{KeyListClaims, KeyState, ListedKey};
pub use lease::LeaseClaims;
pub use text::{BearerHash, NotText, ProbeNonce};
pub use token::{Claims, MAX_TOKEN_BYTES, SignError, VerifyError, read_unverified, sign, verify};
