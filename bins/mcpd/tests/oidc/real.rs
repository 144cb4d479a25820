//! The whole way at a real provider, as a program and a browser go it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually},
    real_provider::RealProvider,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::refusal;

const VERIFIER: &str = "a-verifier-of-forty-three-or-more-characters";

async fn trusting(provider: &RealProvider, entry: &str) -> Mcpd {
    let config = format!(
        "oidc:\n  - {{name: corp, issuer: '{}', scopes: [openid, profile, groups], groupsClaim: groups, \
         autoCreate: true, {entry}}}\n",
        provider.issuer()
    );
    Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await
}

/// Signs in with a browser, as `mcpctl` does, with this verifier at the end.
async fn sign_in(mcpd: &Mcpd, provider: &RealProvider, account: &str, verifier: &str) -> reqwest::Response {
    let login = browsed(mcpd, provider, account, verifier).await;
    mcpd.post("/api/v1/auth/oidc/code", "", &login).await
}

/// What a sign-in with a browser brings to mcpd.
async fn browsed(mcpd: &Mcpd, provider: &RealProvider, account: &str, verifier: &str) -> Value {
    let methods: Value = mcpd.get("/api/v1/auth/methods", "").await.json().await.unwrap();
    let method = &methods["oidc"][0];
    let mut url: url::Url = method["authorizationEndpoint"].as_str().unwrap().parse().unwrap();
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", method["clientId"].as_str().unwrap()),
        ("redirect_uri", "http://127.0.0.1:4711/callback"),
        ("scope", "openid profile groups"),
        ("state", "state-1"),
        ("nonce", "nonce-1"),
        ("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))),
        ("code_challenge_method", "S256"),
    ]);
    let back = provider.browse(url.as_str(), account).await.expect("the way back");
    let back: url::Url = back.parse().unwrap();
    let field = |name: &str| back.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
    assert_eq!(back.port(), Some(4711));
    assert_eq!(
        (field("state").as_deref(), field("iss").as_deref()),
        (Some("state-1"), Some(provider.issuer()))
    );
    json!({
        "issuer": "corp", "code": field("code").unwrap(), "verifier": verifier, "nonce": "nonce-1", "redirectPort": 4711,
    })
}

#[tokio::test]
async fn code_with_pkce_signs_in_with_groups_across_key_rotation() {
    let mut provider = RealProvider::start(&json!({"alice": {"groups": ["eng"], "name": "Alice"}})).await;
    let mcpd = trusting(&provider, "clientId: mcpctl").await;
    let claims = json!([{"issuer": provider.issuer(), "value": "eng"}]);
    mcpd.apply(json!([
        {"kind": "Group", "name": "team", "claims": claims},
        {"kind": "RoleBinding", "name": "team", "role": "viewer", "subjects": [{"kind": "Group", "name": "team"}]},
    ]))
    .await;
    let issued = sign_in(&mcpd, &provider, "alice", VERIFIER).await;
    assert_eq!(issued.status(), StatusCode::CREATED);
    let issued: Value = issued.json().await.unwrap();
    let me: Value =
        mcpd.get("/api/v1/auth/whoami", issued["token"].as_str().unwrap()).await.json().await.unwrap();
    assert_eq!((&me["subject"]["name"], &me["groups"]), (&json!("alice"), &json!(["team"])));

    // A code is worth one session.
    let login = browsed(&mcpd, &provider, "alice", VERIFIER).await;
    let redeemed = async || mcpd.post("/api/v1/auth/oidc/code", "", &login).await;
    assert_eq!(redeemed().await.status(), StatusCode::CREATED);
    assert_eq!(redeemed().await.status(), StatusCode::UNAUTHORIZED);

    // A stolen code is worth nothing without the verifier.
    let (status, _, message) = refusal(sign_in(&mcpd, &provider, "alice", &"x".repeat(43)).await).await;
    assert_eq!(status, 401, "{message}");
    provider.rotate().await;
    eventually("the new key was found", async || {
        (sign_in(&mcpd, &provider, "bob", VERIFIER).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn device_code_and_a_confidential_client_sign_in() {
    use std::os::unix::fs::PermissionsExt as _;
    let provider = RealProvider::start(&json!({})).await;
    let (client, secret) = RealProvider::CONFIDENTIAL;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let entry = format!("clientId: {client}, clientSecretFile: '{}', deviceCode: true", path.display());
    let mcpd = trusting(&provider, &entry).await;
    assert_eq!(sign_in(&mcpd, &provider, "alice", VERIFIER).await.status(), StatusCode::CREATED);

    let begun = mcpd.post("/api/v1/auth/oidc/device", "", &json!({"issuer": "corp"})).await;
    let begun: Value = begun.json().await.unwrap();
    let poll = json!({"issuer": "corp", "deviceCode": begun["deviceCode"]});
    let poll = async || mcpd.post("/api/v1/auth/oidc/device/poll", "", &poll).await;
    assert_eq!(poll().await.status(), StatusCode::ACCEPTED);
    let complete = begun["verificationUriComplete"].as_str().unwrap();
    assert_eq!(provider.browse(complete, "carol").await, None);
    let issued = eventually("the approval arrived", async || {
        let answer = poll().await;
        (answer.status() != StatusCode::ACCEPTED).then_some(answer)
    })
    .await;
    assert_eq!(issued.status(), StatusCode::CREATED);
    let issued: Value = issued.json().await.unwrap();
    assert_eq!(issued["subject"]["name"], "carol");
}
