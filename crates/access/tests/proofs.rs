//! Proofs, leases and key lists: what is signed reads back, and nothing else is accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/world.rs"]
mod world;

use jiff::Timestamp;
use mcpctl_access::{
    FailoverDecision, FailoverReason, Principal, Snapshot,
    proof::{
        BearerHash, Claims, KeyListClaims, LeaseClaims, MAX_TOKEN_BYTES, ProbeNonce, ProofClaims,
        ProofQuestion, PublicKey, SigningKey, VerifyError, read_unverified, sign, verify,
    },
};
use mcpctl_api::{Id, Kind, Verb};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use world::{principal, world};

const WORLD: &str = r#"
kind: Llm
name: claude
type: openai
url: http://127.0.0.1:1/v1
model: m
failover: {offlineGrace: 60s}
---
kind: Llm
name: strict
type: openai
url: http://127.0.0.1:1/v1
model: m
failover: {require: run}
---
kind: Llm
name: central
type: openai
url: http://127.0.0.1:1/v1
model: m
failover: {allowed: false}
---
kind: User
name: viewer
---
kind: User
name: runner
---
kind: User
name: stranger
---
kind: RoleBinding
name: viewers
role: viewer
subjects: [{kind: User, name: viewer}]
---
kind: RoleBinding
name: runners
role: llm-user
subjects: [{kind: User, name: runner}]
"#;

fn now() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

fn viewer(world: &Snapshot) -> Principal {
    Principal { expires_at: "2026-11-26T13:00:00Z".parse().unwrap(), ..principal(world, "viewer") }
}

fn question(asked: &str) -> ProofQuestion {
    let nonce = ProbeNonce::from([7; 16]);
    ProofQuestion {
        nonce,
        agent: Id::mint(),
        bearer: Some(BearerHash::of("mcpd_x")),
        asked: asked.to_owned(),
    }
}

/// An allowing proof of a viewer with its lease, as tokens, and the key that signed them.
struct Allowed {
    question: ProofQuestion,
    proof: String,
    lease: String,
    key: SigningKey,
}

impl Allowed {
    fn new() -> Self {
        let (world, key, question) = (world(WORLD), SigningKey::generate().unwrap(), question("claude"));
        let viewer = viewer(&world);
        let decision = world.failover_decision(&viewer, "claude");
        let proof = ProofClaims::new(question.clone(), Some(&viewer), &decision, now());
        let lease = LeaseClaims::beside(&proof, &viewer, &decision).unwrap();
        let (proof, lease) = (sign(&proof, &key).unwrap(), sign(&lease, &key).unwrap());
        Self { question, proof, lease, key }
    }

    fn keys(&self) -> [PublicKey; 1] {
        [*self.key.public()]
    }
}

/// Any payload, signed as if it were the claims of a proof.
#[derive(Serialize, Deserialize)]
struct AsProof(Value);

impl Claims for AsProof {
    const PURPOSE: &'static str = ProofClaims::PURPOSE;

    fn are_consistent(&self) -> bool {
        true
    }
}

#[test]
fn proof_and_lease_answer_their_question() {
    let allowed = Allowed::new();
    let proof: ProofClaims = verify(&allowed.proof, &allowed.keys()).unwrap();
    assert_eq!(proof.answers(&allowed.question), Ok(()));
    assert_eq!((proof.allows(), proof.holds, proof.reason.as_str()), (true, 15, "allowed"));
    let lease: LeaseClaims = verify(&allowed.lease, &allowed.keys()).unwrap();
    assert_eq!((lease.accompanies(&proof), lease.grace), (Ok(()), 60));
    assert_eq!(read_unverified::<ProofClaims>(&allowed.proof), Ok(proof));
    assert!(allowed.proof.len() < MAX_TOKEN_BYTES / 3, "{}", allowed.proof.len());
}

#[test]
fn inv_04_every_claim_of_the_question_is_compared() {
    let allowed = Allowed::new();
    let proof: ProofClaims = verify(&allowed.proof, &allowed.keys()).unwrap();
    let asked = &allowed.question;
    let others = [
        ("nonce", ProofQuestion { nonce: ProbeNonce::from([8; 16]), ..asked.clone() }),
        ("agent", ProofQuestion { agent: Id::mint(), ..asked.clone() }),
        ("bearer", ProofQuestion { bearer: Some(BearerHash::of("mcpd_y")), ..asked.clone() }),
        ("bearer", ProofQuestion { bearer: None, ..asked.clone() }),
        ("asked", ProofQuestion { asked: "Claude".to_owned(), ..asked.clone() }),
    ];
    for (claim, other) in others {
        assert_eq!(proof.answers(&other).unwrap_err().claim, claim);
    }
}

#[test]
fn inv_04_every_altered_claim_of_a_lease_is_noticed() {
    let allowed = Allowed::new();
    let proof: ProofClaims = verify(&allowed.proof, &allowed.keys()).unwrap();
    let lease: LeaseClaims = verify(&allowed.lease, &allowed.keys()).unwrap();
    let subject = lease.subject.clone();
    let others = [
        LeaseClaims { nonce: ProbeNonce::from([8; 16]), ..lease.clone() },
        LeaseClaims { agent: Id::mint(), ..lease.clone() },
        LeaseClaims {
            subject: mcpctl_access::proof::ProofSubject { id: Id::mint(), ..subject },
            ..lease.clone()
        },
        LeaseClaims { bearer: BearerHash::of("mcpd_y"), ..lease.clone() },
        LeaseClaims { llm: Id::mint(), ..lease.clone() },
        LeaseClaims { revision: lease.revision.next(), ..lease.clone() },
        LeaseClaims { iat: "2026-11-26T12:00:01Z".parse().unwrap(), ..lease.clone() },
    ];
    for other in others {
        assert!(other.accompanies(&proof).is_err(), "{other:?}");
    }
    for grace in [0, 301, u32::MAX] {
        assert!(sign(&LeaseClaims { grace, ..lease.clone() }, &allowed.key).is_err(), "{grace}");
    }
}

#[test]
fn inv_04_every_changed_character_is_an_error() {
    let allowed = Allowed::new();
    for at in 0..allowed.proof.len() {
        let mut changed = allowed.proof.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verify::<ProofClaims>(&changed, &allowed.keys()).is_err(), "{at}");
        assert!(verify::<ProofClaims>(&allowed.proof[..at], &allowed.keys()).is_err(), "{at}");
    }
}

#[test]
fn inv_04_a_token_of_another_kind_or_key_is_an_error() {
    let allowed = Allowed::new();
    let (keys, other) = (allowed.keys(), SigningKey::generate().unwrap());
    let list = sign(&KeyListClaims::new(allowed.key.public(), other.public(), now()), &allowed.key).unwrap();
    assert_eq!(verify::<ProofClaims>(&allowed.lease, &keys), Err(VerifyError::Signature));
    assert_eq!(verify::<LeaseClaims>(&allowed.proof, &keys), Err(VerifyError::Signature));
    assert_eq!(verify::<KeyListClaims>(&allowed.proof, &keys), Err(VerifyError::Signature));
    assert_eq!(verify::<ProofClaims>(&list, &keys), Err(VerifyError::Signature));
    assert_eq!(verify::<ProofClaims>(&allowed.proof, &[*other.public()]), Err(VerifyError::UnknownKey));
    assert_eq!(verify::<ProofClaims>(&allowed.proof, &[]), Err(VerifyError::UnknownKey));
    // The footer of one key on the token of another.
    let (head, _) = allowed.proof.rsplit_once('.').unwrap();
    let foreign = sign(&AsProof(json!({})), &other).unwrap();
    let swapped = format!("{head}.{}", foreign.rsplit_once('.').unwrap().1);
    let both = [*allowed.key.public(), *other.public()];
    assert_eq!(verify::<ProofClaims>(&swapped, &both), Err(VerifyError::Signature));
    for malformed in
        [head, "", "v4.public.", &allowed.proof.replace("v4.public", "v4.local"), "v2.public.AAAA.AAAA"]
    {
        assert!(verify::<ProofClaims>(malformed, &keys).is_err(), "{malformed}");
    }
    assert_eq!(verify::<ProofClaims>(&"a".repeat(MAX_TOKEN_BYTES + 1), &keys), Err(VerifyError::TooLong));
}

#[test]
fn inv_08_unknown_missing_and_contradicting_claims_are_errors() {
    let allowed = Allowed::new();
    let proof: ProofClaims = verify(&allowed.proof, &allowed.keys()).unwrap();
    let whole = serde_json::to_value(&proof).unwrap();
    let reads = |value: &Value| {
        let token = sign(&AsProof(value.clone()), &allowed.key).unwrap();
        verify::<ProofClaims>(&token, &allowed.keys())
    };
    assert_eq!(reads(&whole), Ok(proof));
    for claim in whole.as_object().unwrap().keys() {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().shift_remove(claim);
        assert_eq!(reads(&without), Err(VerifyError::Claims), "without {claim}");
        for odd in [json!(null), json!([]), json!({}), json!(-1), json!("é")] {
            let mut changed = whole.clone();
            changed[claim] = odd;
            // Any text may be asked for.
            let is_text = claim == "asked" && changed[claim].is_string();
            assert!(is_text || reads(&changed) == Err(VerifyError::Claims), "{claim}: {changed}");
        }
    }
    let others = [
        json!({"admin": true}),
        json!({"decision": "deny"}),
        json!({"reason": "forbidden"}),
        json!({"reason": "unauthenticated"}),
        json!({"holds": 16}),
        json!({"verb": "edit"}),
        json!({"asked": "a".repeat(129)}),
        json!({"asked": "cabcdefghijklmnopqrstuvwx"}),
    ];
    for other in others {
        let mut changed = whole.clone();
        changed.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        assert_eq!(reads(&changed), Err(VerifyError::Claims), "{other}");
    }
    for payload in [json!(null), json!([]), json!("allow"), json!({})] {
        assert_eq!(reads(&payload), Err(VerifyError::Claims), "{payload}");
    }
}

#[test]
fn denials_carry_what_the_caller_may_know() {
    let (world, key) = (world(WORLD), SigningKey::generate().unwrap());
    let viewer = viewer(&world);
    let stranger = Principal { expires_at: viewer.expires_at, ..principal(&world, "stranger") };
    let revision = world.revision();
    let cases = [
        (Some(&stranger), world.failover_decision(&stranger, "claude"), false),
        (Some(&viewer), world.failover_decision(&viewer, "central"), true),
        (Some(&viewer), world.failover_decision(&viewer, "none"), false),
        (None, FailoverDecision::unauthenticated(revision), false),
    ];
    for (principal, decision, shows_llm) in cases {
        let claims = ProofClaims::new(question("asked"), principal, &decision, now());
        let read: ProofClaims = verify(&sign(&claims, &key).unwrap(), &[*key.public()]).unwrap();
        assert_eq!((read.allows(), read.holds), (false, 0), "{decision:?}");
        assert_eq!((read.llm.is_some(), read.subject.is_some()), (shows_llm, principal.is_some()));
        if let Some(principal) = principal {
            assert_eq!(LeaseClaims::beside(&read, principal, &decision), None);
        }
    }
}

#[test]
fn holds_and_grace_end_with_the_credential() {
    let world = world(WORLD);
    for (left, holds, grace) in [(3600, 15, Some(60)), (40, 15, Some(40)), (7, 7, Some(7)), (0, 0, None)] {
        let viewer =
            Principal { expires_at: now() + jiff::SignedDuration::from_secs(left), ..viewer(&world) };
        let decision = world.failover_decision(&viewer, "claude");
        let proof = ProofClaims::new(question("claude"), Some(&viewer), &decision, now());
        let lease = LeaseClaims::beside(&proof, &viewer, &decision);
        assert_eq!((proof.holds, lease.map(|lease| lease.grace)), (holds, grace), "{left}");
    }
}

#[test]
fn inv_09_failover_needs_view_and_what_the_llm_requires() {
    use FailoverReason::{Allowed, FailoverOff, Forbidden, NotFound, RunRequired};
    let world = world(WORLD);
    let table = [
        ("viewer", "claude", Allowed, Verb::View),
        ("viewer", "strict", RunRequired, Verb::Run),
        ("viewer", "central", FailoverOff, Verb::View),
        ("viewer", "none", NotFound, Verb::View),
        ("runner", "claude", Allowed, Verb::View),
        ("runner", "strict", Allowed, Verb::Run),
        ("runner", "central", FailoverOff, Verb::View),
        ("stranger", "claude", Forbidden, Verb::View),
        ("stranger", "strict", Forbidden, Verb::View),
        ("stranger", "none", Forbidden, Verb::View),
    ];
    for (name, llm, reason, verb) in table {
        let caller = principal(&world, name);
        let id = world.by_name(Kind::Llm, llm).map(|stored| stored.id().to_string());
        for asked in std::iter::once(llm.to_owned()).chain(id.clone()) {
            let decision = world.failover_decision(&caller, &asked);
            assert_eq!((decision.reason, decision.verb), (reason, verb), "{name} {asked}");
            let may_view = !matches!(reason, Forbidden | NotFound);
            assert_eq!(decision.llm.as_ref().map(ToString::to_string), id.clone().filter(|_| may_view));
            let has_grace = llm == "claude" && reason == Allowed;
            assert_eq!(decision.offline_grace.as_secs(), if has_grace { 60 } else { 0 });
        }
    }
}

#[test]
fn a_key_list_names_two_whole_keys() {
    let (current, next) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let list = KeyListClaims::new(current.public(), next.public(), now());
    let token = sign(&list, &current).unwrap();
    assert_eq!(verify(&token, &[*next.public(), *current.public()]), Ok(list.clone()));
    let mut reversed = list.clone();
    reversed.keys.reverse();
    let mut renamed = list.clone();
    renamed.keys[1].kid = current.public().id();
    let mut disguised = list.clone();
    disguised.keys[1].fingerprint = current.public().fingerprint();
    let twice = KeyListClaims::new(current.public(), current.public(), now());
    for wrong in [reversed, renamed, disguised, twice] {
        assert!(sign(&wrong, &current).is_err(), "{wrong:?}");
    }
}
