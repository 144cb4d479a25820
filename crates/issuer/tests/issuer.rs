//! An issuer's cache and its faults, against a provider that follows a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{sync::Arc, time::Duration};

use mcpctl_api::oidc::IssuerUrl;
use mcpctl_issuer::{Claims, Expected, Issuer, Lifetime, Lifetimes, TokenError, TokenKind, VerifyError};
use mcpctl_testkit::issuer::{Prescribed, ScriptedIssuer, discovery};
use mcpctl_upstream::{AddressPolicy, Client, ClientConfig};
use serde_json::{Value, json};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// Nothing that is known ends during a test.
const LONG: Duration = Duration::from_secs(24 * 3600);
const WHOLE_TEST: Lifetime = Lifetime { fresh: LONG, longest: LONG };
const LIFETIMES: Lifetimes = Lifetimes { metadata: WHOLE_TEST, keys: WHOLE_TEST, fetch_interval: LONG };
/// Fetched again at each use, and not used beyond it.
const ONE_USE: Lifetime = Lifetime { fresh: Duration::ZERO, longest: Duration::ZERO };

fn issuer_with(url: &str, loopback: bool, lifetimes: Lifetimes) -> Issuer {
    let addresses = Some(Arc::new(AddressPolicy { loopback, ..AddressPolicy::default() }));
    let client = Client::new(ClientConfig { addresses, ..ClientConfig::default() });
    Issuer::with_lifetimes(url.parse().unwrap(), client, lifetimes)
}

fn issuer_at(url: &str) -> Issuer {
    issuer_with(url, true, LIFETIMES)
}

async fn verify(issuer: &Issuer, token: &str) -> Result<Claims, VerifyError> {
    let url: IssuerUrl = issuer.url().clone();
    let kind = TokenKind::IdToken { nonce: None };
    issuer.verify(token, &Expected { issuer: &url, audience: "mcpctl", kind }).await
}

#[tokio::test]
async fn unknown_keys_cause_no_more_than_one_fetch() {
    let provider = ScriptedIssuer::start().await;
    let issuer = issuer_at(&provider.url());
    let claims = provider.claims("mcpctl", "alice");
    assert_eq!(verify(&issuer, &provider.sign(&claims)).await.unwrap().subject, "alice");
    for number in 0..1000 {
        let forged = provider.sign_under(&format!("made-up-{number}"), &claims);
        let error = verify(&issuer, &forged).await.unwrap_err();
        assert!(matches!(error, VerifyError::Token(TokenError::UnknownKey)), "{error}");
    }
    assert_eq!(provider.received(KEYS).len(), 1, "the keys were fetched just now");
}

#[tokio::test]
async fn rotated_keys_are_found_and_withdrawn_ones_are_not() {
    let provider = ScriptedIssuer::start().await;
    let often = Lifetimes { fetch_interval: Duration::ZERO, ..LIFETIMES };
    let issuer = issuer_with(&provider.url(), true, often);
    let claims = provider.claims("mcpctl", "alice");
    let old = provider.sign(&claims);
    assert!(verify(&issuer, &old).await.is_ok());
    provider.rotate("key-2");
    let new = provider.sign(&claims);
    assert_eq!(verify(&issuer, &new).await.unwrap().subject, "alice");
    assert!(verify(&issuer, &old).await.is_err(), "the issuer withdrew that key");
    assert_eq!(provider.received(DISCOVERY).len(), 1);

    // A key that is withdrawn while no other one is asked for ends with the lifetime of the cache.
    let brief = issuer_with(&provider.url(), true, Lifetimes { keys: ONE_USE, ..often });
    assert!(verify(&brief, &new).await.is_ok());
    provider.prescribe(KEYS, Prescribed::json(200, &json!({"keys": []})));
    assert!(verify(&brief, &new).await.is_err());
}

/// An outage of the provider is no reason to refuse what its last keys verify, as long as they are not too old.
#[tokio::test]
async fn last_good_keys_outlast_an_outage_for_a_bounded_time() {
    let provider = ScriptedIssuer::start().await;
    let claims = provider.claims("mcpctl", "alice");
    let token = provider.sign(&claims);
    let stale = Lifetime { fresh: Duration::ZERO, longest: LONG };
    let lifetimes = |keys| Lifetimes { metadata: stale, keys, fetch_interval: Duration::ZERO };
    let (tolerant, strict) = (
        issuer_with(&provider.url(), true, lifetimes(stale)),
        issuer_with(&provider.url(), true, lifetimes(ONE_USE)),
    );
    assert!(verify(&tolerant, &token).await.is_ok() && verify(&strict, &token).await.is_ok());
    for (path, fault) in [
        (KEYS, Prescribed::json(503, &json!({}))),
        (KEYS, Prescribed::json(200, &json!("no set"))),
        (DISCOVERY, Prescribed::json(500, &json!({}))),
    ] {
        provider.prescribe(path, fault);
        assert_eq!(verify(&tolerant, &token).await.unwrap().subject, "alice", "{path}");
        if path == KEYS {
            assert!(matches!(verify(&strict, &token).await, Err(VerifyError::Issuer(_))));
        }
        let forged = verify(&tolerant, &provider.sign_under("made-up", &claims)).await;
        assert!(matches!(forged, Err(VerifyError::Token(TokenError::UnknownKey))), "{forged:?}");
        provider.relent(path);
    }
    // What the issuer withdraws is withdrawn: an empty set is an answer.
    provider.prescribe(KEYS, Prescribed::json(200, &json!({"keys": []})));
    assert!(matches!(verify(&tolerant, &token).await, Err(VerifyError::Token(TokenError::UnknownKey))));
}

#[tokio::test]
async fn failures_are_remembered_for_a_while() {
    let provider = ScriptedIssuer::start().await;
    let (issuer, often) = (
        issuer_at(&provider.url()),
        issuer_with(&provider.url(), true, Lifetimes { fetch_interval: Duration::ZERO, ..LIFETIMES }),
    );
    provider.prescribe(DISCOVERY, Prescribed::json(503, &json!({})));
    for _ in 0..100 {
        assert!(issuer.metadata().await.unwrap_err().to_string().contains("503"));
    }
    assert_eq!(provider.received(DISCOVERY).len(), 1);
    assert!(often.metadata().await.is_err());
    provider.relent(DISCOVERY);
    assert!(often.metadata().await.is_ok() && issuer.metadata().await.is_err());
}

#[tokio::test]
async fn discovery_documents_that_lie_are_refused() {
    let provider = ScriptedIssuer::start().await;
    let url = provider.url();
    let with = |changes: Value| {
        let mut document = discovery(&url);
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Prescribed::json(200, &document)
    };
    let redirect =
        Prescribed { status: 302, headers: vec![("location", url.clone())], body: Default::default() };
    let cases = [
        (with(json!({"issuer": format!("{url}/")})), "names another issuer"),
        (with(json!({"issuer": "https://id.example.com"})), "names another issuer"),
        (with(json!({"jwks_uri": "http://id.example.com/keys"})), "not at an https address"),
        (with(json!({"token_endpoint": "file:///etc/passwd"})), "not at an https address"),
        (with(json!({"code_challenge_methods_supported": ["plain"]})), "PKCE"),
        (with(json!({"padding": "x".repeat(300_000)})), "larger than"),
        (Prescribed::json(200, &json!([])), "not usable"),
        (redirect, "redirect"),
    ];
    for (document, expected) in cases {
        provider.prescribe(DISCOVERY, document);
        let error = issuer_at(&url).metadata().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    provider.relent(DISCOVERY);
    let error = issuer_with(&url, false, LIFETIMES).metadata().await.unwrap_err().to_string();
    assert!(error.contains("loopback"), "{error}");
}
