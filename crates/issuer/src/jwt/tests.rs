use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

/// An issuer with one key of each kind.
struct World {
    issuer: IssuerUrl,
    ec: EncodingKey,
    ed: EncodingKey,
    keys: Keys,
}

impl World {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
        let (ec, ed) = (EncodingKey::from_ec_der(ec.as_ref()), EncodingKey::from_ed_der(ed.as_ref()));
        let set = json!({"keys": [
            {"kty": "future", "kid": "f"},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            public(&ec, Algorithm::ES256, "ec"),
            public(&ed, Algorithm::EdDSA, "ed"),
        ]});
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        Self { issuer: "https://id.example.com".parse().unwrap(), ec, ed, keys }
    }

    fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_as(token, TokenKind::IdToken { nonce: Some("n-1") })
    }

    fn verify_as(&self, token: &str, kind: TokenKind<'_>) -> Result<Claims, TokenError> {
        let expected = Expected { issuer: &self.issuer, audience: "mcpctl", kind };
        verify(token, &self.keys, &expected, Timestamp::from_second(NOW).unwrap())
    }

    fn sign(&self, header: Value, claims: &Value) -> String {
        let key = if header["kid"] == "ed" { &self.ed } else { &self.ec };
        let algorithm = if header["kid"] == "ed" { Algorithm::EdDSA } else { Algorithm::ES256 };
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

fn public(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "mcpctl", "sub": "248289761001",
        "exp": NOW + 300, "iat": NOW, "nonce": "n-1",
    })
}

fn changed(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().shift_remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

#[test]
fn signed_token_with_right_claims_is_accepted() {
    let world = World::new();
    for (alg, kid) in [("ES256", "ec"), ("EdDSA", "ed")] {
        let verified = world.verify(&world.sign(json!({"alg": alg, "kid": kid}), &claims())).unwrap();
        assert_eq!(verified.subject, "248289761001");
        assert_eq!(verified.expires_at.as_second(), NOW + 300);
    }
}

#[test]
fn each_wrong_claim_is_refused() {
    let world = World::new();
    let malformed = TokenError::Malformed("");
    let cases = [
        (json!({"iss": "https://id.example.com/"}), TokenError::Issuer),
        (json!({"iss": ["https://id.example.com"]}), TokenError::Issuer),
        (json!({"iss": null}), TokenError::Issuer),
        (json!({"aud": "another"}), TokenError::Audience),
        (json!({"aud": null}), TokenError::Audience),
        (json!({"aud": ["another"]}), TokenError::Audience),
        (json!({"aud": ["another", "mcpctl"]}), TokenError::Audience),
        (json!({"aud": ["another", "mcpctl"], "azp": "another"}), TokenError::Audience),
        (json!({"azp": "another"}), TokenError::Audience),
        (json!({"azp": 7}), TokenError::Audience),
        (json!({"aud": ["mcpctl", 7]}), malformed.clone()),
        (json!({"exp": NOW - 60}), TokenError::Expired),
        (json!({"exp": null}), malformed.clone()),
        (json!({"exp": "never"}), malformed.clone()),
        (json!({"exp": -1}), malformed.clone()),
        (json!({"exp": 1e300}), malformed.clone()),
        (json!({"iat": NOW + 61}), TokenError::Early),
        (json!({"iat": null}), malformed.clone()),
        (json!({"nbf": NOW + 61}), TokenError::Early),
        (json!({"nonce": "n-2"}), TokenError::Nonce),
        (json!({"nonce": null}), TokenError::Nonce),
        (json!({"sub": ""}), malformed.clone()),
        (json!({"sub": null}), malformed.clone()),
        (json!({"sub": "a\nb"}), malformed.clone()),
        (json!({"sub": "x".repeat(256)}), malformed.clone()),
        (json!({"groups": "x".repeat(20_000)}), malformed),
    ];
    for (changes, expected) in cases {
        let error =
            world.verify(&world.sign(json!({"alg": "ES256", "kid": "ec"}), &changed(changes.clone())));
        let error = error.unwrap_err();
        let same = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
        assert!(same, "{changes}: {error:?}");
    }
    for changes in [
        json!({"exp": NOW - 59}),
        json!({"exp": 1_800_000_300.5}),
        json!({"iat": NOW + 60}),
        json!({"nbf": NOW + 60}),
        json!({"azp": "mcpctl"}),
        json!({"aud": ["another", "mcpctl"], "azp": "mcpctl"}),
    ] {
        let token = world.sign(json!({"alg": "ES256", "kid": "ec"}), &changed(changes.clone()));
        assert!(world.verify(&token).is_ok(), "{changes}");
    }
}

#[test]
fn each_wrong_header_or_key_is_refused() {
    let world = World::new();
    let sign = |header: Value| world.sign(header, &claims());
    for (header, expected) in [
        (json!({"alg": "none", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "NONE", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "HS256", "kid": "shared"}), TokenError::Algorithm),
        (json!({"alg": "HS256", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "ES512", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "RS256", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "EdDSA", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "ES256", "kid": "shared"}), TokenError::UnknownKey),
        (json!({"alg": "ES256", "kid": "rotated"}), TokenError::UnknownKey),
        (
            json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false}),
            TokenError::Malformed("its header has an extension that is not supported"),
        ),
        (
            json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}),
            TokenError::Malformed("it is of another type"),
        ),
    ] {
        assert_eq!(world.verify(&sign(header.clone())).unwrap_err(), expected, "{header}");
    }
    // Without a key id, the one key of the algorithm is meant.
    assert!(world.verify(&sign(json!({"alg": "ES256"}))).is_ok());
    // A key in the header is not the issuer's.
    let own = public(&World::new().ec, Algorithm::ES256, "ec");
    let foreign = World::new().sign(json!({"alg": "ES256", "kid": "ec", "jwk": own}), &claims());
    assert_eq!(world.verify(&foreign).unwrap_err(), TokenError::Signature);
    let token = sign(json!({"alg": "ES256", "kid": "ec"}));
    let (message, _) = token.rsplit_once('.').unwrap();
    for text in
        [message.to_owned(), format!("{message}."), format!("{token}.x"), "a.b.c".to_owned(), String::new()]
    {
        assert!(world.verify(&text).is_err(), "{text}");
    }
}

/// A workload's token needs no nonce and has no client of its own, and is bound to the audience all the same.
#[test]
fn workload_tokens_are_bound_to_their_audience() {
    let world = World::new();
    let verify = |changes: Value| {
        let header = json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"});
        world.verify_as(&world.sign(header, &changed(changes)), TokenKind::Workload)
    };
    assert!(verify(json!({"nonce": null, "azp": "kubernetes", "aud": ["mcpctl", "x"]})).is_ok());
    assert_eq!(verify(json!({"aud": "x"})).unwrap_err(), TokenError::Audience);
    assert_eq!(verify(json!({"exp": NOW - 60})).unwrap_err(), TokenError::Expired);
}

#[test]
fn issuer_is_read_without_trust() {
    let world = World::new();
    let token = world.sign(json!({"alg": "none"}), &claims());
    assert_eq!(named_issuer(&token).unwrap(), "https://id.example.com");
    assert_eq!(named_issuer("a.b.c"), None);
    assert_eq!(named_issuer(&"a.".repeat(20_000)), None);
}

#[test]
fn key_sets_are_bounded_and_lenient() {
    let key = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "use": "enc"});
    assert_eq!(Keys::read(json!({"keys": [key, 7, {}]}).to_string().as_bytes()).unwrap().0.len(), 0);
    let many = json!({"keys": vec![json!({}); 65]});
    assert!(Keys::read(many.to_string().as_bytes()).is_err());
    assert!(Keys::read(b"{}").is_err() && Keys::read(b"[]").is_err());
}
