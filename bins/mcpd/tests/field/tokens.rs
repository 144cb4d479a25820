//! Tokens over their life: rotation, last use, and what becomes of them when the account that made them goes.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn whoami(mcpd: &Mcpd, token: &str) -> StatusCode {
    mcpd.get("/api/v1/auth/whoami", token).await.status()
}

async fn issue(mcpd: &Mcpd, maker: &str, body: Value) -> Value {
    let answer = mcpd.post("/api/v1/tokens", maker, &body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json().await.unwrap()
}

async fn rotate(mcpd: &Mcpd, who: &str, target: &str, body: Value) -> Result<Value, (StatusCode, Value)> {
    let answer = mcpd.post(&format!("/api/v1/tokens/{target}/rotate"), who, &body).await;
    let status = answer.status();
    let body = answer.json().await.unwrap();
    if status == StatusCode::CREATED { Ok(body) } else { Err((status, body)) }
}

async fn status(mcpd: &Mcpd, target: &str) -> Value {
    mcpd.get(&format!("/api/v1/tokens/{target}/status"), &mcpd.admin()).await.json().await.unwrap()
}

async fn revision(mcpd: &Mcpd) -> u64 {
    let list: Value = mcpd.get("/api/v1/llms", &mcpd.admin()).await.json().await.unwrap();
    list["revision"].as_u64().unwrap()
}

fn ci() -> Value {
    json!({"kind": "ServiceAccount", "name": "ci"})
}

#[tokio::test]
async fn rotated_token_keeps_everything_but_its_secret() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let binding = json!({"kind": "RoleBinding", "name": "ci", "role": "llm-user", "subjects": [ci()]});
    mcpd.apply(json!([ci(), binding])).await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]);
    let old =
        issue(&mcpd, &admin, json!({"name": "t", "subject": ci(), "expiresIn": "90d", "rules": rules})).await;
    let new = rotate(&mcpd, &admin, "t", json!({})).await.unwrap();
    assert_eq!(
        (&new["id"], &new["name"], &new["subject"], &new["rules"]),
        (&old["id"], &json!("t"), &ci(), &rules)
    );
    assert_eq!(whoami(&mcpd, old["token"].as_str().unwrap()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mcpd, new["token"].as_str().unwrap()).await, StatusCode::OK);
    // It is good for as long as the old one was made for.
    let days = |issued: &Value| {
        let end: jiff::Timestamp = issued["expiresAt"].as_str().unwrap().parse().unwrap();
        (end.duration_since(jiff::Timestamp::now()).as_secs() + 60) / 86_400
    };
    assert_eq!((days(&old), days(&new)), (90, 90));

    // With a grace period both secrets are good, and the old one is a token that ends.
    let newest = rotate(&mcpd, &admin, "t", json!({"grace": "1h", "expiresIn": "1d"})).await.unwrap();
    for token in [&new, &newest] {
        assert_eq!(whoami(&mcpd, token["token"].as_str().unwrap()).await, StatusCode::OK);
    }
    let me: Value =
        mcpd.get("/api/v1/auth/whoami", new["token"].as_str().unwrap()).await.json().await.unwrap();
    let kept = me["token"].as_str().unwrap();
    assert!(kept.starts_with("t-old-") && me["rules"] == rules, "{me}");
    assert_eq!(days(&json!({"expiresAt": me["expiresAt"]})), 0);
    assert_eq!(mcpd.delete(&format!("/api/v1/tokens/{kept}"), &admin).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(whoami(&mcpd, new["token"].as_str().unwrap()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mcpd, newest["token"].as_str().unwrap()).await, StatusCode::OK);

    // Old secrets end with the next rotation, and with the token.
    let secret = |issued: &Value| issued["token"].as_str().unwrap().to_owned();
    let next = rotate(&mcpd, &admin, "t", json!({"grace": "1h"})).await.unwrap();
    assert_eq!(whoami(&mcpd, &secret(&newest)).await, StatusCode::OK);
    let last = rotate(&mcpd, &admin, "t", json!({"grace": "1h"})).await.unwrap();
    assert_eq!(whoami(&mcpd, &secret(&newest)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mcpd, &secret(&next)).await, StatusCode::OK);
    let deleted = mcpd.delete("/api/v1/tokens/t", &admin).await;
    assert!(deleted.headers()["mcpctl-warning"].to_str().unwrap().starts_with("the old secret `t-old-"));
    for ended in [&next, &last] {
        assert_eq!(whoami(&mcpd, &secret(ended)).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn rotation_is_refused_with_the_field_that_is_wrong() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([ci()])).await;
    issue(&mcpd, &admin, json!({"name": "t", "subject": ci()})).await;
    for (body, param) in [
        (json!({"grace": "8d"}), "grace"),
        (json!({"expiresIn": "0s"}), "expiresIn"),
        (json!({"expiresIn": "367d"}), "expiresIn"),
    ] {
        let (status, refused) = rotate(&mcpd, &admin, "t", body).await.unwrap_err();
        assert_eq!((status, &refused["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(param)));
    }
}

#[tokio::test]
async fn rotating_takes_the_right_to_make_such_a_token() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([ci()])).await;
    let made = issue(&mcpd, &admin, json!({"name": "t", "subject": ci()})).await;
    let id = made["id"].as_str().unwrap();
    let all = json!([{"kinds": ["tokens"], "verbs": ["view", "edit", "create", "delete"], "names": ["*"]}]);
    let some = json!([{"kinds": ["tokens"], "verbs": ["create"], "names": ["x-*"]}]);
    let (clerk, other) =
        (mcpd.user_with_rules("clerk", all).await, mcpd.user_with_rules("other", some).await);
    let outsider = mcpd.user("outsider", None).await;
    for (who, target) in [
        (&clerk, "t"),
        (&clerk, id),
        (&other, "t"),
        (&other, id),
        (&outsider, "t"),
        (&outsider, id),
        (&outsider, "missing"),
        (&other, "cabcdefghijklmnopqrstuvwx"),
    ] {
        let (status, body) = rotate(&mcpd, who, target, json!({})).await.unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN, "{target}: {body}");
    }
    assert_eq!(rotate(&mcpd, &clerk, "missing", json!({})).await.unwrap_err().0, StatusCode::NOT_FOUND);
    assert_eq!(whoami(&mcpd, made["token"].as_str().unwrap()).await, StatusCode::OK, "nothing has changed");
    // One's own, also the one that is presented.
    let own = rotate(&mcpd, &clerk, "clerk-token", json!({})).await.unwrap();
    assert_eq!(whoami(&mcpd, &clerk).await, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mcpd, own["token"].as_str().unwrap()).await, StatusCode::OK);
    // A narrowed token renews itself, and no other one.
    let rules = json!([{"kinds": ["tokens"], "verbs": ["create", "view"], "names": ["clerk-*"]}]);
    let clerk = own["token"].as_str().unwrap();
    let subject = json!({"kind": "User", "name": "clerk"});
    let narrow =
        issue(&mcpd, clerk, json!({"name": "clerk-narrow", "subject": subject, "rules": rules})).await;
    let narrow = narrow["token"].as_str().unwrap();
    let (status, refused) = rotate(&mcpd, narrow, "clerk-token", json!({})).await.unwrap_err();
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::FORBIDDEN, &json!("escalation")));
    assert_eq!(rotate(&mcpd, narrow, "clerk-narrow", json!({})).await.unwrap()["rules"], rules);
}

#[tokio::test]
async fn credentials_of_a_deleted_maker_are_void_until_taken_over() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let hr = mcpd.user("hr", Some("admin")).await;
    mcpd.apply(json!([ci()])).await;
    let token = issue(&mcpd, &hr, json!({"name": "t", "subject": ci()})).await;
    let secret = json!({"name": "s", "data": {"k": "v"}});
    assert_eq!(mcpd.post("/api/v1/secrets", &hr, &secret).await.status(), StatusCode::CREATED);
    let llm = json!({"name": "a", "type": "openai", "url": "http://127.0.0.1:1", "model": "m", "apiKey": {"secret": "s", "key": "k"}});
    assert_eq!(mcpd.post("/api/v1/llms?skipCheck=true", &hr, &llm).await.status(), StatusCode::CREATED);
    assert_eq!(status(&mcpd, "t").await["state"], "active");

    let deleted = mcpd.delete("/api/v1/users/hr", &admin).await;
    let warning = deleted.headers()["mcpctl-warning"].to_str().unwrap().to_owned();
    for expected in
        ["1 token(s) that User `hr` made for others are void", "Llm `a` sends no key while User `hr`"]
    {
        assert!(warning.contains(expected), "{warning}");
    }
    let void = status(&mcpd, "t").await;
    assert_eq!(
        (&void["state"], &void["reason"]),
        (&json!("void"), &json!("an account that made the credential is gone or disabled"))
    );
    assert_eq!(whoami(&mcpd, token["token"].as_str().unwrap()).await, StatusCode::UNAUTHORIZED);
    let new = rotate(&mcpd, &admin, "t", json!({})).await.unwrap();
    assert_eq!(whoami(&mcpd, new["token"].as_str().unwrap()).await, StatusCode::OK);
    assert_eq!(status(&mcpd, "t").await["state"], "active");

    let llm: Value = mcpd.get("/api/v1/llms/a/status", &admin).await.json().await.unwrap();
    assert_eq!(
        llm["voidKeys"],
        json!([{"field": "apiKey", "secret": "s", "reason": "an account that attached it is deleted or disabled"}])
    );
    let patch = json!({"apiKey": {"secretId": null}});
    let patched = mcpd.request(Method::PATCH, "/api/v1/llms/a?skipCheck=true", &admin).json(&patch);
    assert_eq!(patched.send().await.unwrap().status(), StatusCode::OK);
    let llm: Value = mcpd.get("/api/v1/llms/a/status", &admin).await.json().await.unwrap();
    assert_eq!(llm["voidKeys"], Value::Null);
}

#[tokio::test]
async fn last_use_is_shown_survives_a_restart_and_is_no_change() {
    let mut mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([ci()])).await;
    let token = issue(&mcpd, &admin, json!({"name": "t", "subject": ci()})).await;
    assert_eq!(status(&mcpd, "t").await["lastUsedAt"], Value::Null);
    let before = revision(&mcpd).await;
    assert_eq!(whoami(&mcpd, token["token"].as_str().unwrap()).await, StatusCode::OK);
    let used = status(&mcpd, "t").await["lastUsedAt"].clone();
    assert!(used.is_string());
    assert_eq!(revision(&mcpd).await, before);
    mcpd.terminate();
    mcpd.wait();
    mcpd.restart().await;
    assert_eq!(status(&mcpd, "t").await["lastUsedAt"], used);
    assert_eq!(revision(&mcpd).await, before);

    // A list shows what one may view, one's own among it, and nothing else.
    let rules = json!([{"kinds": ["tokens"], "verbs": ["view"], "names": ["t"]}]);
    let viewer = mcpd.user_with_rules("viewer", rules).await;
    let list: Value = mcpd.get("/api/v1/auth/token-status", &viewer).await.json().await.unwrap();
    let names: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["token"]).collect();
    assert_eq!(names, [&json!("t"), &json!("viewer-token")]);
    assert_eq!(mcpd.get("/api/v1/tokens/viewer-token/status", &viewer).await.status(), StatusCode::FORBIDDEN);
}
