//! Every way in which a provider, or what a caller brings from it, can be wrong; each gets its own refusal and is recorded.

use mcpctl_testkit::{
    daemons::eventually,
    issuer::{Prescribed, ScriptedIssuer, discovery},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{CLIENT, World, refusal, sign_in, trusting};

#[tokio::test]
async fn tokens_that_are_not_for_this_sign_in_are_refused() {
    // The rate is about guesses; this test makes many.
    let world =
        World::start_with("autoCreate: true", "limits: {logins: {perNetwork: {burst: 1000, every: 1s}}}\n")
            .await;
    let now = world.provider.claims(CLIENT, "x")["iat"].as_u64().unwrap();
    for (claims, expected) in [
        (json!({"aud": "another"}), "another audience"),
        (json!({"aud": [CLIENT, "another"], "azp": "another"}), "another audience"),
        (json!({"iss": "https://id.example.com"}), "another issuer"),
        (json!({"nonce": "nonce-2"}), "another sign-in"),
        (json!({"nonce": null}), "another sign-in"),
        (json!({"exp": now - 120}), "expired"),
        (json!({"iat": now + 600}), "clocks"),
        (json!({"nbf": now + 600}), "clocks"),
        (json!({"sub": ""}), "malformed"),
    ] {
        world.vouch("alice", claims.clone());
        let (status, _, message) = refusal(world.sign_in().await).await;
        assert_eq!(status, 401, "{claims}: {message}");
        assert!(message.contains(expected), "{claims}: {message}");
    }
    let mut claims = world.provider.claims(CLIENT, "alice");
    claims["nonce"] = "nonce-1".into();
    let signed = world.provider.sign(&claims);
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (_, body) = message.split_once('.').unwrap();
    // `{"alg":"none"}` and `{"alg":"HS256"}`
    let forged = [format!("eyJhbGciOiJub25lIn0.{body}."), format!("eyJhbGciOiJIUzI1NiJ9.{body}.{signature}")];
    for token in forged.into_iter().chain([world.provider.sign_under("made-up", &claims), "x".repeat(20_000)])
    {
        world.provider.grant_token(&token);
        assert_eq!(world.sign_in().await.status(), StatusCode::UNAUTHORIZED, "{token}");
    }
    // Clocks may differ by a minute.
    world.vouch("alice", json!({"exp": now - 30, "iat": now + 30}));
    let token = world.token().await;
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::OK);
    let log = world.mcpd.log();
    assert!(log.contains("a sign-in by a provider was refused"), "{log}");
    assert!(!log.contains(body) && !log.contains(&"v".repeat(43)), "a token or a verifier is in the log");
}

#[tokio::test]
async fn key_rotation_at_the_provider_is_followed() {
    let world = World::start("autoCreate: true").await;
    world.vouch("alice", json!({}));
    world.token().await;
    world.provider.rotate("key-2");
    world.vouch("alice", json!({}));
    // Keys were fetched just now, so the next fetch waits; the provider's own old key is not trusted meanwhile.
    let signed_in = eventually("the new key was found", async || {
        (world.sign_in().await.status() == StatusCode::CREATED).then_some(())
    });
    signed_in.await;
    assert_eq!(world.provider.received("/keys").len(), 2);
}

#[tokio::test]
async fn provider_that_is_down_or_wrong_leaves_passwords_as_they_are() {
    let provider = ScriptedIssuer::start().await;
    let url = provider.url();
    let mut lying = discovery(&url);
    lying["issuer"] = "https://id.example.com".into();
    provider.prescribe("/.well-known/openid-configuration", Prescribed::json(200, &lying));
    let lied_to = trusting(&url, "autoCreate: true", "").await;
    let (status, code, message) = refusal(sign_in(&lied_to).await).await;
    assert_eq!((status, code.as_str()), (503, "provider_unavailable"));
    assert!(message.contains("names another issuer"), "{message}");
    provider.relent("/.well-known/openid-configuration");

    drop(provider);
    let mcpd = trusting(&url, "autoCreate: true", "").await;
    let (status, code, _) = refusal(sign_in(&mcpd).await).await;
    assert_eq!((status, code.as_str()), (503, "provider_unavailable"));
    let methods: Value = mcpd.get("/api/v1/auth/methods", "").await.json().await.unwrap();
    assert_eq!((&methods["password"], methods["oidc"][0].get("authorizationEndpoint")), (&json!(true), None));
    eventually("the start names it in the log", async || {
        mcpd.log().contains("an issuer cannot be used now").then_some(())
    })
    .await;
    let password = "a password of some length";
    mcpd.apply(json!([{"kind": "User", "name": "alice", "password": password}])).await;
    let login = json!({"user": "alice", "password": password});
    assert_eq!(mcpd.post("/api/v1/auth/login", "", &login).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn guesses_are_slowed_and_passwords_are_not() {
    let world = World::start_with(
        "autoCreate: true, deviceCode: true",
        "limits: {logins: {perNetwork: {burst: 20, every: 1h}}}\n",
    )
    .await;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(world.sign_in().await.status().as_u16());
    }
    assert_eq!((&statuses[..20], &statuses[20..]), (&[401; 20][..], &[429; 20][..]));
    assert_eq!(world.provider.received("/token").len(), 20, "a refused attempt reached the provider");
    // Passwords, and the other ways without one, are counted on their own.
    let begin = json!({"issuer": "corp"});
    assert_eq!(world.mcpd.post("/api/v1/auth/oidc/device", "", &begin).await.status(), StatusCode::OK);
    let token = json!({"serviceAccount": "ci", "token": "made.up"});
    let exchange = async || world.mcpd.post("/api/v1/auth/token-exchange", "", &token).await;
    assert_eq!(exchange().await.status(), StatusCode::UNAUTHORIZED);
    let login = json!({"user": "alice", "password": "a password of some length"});
    assert_eq!(world.mcpd.post("/api/v1/auth/login", "", &login).await.status(), StatusCode::UNAUTHORIZED);
    for body in [json!({"issuer": "other"}), json!({"issuer": "corp", "code": "c"}), json!([])] {
        assert_eq!(
            world.mcpd.post("/api/v1/auth/oidc/code", "", &body).await.status(),
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn secret_of_a_confidential_client_goes_to_the_provider_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "s3cret of: corp\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let world = World::start(&format!("autoCreate: true, clientSecretFile: '{}'", path.display())).await;
    world.vouch("alice", json!({}));
    world.token().await;
    let exchange = world.provider.received("/token").pop().unwrap();
    // `mcpctl:s3cret+of%3A+corp`
    assert_eq!(exchange.headers["authorization"], "Basic bWNwY3RsOnMzY3JldCtvZiUzQStjb3Jw");
    let methods = world.mcpd.get("/api/v1/auth/methods", "").await.text().await.unwrap();
    assert!(!methods.contains("s3cret") && !world.mcpd.log().contains("s3cret"), "{methods}");
}

#[tokio::test]
async fn device_code_is_opt_in_and_polled_within_its_pace() {
    let closed = World::start("autoCreate: true").await;
    let begin = json!({"issuer": "corp"});
    assert_eq!(
        closed.mcpd.post("/api/v1/auth/oidc/device", "", &begin).await.status(),
        StatusCode::BAD_REQUEST
    );
    assert!(closed.provider.received("/device").is_empty());

    let world = World::start("autoCreate: true, deviceCode: true").await;
    let begun: Value = world.mcpd.post("/api/v1/auth/oidc/device", "", &begin).await.json().await.unwrap();
    assert_eq!(begun["userCode"], "WDJB-MJHT");
    let poll = json!({"issuer": "corp", "deviceCode": begun["deviceCode"]});
    let poll = async || world.mcpd.post("/api/v1/auth/oidc/device/poll", "", &poll).await;
    let pending = Prescribed::json(400, &json!({"error": "authorization_pending"}));
    world.provider.prescribe("/token", pending);
    for _ in 0..50 {
        assert_eq!(poll().await.status(), StatusCode::ACCEPTED, "a program in a hurry costs no attempt");
    }
    assert!(world.provider.received("/token").len() < 50);
    // Many at once are one: what was approved begins one session.
    let at_once = futures::future::join_all((0..40).map(|_| poll())).await;
    assert!(at_once.iter().all(|answer| answer.status() == StatusCode::ACCEPTED));
    world.provider.prescribe("/token", Prescribed::json(400, &json!({"error": "access_denied"})));
    let refused = eventually("the refusal arrived", async || {
        let answer = poll().await;
        (answer.status() != StatusCode::ACCEPTED).then_some(answer)
    });
    assert_eq!(refused.await.status(), StatusCode::UNAUTHORIZED);
    // An ID token of this way has no nonce.
    world.provider.grant(&world.provider.claims(CLIENT, "alice"));
    assert_eq!(refusal(poll().await).await.1, "no_name");
    world.vouch("alice", json!({}));
    assert_eq!(poll().await.status(), StatusCode::CREATED);
}

/// People whom a provider vouches for are not guessed: a person who may not sign in does not use up what colleagues have.
#[tokio::test]
async fn refused_person_does_not_slow_the_network() {
    let limits = "limits: {logins: {perNetwork: {burst: 3, every: 1h}, perName: {burst: 6, every: 1h}}}\n";
    let world = World::start_with("autoCreate: {claims: {team: [a]}}", limits).await;
    for _ in 0..6 {
        world.vouch("mallory", json!({}));
        assert_eq!(refusal(world.sign_in().await).await.1, "not_admitted");
    }
    world.vouch("alice", json!({"team": "a"}));
    world.token().await;
    // Beyond a person's own rate it is one of the network.
    for _ in 0..3 {
        world.vouch("mallory", json!({}));
        assert_eq!(refusal(world.sign_in().await).await.1, "not_admitted");
    }
    let (status, _, message) = refusal(world.sign_in().await).await;
    assert_eq!(status, 429);
    assert!(
        message.contains("too many sign-ins by a provider from your network did not succeed; try again in"),
        "{message}"
    );
}
