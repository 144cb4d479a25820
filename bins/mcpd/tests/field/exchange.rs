//! Exchanging a workload's token: which ones are accepted, for which account, and what the new token allows and for how long.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing},
};
use mcpctl_store::{AuditFilter, Decision, Location, Store};
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    issuer::{Prescribed, ScriptedIssuer},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const BUILDER: &str = "system:serviceaccount:ci:builder";

fn ci() -> Value {
    json!({"kind": "ServiceAccount", "name": "ci"})
}

async fn trusting(issuer: &ScriptedIssuer, more: &str) -> Mcpd {
    let config = format!(
        "tokenExchange: {{issuers: [{{issuer: '{}'{more}}}]}}\nlimits: {{logins: {{perNetwork: {{burst: 100, every: 1s}}}}}}\n",
        issuer.url()
    );
    Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await
}

/// An mcpd whose account `ci` may view Llms and trusts the builders of a cluster.
async fn start(more: &str) -> (Mcpd, ScriptedIssuer) {
    let issuer = ScriptedIssuer::start().await;
    let mcpd = trusting(&issuer, more).await;
    let mut account = ci();
    account["trust"] = json!([
        {"issuer": issuer.url(), "audience": "other", "subject": "exact"},
        {"issuer": issuer.url(), "audience": "mcpd", "subject": "system:serviceaccount:ci:*"},
    ]);
    mcpd.apply(json!([
        account,
        {"kind": "ServiceAccount", "name": "plain"},
        {"kind": "RoleBinding", "name": "ci", "role": "llm-user", "subjects": [ci()]},
    ]))
    .await;
    (mcpd, issuer)
}

async fn exchange(mcpd: &Mcpd, account: &str, token: &str) -> Response {
    let request = json!({"serviceAccount": account, "token": token});
    mcpd.post("/api/v1/auth/token-exchange", "", &request).await
}

async fn exchanged(mcpd: &Mcpd, account: &str, token: &str) -> Value {
    let answer = exchange(mcpd, account, token).await;
    let (status, body) = (answer.status(), answer.json().await.unwrap());
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body
}

async fn message(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"]["message"].as_str().unwrap().to_owned())
}

fn seconds_left(issued: &Value) -> i64 {
    let end: jiff::Timestamp = issued["expiresAt"].as_str().unwrap().parse().unwrap();
    end.duration_since(jiff::Timestamp::now()).as_secs()
}

async fn audit(mcpd: &Mcpd, decision: Decision) -> Vec<(String, String)> {
    let key = master_key_file::load_or_create(&mcpd.data_dir().join("master-key"), IfMissing::Fail).unwrap();
    let location = Location::Sqlite(mcpd.data_dir().join("mcpd.sqlite"));
    let store = Store::open(&location, std::sync::Arc::new(Keyring::new(key))).await.unwrap();
    let rows = store.audit(&AuditFilter { limit: 1000, ..AuditFilter::default() }).await.unwrap();
    let exchanges = rows.into_iter().filter(|row| row.action == "exchange" && row.decision == decision);
    exchanges.map(|row| (row.principal, row.reason)).collect()
}

#[tokio::test]
async fn trusted_workload_gets_a_short_lived_token_of_the_account() {
    let (mcpd, issuer) = start("").await;
    let workload = issuer.sign(&issuer.claims("mcpd", BUILDER));
    let issued = exchanged(&mcpd, "ci", &workload).await;
    assert_eq!(issued["subject"], ci());
    // Not longer than the workload's own, which ends in five minutes.
    assert!((240..=300).contains(&seconds_left(&issued)), "{issued}");
    let token = issued["token"].as_str().unwrap();
    let me: Value = mcpd.get("/api/v1/auth/whoami", token).await.json().await.unwrap();
    assert_eq!((&me["subject"], &me["roles"]), (&ci(), &json!(["llm-user"])));
    // A longer one of the workload's does not make the new one longer than ten minutes, nor an hour where that is asked.
    let mut claims = issuer.claims("mcpd", BUILDER);
    claims["exp"] = json!(claims["exp"].as_u64().unwrap() + 86_400);
    let long = issuer.sign(&claims);
    assert!((540..=600).contains(&seconds_left(&exchanged(&mcpd, "ci", &long).await)));
    let asked = |expires_in: &str| json!({"serviceAccount": "ci", "token": long, "expiresIn": expires_in});
    let hour = mcpd.post("/api/v1/auth/token-exchange", "", &asked("1h")).await.json().await.unwrap();
    assert!((3540..=3600).contains(&seconds_left(&hour)));
    for beyond in ["61m", "0s"] {
        let refused = mcpd.post("/api/v1/auth/token-exchange", "", &asked(beyond)).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{beyond}");
    }
    // Again while it is valid; the logout ends one of them.
    let again = exchanged(&mcpd, "ci", &workload).await;
    assert_eq!(mcpd.post("/api/v1/auth/logout", token, &Value::Null).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", token).await.status(), StatusCode::UNAUTHORIZED);
    let again = again["token"].as_str().unwrap();
    assert_eq!(mcpd.get("/api/v1/auth/whoami", again).await.status(), StatusCode::OK);
    let rows = audit(&mcpd, Decision::Allowed).await;
    let expected = format!("{BUILDER} of {}, from ", issuer.url());
    assert_eq!(rows.len(), 4);
    assert!(
        rows.iter().all(|(who, why)| who == "ServiceAccount ci" && why.starts_with(&expected)),
        "{rows:?}"
    );

    // A workload that is trusted no longer is cut off at once.
    let patch = json!({"trust": [{"issuer": issuer.url(), "audience": "mcpd", "subject": "someone-else"}]});
    let patched = mcpd.request(Method::PATCH, "/api/v1/serviceaccounts/ci", &mcpd.admin()).json(&patch);
    assert_eq!(patched.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", again).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(exchange(&mcpd, "ci", &workload).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_tokens_and_accounts_are_refused_alike() {
    let (mcpd, issuer) = start("").await;
    let good = issuer.claims("mcpd", BUILDER);
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        issuer.sign(&claims)
    };
    let now = good["iat"].as_u64().unwrap();
    let untrusted = "the service account does not trust this token";
    let valid = issuer.sign(&good);
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let (_, rest) = valid.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let stranger = ScriptedIssuer::start().await;
    let mut forged = stranger.claims("mcpd", BUILDER);
    forged["iss"] = json!(issuer.url());
    for (what, account, token, expected) in [
        ("another audience", "ci", with("aud", json!("elsewhere")), untrusted),
        ("an audience of another entry", "ci", with("aud", json!("other")), untrusted),
        ("no audience", "ci", with("aud", json!([])), untrusted),
        ("another subject", "ci", with("sub", json!("system:serviceaccount:ci")), untrusted),
        ("a longer beginning", "ci", with("sub", json!("x-system:serviceaccount:ci:builder")), untrusted),
        ("no such account", "missing", valid.clone(), untrusted),
        ("an account without trust", "plain", valid.clone(), untrusted),
        ("expired", "ci", with("exp", json!(now - 120)), "the token has expired"),
        ("expired, no such account", "missing", with("exp", json!(now - 120)), "the token has expired"),
        (
            "another issuer",
            "ci",
            stranger.sign(&stranger.claims("mcpd", BUILDER)),
            "mcpd does not trust the issuer of this token",
        ),
        ("another issuer's key", "ci", stranger.sign(&forged), "the token's signature is wrong"),
        (
            "no algorithm",
            "ci",
            format!("{}.{claims}.", part(r#"{"alg":"none","kid":"key-1"}"#)),
            "the token's algorithm is not accepted",
        ),
        (
            "a shared secret",
            "ci",
            format!("{}.{claims}.{signature}", part(r#"{"alg":"HS256","kid":"key-1"}"#)),
            "the token's algorithm is not accepted",
        ),
        (
            "other claims",
            "ci",
            format!("{}.{}.{signature}", valid.split('.').next().unwrap(), part(&with_name(&good))),
            "the token's signature is wrong",
        ),
        ("no JWT", "ci", "mcpd_nonsense".to_owned(), "mcpd does not trust the issuer of this token"),
        ("mcpd's own", "ci", mcpd.admin(), "mcpd does not trust the issuer of this token"),
    ] {
        assert_eq!(
            message(exchange(&mcpd, account, &token).await).await,
            (401, expected.to_owned()),
            "{what}"
        );
    }
    assert_eq!(exchange(&mcpd, "not a name", &valid).await.status(), StatusCode::BAD_REQUEST);
    // A disabled account is none.
    let disable = json!({"disabled": true});
    let patched = mcpd.request(Method::PATCH, "/api/v1/serviceaccounts/ci", &mcpd.admin()).json(&disable);
    assert_eq!(patched.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(message(exchange(&mcpd, "ci", &valid).await).await, (401, untrusted.to_owned()));
    let list: Value = mcpd.get("/api/v1/tokens", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "the administrator's alone");
    let denied = audit(&mcpd, Decision::Denied).await;
    assert!(denied.len() >= 15 && denied.iter().all(|(_, why)| !why.contains("eyJ")), "{denied:?}");

    // Where the issuer cannot be reached, nothing is decided.
    let unreached = ScriptedIssuer::start().await;
    unreached.prescribe("/keys", Prescribed::json(500, &json!({})));
    let mcpd = trusting(&unreached, "").await;
    let token = unreached.sign(&unreached.claims("mcpd", BUILDER));
    assert_eq!(exchange(&mcpd, "ci", &token).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

fn with_name(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["sub"] = json!("system:serviceaccount:ci:forged");
    claims.to_string()
}

#[tokio::test]
async fn writing_trust_takes_what_making_a_credential_takes() {
    let (mcpd, issuer) = start("").await;
    let edit = json!([{"kinds": ["serviceaccounts"], "verbs": ["view", "edit", "create", "delete"], "names": ["*"]}]);
    let editor = mcpd.user_with_rules("editor", edit).await;
    let trust = json!({"trust": [{"issuer": issuer.url(), "audience": "mcpd", "subject": "mine"}]});
    let patch = async |who: &str, body: &Value| {
        let sent = mcpd.request(Method::PATCH, "/api/v1/serviceaccounts/ci", who).json(body);
        sent.send().await.unwrap().status()
    };
    assert_eq!(patch(&editor, &trust).await, StatusCode::FORBIDDEN);
    assert_eq!(patch(&editor, &json!({"description": "builds"})).await, StatusCode::OK, "it stays as it is");
    // One who may grant on the account and holds what it may do.
    let rules = json!([
        {"kinds": ["serviceaccounts"], "verbs": ["view", "edit", "grant"], "names": ["ci"]},
        {"kinds": ["llms"], "verbs": ["view", "run"], "names": ["*"]},
    ]);
    let granter = mcpd.user_with_rules("granter", rules.clone()).await;
    let narrow = json!({"name": "narrow", "subject": {"kind": "User", "name": "granter"}, "rules": rules});
    let narrowed: Value = mcpd.post("/api/v1/tokens", &mcpd.admin(), &narrow).await.json().await.unwrap();
    assert_eq!(
        patch(narrowed["token"].as_str().unwrap(), &trust).await,
        StatusCode::FORBIDDEN,
        "a narrowed token"
    );
    assert_eq!(patch(&granter, &trust).await, StatusCode::OK);
    let mine = issuer.sign(&issuer.claims("mcpd", "mine"));
    let token = exchanged(&mcpd, "ci", &mine).await["token"].as_str().unwrap().to_owned();
    // It is capped by the one who wrote the trust, and void without.
    mcpd.apply(json!([{"kind": "RoleBinding", "name": "ci-rises", "role": "admin", "subjects": [ci()]}]))
        .await;
    assert_eq!(mcpd.get("/api/v1/llms", &token).await.status(), StatusCode::OK);
    let secret = json!({"name": "s", "data": {"k": "v"}});
    assert_eq!(mcpd.post("/api/v1/secrets", &token, &secret).await.status(), StatusCode::FORBIDDEN);
    let deleted = mcpd.delete("/api/v1/users/granter", &mcpd.admin()).await;
    let warning = deleted.headers()["mcpctl-warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("the trust of ServiceAccount `ci` is void while User `granter`"), "{warning}");
    assert_eq!(mcpd.get("/api/v1/llms", &token).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(message(exchange(&mcpd, "ci", &mine).await).await.0, 403);
    // An administrator takes it over by writing it again.
    assert_eq!(patch(&mcpd.admin(), &trust).await, StatusCode::OK);
    exchanged(&mcpd, "ci", &mine).await;

    for (trust, why) in [
        (
            json!([{"issuer": "http://issuer.example", "audience": "a", "subject": "s"}]),
            "it begins with https://",
        ),
        (json!([{"issuer": issuer.url(), "audience": "a", "subject": "*"}]), "would trust every workload"),
        (
            json!([{"issuer": issuer.url(), "audience": "", "subject": "s"}]),
            "1 to 255 visible ASCII characters",
        ),
    ] {
        let body = json!({"kind": "ServiceAccount", "name": "bad", "trust": trust});
        let refused = message(mcpd.post("/api/v1/serviceaccounts", &mcpd.admin(), &body).await).await;
        assert!(refused.0 == 400 && refused.1.contains(why), "{refused:?}");
    }
}

/// The keys that the issuer publishes now.
async fn published_keys(issuer: &ScriptedIssuer) -> Vec<u8> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{}/keys", issuer.url())).send().await.unwrap();
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn keys_of_a_file_and_the_bounds_of_exchanges() {
    let issuer = ScriptedIssuer::start().await;
    let keys = published_keys(&issuer).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    std::fs::write(&file, &keys).unwrap();
    let mcpd = trusting(&issuer, &format!(", keysFile: '{}'", file.display())).await;
    let mut account = ci();
    account["trust"] = json!([{"issuer": issuer.url(), "audience": "mcpd", "subject": BUILDER}]);
    mcpd.apply(json!([account])).await;
    let before = issuer.received("/.well-known/openid-configuration").len();
    let workload = issuer.sign(&issuer.claims("mcpd", BUILDER));
    exchanged(&mcpd, "ci", &workload).await;
    assert_eq!(issuer.received("/.well-known/openid-configuration").len(), before, "nothing is fetched");
    // Another file is another key, without a restart.
    issuer.rotate("key-2");
    let workload = issuer.sign(&issuer.claims("mcpd", BUILDER));
    assert_eq!(exchange(&mcpd, "ci", &workload).await.status(), StatusCode::UNAUTHORIZED);
    let keys = published_keys(&issuer).await;
    std::fs::write(&file, &keys).unwrap();
    exchanged(&mcpd, "ci", &workload).await;

    // A page cannot send it, and a body that is too long is not read.
    let form =
        mcpd.request(Method::POST, "/api/v1/auth/token-exchange", "").header("content-type", "text/plain");
    assert_eq!(form.body("{}").send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = json!({"serviceAccount": "ci", "token": "x".repeat(9000)});
    let refused = mcpd.request(Method::POST, "/api/v1/auth/token-exchange", "").json(&long);
    let refused = refused.timeout(Duration::from_secs(30)).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// Refused tokens are counted by who presents them, and what is valid is not kept waiting for them.
#[tokio::test]
async fn noisy_job_keeps_no_other_workload_out() {
    let issuer = ScriptedIssuer::start().await;
    let rate = "{burst: 3, every: 1h}";
    let config = format!(
        "tokenExchange: {{issuers: [{{issuer: '{}'}}]}}\nlimits: {{logins: {{perNetwork: {rate}, perName: {rate}}}}}\n",
        issuer.url()
    );
    let mut mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let mut account = ci();
    account["trust"] = json!([{"issuer": issuer.url(), "audience": "mcpd", "subject": BUILDER}]);
    mcpd.apply(json!([account])).await;
    let good = issuer.sign(&issuer.claims("mcpd", BUILDER));
    let noisy = issuer.sign(&issuer.claims("mcpd", "noisy"));
    let forged = format!("{}x", &good[..good.len() - 2]);
    for (token, expected) in [(&forged, "tokens from your network"), (&noisy, "exchanges of this workload")] {
        let mut refusals = Vec::new();
        for _ in 0..5 {
            refusals.push(message(exchange(&mcpd, "ci", token).await).await);
        }
        assert!(refusals[..3].iter().all(|(status, _)| *status == 401), "{refusals:?}");
        assert!(
            refusals[3..].iter().all(|(status, text)| *status == 429 && text.contains(expected)),
            "{refusals:?}"
        );
        exchanged(&mcpd, "ci", &good).await;
    }
    // The same workload at the account that trusts it, whatever it was refused elsewhere.
    for _ in 0..5 {
        exchange(&mcpd, "other", &good).await;
    }
    let token = exchanged(&mcpd, "ci", &good).await;
    let stored: Value = mcpd.get("/api/v1/tokens", &mcpd.admin()).await.json().await.unwrap();
    let origin = json!({"issuer": issuer.url(), "subject": BUILDER});
    assert!(stored["items"].as_array().unwrap().iter().any(|token| token["origin"] == origin), "{stored}");

    // It ends when the issuer is listed no more.
    mcpd.restart_with("limits: {}\n").await;
    let ended = mcpd.get("/api/v1/auth/whoami", token["token"].as_str().unwrap()).await;
    assert_eq!(ended.status(), StatusCode::UNAUTHORIZED);
}
