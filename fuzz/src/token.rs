//! What mcpd signs: proofs, leases and lists of keys, read by agents.

use std::sync::LazyLock;

use mcpctl_access::proof::{
    Claims, KeyListClaims, LeaseClaims, MAX_TOKEN_BYTES, ProofClaims, SigningKey, VerifyError,
    read_unverified, sign, verify,
};

/// Made anew in each process: no corpus can hold what they sign.
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));
static OTHER: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));
static PROOF: LazyLock<String> = LazyLock::new(|| {
    let claims = serde_json::json!({
        "nonce": "AAAAAAAAAAAAAAAAAAAAAA", "agent": "cabcdefghijklmnopqrstuvwx",
        "subject": {"kind": "User", "name": "alice", "id": "cbbbbbbbbbbbbbbbbbbbbbbbb"},
        "bearer": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "asked": "claude",
        "llm": "caaaaaaaaaaaaaaaaaaaaaaaa", "verb": "run", "decision": "allow", "reason": "allowed", "revision": 7,
        "iat": "2026-06-01T00:00:00Z", "holds": 15, "expiresAt": "2026-07-01T00:00:00Z",
    });
    signed::<ProofClaims>(claims)
});
static LEASE: LazyLock<String> = LazyLock::new(|| {
    let claims = serde_json::json!({
        "nonce": "AAAAAAAAAAAAAAAAAAAAAA", "agent": "cabcdefghijklmnopqrstuvwx",
        "subject": {"kind": "User", "name": "alice", "id": "cbbbbbbbbbbbbbbbbbbbbbbbb"},
        "bearer": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "llm": "caaaaaaaaaaaaaaaaaaaaaaaa",
        "revision": 7, "iat": "2026-06-01T00:00:00Z", "grace": 60,
    });
    signed::<LeaseClaims>(claims)
});
static KEYS: LazyLock<String> = LazyLock::new(|| {
    let list = KeyListClaims::new(KEY.public(), OTHER.public(), jiff::Timestamp::UNIX_EPOCH);
    sign(&list, &KEY).expect("a list is signed")
});

fn signed<C: Claims>(claims: serde_json::Value) -> String {
    sign(&serde_json::from_value::<C>(claims).expect("the claims are whole"), &KEY).expect("they are signed")
}

/// Nothing that the key did not sign is verified: not any text, not claims signed by another key, not a token of the key with
/// anything changed, and no token as one of another kind.
pub fn run(data: &[u8]) {
    let Some((choice, edits)) = crate::choice(data) else { return };
    if let Ok(text) = str::from_utf8(edits) {
        of_a_stranger::<ProofClaims>(text);
        of_a_stranger::<LeaseClaims>(text);
        of_a_stranger::<KeyListClaims>(text);
    }
    let tokens = [&*PROOF, &*LEASE, &*KEYS];
    let original = tokens[usize::from(choice) % 3];
    let other = tokens[usize::from(choice / 3) % 3];
    let edited = edited(original.as_bytes(), other.as_bytes(), edits);
    let Ok(edited) = String::from_utf8(edited) else { return };
    // An edit may undo another one, or make the other token of the two.
    let is = |token: &str| edited == token;
    assert_eq!(verifies::<ProofClaims>(&edited), is(&PROOF), "{edited}");
    assert_eq!(verifies::<LeaseClaims>(&edited), is(&LEASE), "{edited}");
    assert_eq!(verifies::<KeyListClaims>(&edited), is(&KEYS), "{edited}");
}

fn verifies<C: Claims>(token: &str) -> bool {
    let by_other = verify::<C>(token, &[*OTHER.public()]);
    assert!(by_other.is_err(), "a key that did not sign verifies {token}");
    verify::<C>(token, &[*KEY.public(), *OTHER.public()]).is_ok()
}

/// The bytes after the first are edits of three bytes each: what is done, where, and with what.
fn edited(original: &[u8], other: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut token = original.to_vec();
    for edit in edits.chunks_exact(3).take(8) {
        let (place, with) = (usize::from(edit[1]) * 3 + usize::from(edit[0] >> 6), edit[2]);
        let at = place % token.len().max(1);
        match edit[0] % 8 {
            0 if !token.is_empty() => token[at] = with,
            1 if !token.is_empty() => token[at] ^= 1 << (with % 8),
            2 => token.insert(at.min(token.len()), with),
            3 if !token.is_empty() => drop(token.remove(at)),
            4 => token.truncate(at),
            // The rest of another token, and parts of both.
            5 => token.splice(at.., other[at.min(other.len())..].to_vec()).for_each(drop),
            6 => {
                let part = |token: &[u8], number: usize| {
                    token.split(|byte| *byte == b'.').nth(number).map(<[u8]>::to_vec)
                };
                let mut parts: Vec<_> = token.split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect();
                let number = usize::from(with) % parts.len();
                parts[number] = part(other, number).unwrap_or_default();
                token = parts.join(&b"."[..]);
            }
            _ => token.push(with),
        }
    }
    token
}

/// A text, or claims that a stranger signs.
fn of_a_stranger<C: Claims>(text: &str) {
    assert!(verify::<C>(text, &[*KEY.public()]).is_err(), "a key that did not sign verifies {text}");
    if let Ok(claims) = read_unverified::<C>(text) {
        assert!(claims.are_consistent() && text.len() <= MAX_TOKEN_BYTES);
    }
    let Ok(claims) = serde_json::from_str::<C>(text) else { return };
    let Ok(token) = sign(&claims, &OTHER) else { return };
    assert!(verify::<C>(&token, &[*OTHER.public()]).is_ok());
    let verified: Result<C, VerifyError> = verify(&token, &[*KEY.public()]);
    assert!(verified.is_err(), "a key that did not sign verifies {token}");
}
