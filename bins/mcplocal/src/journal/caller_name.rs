//! How lines and logs name a caller.

use mcpctl_failover::Bearer;
use mcpctl_journal::{bearer_name, short_name};

/// The name of a caller: the user for whom the local key acts, or else the beginning of the bearer's SHA-256.
///
/// INVARIANT 10: never the bearer itself.
pub fn caller_name(user: Option<&str>, bearer: &Bearer) -> String {
    match user {
        Some(user) => short_name(user),
        None => bearer_name(bearer.digest().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_10_a_caller_is_named_by_user_or_digest() {
        let (one, other) = (Bearer::new("mcpd_one"), Bearer::new("mcpd_other"));
        assert_eq!(caller_name(Some("alice"), &one), "alice");
        assert_ne!(caller_name(None, &one), caller_name(None, &other));
        assert_eq!(caller_name(None, &one), caller_name(None, &one));
        assert!(!caller_name(None, &one).contains("mcpd_"));
    }
}
