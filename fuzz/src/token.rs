//! What mcpd signs: proofs, leases and lists of keys, read by agents.

use std::sync::LazyLock;

use mcpctl_access::proof::{
    Claims, KeyListClaims, LeaseClaims, MAX_TOKEN_BYTES, ProofClaims, SigningKey, read_unverified, sign,
    verify,
};

/// Made anew in each process: no corpus can hold what it signs.
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));

/// Nothing that the key did not sign is verified, and what is read without a key is consistent in itself.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = crate::choice(data) else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    check::<ProofClaims>(choice, text);
    check::<LeaseClaims>(choice, text);
    check::<KeyListClaims>(choice, text);
}

fn check<C: Claims>(choice: u8, text: &str) {
    assert!(verify::<C>(text, &[*KEY.public()]).is_err(), "a key that did not sign verifies {text}");
    if let Ok(claims) = read_unverified::<C>(text) {
        assert!(claims.are_consistent() && text.len() <= MAX_TOKEN_BYTES);
    }
    // Claims of their own, signed by the key, with one character changed.
    let Ok(claims) = serde_json::from_str::<C>(text) else { return };
    let Ok(token) = sign(&claims, &KEY) else { return };
    assert!(verify::<C>(&token, &[*KEY.public()]).is_ok());
    let mut changed = token.into_bytes();
    let at = usize::from(choice) * 7 % changed.len();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("tokens are ASCII");
    assert!(verify::<C>(&changed, &[*KEY.public()]).is_err(), "a changed token verifies: {changed}");
}
