//! Credentials for other accounts: which rights it takes to make them, and what they allow later.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

async fn allowed(mcpd: &Mcpd, token: &str, verb: &str, kind: &str) -> bool {
    let answer = mcpd.post("/api/v1/auth/can-i", token, &json!({"verb": verb, "kind": kind})).await;
    answer.status() == StatusCode::OK && answer.json::<Value>().await.unwrap()["allowed"] == true
}

async fn issue(mcpd: &Mcpd, maker: &str, name: &str, subject: Value) -> Result<String, StatusCode> {
    let answer = mcpd.post("/api/v1/tokens", maker, &json!({"name": name, "subject": subject})).await;
    match answer.status() {
        StatusCode::CREATED => {
            Ok(answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned())
        }
        status => Err(status),
    }
}

async fn login(mcpd: &Mcpd, name: &str, password: &str) -> Result<String, StatusCode> {
    let answer = mcpd.post("/api/v1/auth/login", "", &json!({"user": name, "password": password})).await;
    match answer.status() {
        StatusCode::CREATED => {
            Ok(answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned())
        }
        status => Err(status),
    }
}

async fn make_administrator(mcpd: &Mcpd, name: &str) {
    mcpd.apply(json!([
        {"kind": "RoleBinding", "name": format!("{name}-rises"), "role": "admin", "subjects": [user(name)]},
    ]))
    .await;
}

fn hr_rules(verbs: Value) -> Value {
    json!([
        {"kinds": ["users"], "verbs": verbs, "names": ["*"]},
        {"kinds": ["tokens"], "verbs": ["view", "create"], "names": ["*"]},
    ])
}

#[tokio::test]
async fn credential_for_another_account_needs_grant_on_it() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([user("newhire")])).await;
    let hr = mcpd.user_with_rules("hr", hr_rules(json!(["view", "create", "edit"]))).await;
    assert_eq!(issue(&mcpd, &hr, "t", user("newhire")).await, Err(StatusCode::FORBIDDEN));
    assert_eq!(
        issue(&mcpd, &hr, "t", user("not-there")).await,
        Err(StatusCode::FORBIDDEN),
        "nothing shows who exists"
    );
    let password = json!({"password": "correct horse battery"});
    let set = mcpd.request(Method::PATCH, "/api/v1/users/newhire", &hr).json(&password).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::FORBIDDEN);
    assert!(issue(&mcpd, &hr, "own", user("hr")).await.is_ok(), "for oneself it takes no more than `create`");
}

#[tokio::test]
async fn a_credential_does_not_rise_with_its_subject() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([user("newhire")])).await;
    let hr = mcpd.user_with_rules("hr", hr_rules(json!(["view", "create", "edit", "grant"]))).await;
    let early = issue(&mcpd, &hr, "early", user("newhire")).await.unwrap();
    let password = json!({"password": "correct horse battery"});
    let set = mcpd.request(Method::PATCH, "/api/v1/users/newhire", &hr).json(&password).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::OK);
    let session = login(&mcpd, "newhire", "correct horse battery").await.unwrap();

    make_administrator(&mcpd, "newhire").await;
    let later = login(&mcpd, "newhire", "correct horse battery").await.unwrap();
    for (what, token) in [("token", &early), ("session", &session), ("later session", &later)] {
        assert!(!allowed(&mcpd, token, "delete", "llms").await, "{what} of the maker's");
        assert_eq!(
            mcpd.post("/api/v1/secrets", token, &json!({"name": "s", "data": {"k": "v"}})).await.status(),
            StatusCode::FORBIDDEN,
            "{what}"
        );
    }
    // Neither does a credential that was made with it, nor a password that was set with it.
    let second = issue(&mcpd, &early, "second", user("newhire")).await.unwrap();
    assert!(!allowed(&mcpd, &second, "delete", "llms").await);
    let own = mcpd
        .request(Method::PATCH, "/api/v1/users/newhire", &early)
        .json(&json!({"password": "another horse battery"}))
        .send()
        .await
        .unwrap();
    assert_eq!(own.status(), StatusCode::OK, "an account may set its own");
    let session = login(&mcpd, "newhire", "another horse battery").await.unwrap();
    assert!(!allowed(&mcpd, &session, "delete", "llms").await);
    // An administrator's own credential for the account is what the account is.
    let real = issue(&mcpd, &mcpd.admin(), "real", user("newhire")).await.unwrap();
    assert!(allowed(&mcpd, &real, "delete", "llms").await);
    // What caps a credential ends it when it is gone.
    assert_eq!(mcpd.delete("/api/v1/users/hr", &mcpd.admin()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &early).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(login(&mcpd, "newhire", "another horse battery").await, Err(StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn demoted_maker_keeps_no_rights_through_others() {
    let mcpd = Mcpd::start().await;
    mcpd.user("alice", Some("admin")).await;
    let bob = mcpd.user("bob", Some("admin")).await;
    let through_alice = issue(&mcpd, &bob, "through-alice", user("alice")).await.unwrap();
    assert!(allowed(&mcpd, &through_alice, "delete", "llms").await);
    let demoted = mcpd.delete("/api/v1/rolebindings/bob-admin", &mcpd.admin()).await;
    assert_eq!(demoted.status(), StatusCode::NO_CONTENT);
    assert!(!allowed(&mcpd, &through_alice, "delete", "llms").await);
}

#[tokio::test]
async fn rename_does_not_hide_whose_password_is_set() {
    let mcpd = Mcpd::start().await;
    mcpd.user("boss", Some("admin")).await;
    let rules = hr_rules(json!(["view", "create", "edit", "delete"]));
    let hr = mcpd.user_with_rules("hr", rules).await;
    // The right to make credentials for the new name is not the right to make them for the old one.
    let granting = json!({"rules": [
        {"kinds": ["users"], "verbs": ["view", "create", "edit", "delete"], "names": ["*"]},
        {"kinds": ["users"], "verbs": ["grant"], "names": ["temp"]},
    ]});
    let role =
        mcpd.request(Method::PATCH, "/api/v1/roles/hr-role", &mcpd.admin()).json(&granting).send().await;
    assert_eq!(role.unwrap().status(), StatusCode::OK);
    for patch in [
        json!({"password": "correct horse battery"}),
        json!({"name": "temp", "password": "correct horse battery"}),
        json!({"name": "temp"}),
        json!({"password": null}),
    ] {
        let answer =
            mcpd.request(Method::PATCH, "/api/v1/users/boss", &hr).json(&patch).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{patch}");
    }
    for name in ["boss", "temp"] {
        assert_eq!(login(&mcpd, name, "correct horse battery").await, Err(StatusCode::UNAUTHORIZED));
    }
}

#[tokio::test]
async fn new_password_ends_sessions_and_can_be_removed() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([{"kind": "User", "name": "carol", "password": "correct horse battery"}])).await;
    let first = login(&mcpd, "carol", "correct horse battery").await.unwrap();
    let set = |password: Value| {
        mcpd.request(Method::PATCH, "/api/v1/users/carol", &admin).json(&json!({"password": password})).send()
    };
    assert_eq!(set(json!("another horse battery")).await.unwrap().status(), StatusCode::OK);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &first).await.status(), StatusCode::UNAUTHORIZED);
    let second = login(&mcpd, "carol", "another horse battery").await.unwrap();
    let other = json!({"displayName": "Carol"});
    let edit = mcpd.request(Method::PATCH, "/api/v1/users/carol", &admin).json(&other).send().await.unwrap();
    assert_eq!(edit.status(), StatusCode::OK);
    assert_eq!(
        mcpd.get("/api/v1/auth/whoami", &second).await.status(),
        StatusCode::OK,
        "other edits end nothing"
    );
    assert_eq!(set(Value::Null).await.unwrap().status(), StatusCode::OK);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &second).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(login(&mcpd, "carol", "another horse battery").await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn passwords_are_hashed_only_for_permitted_callers() {
    let mcpd = Mcpd::start().await;
    let mallory = mcpd
        .user_with_rules("mallory", json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["x"]}]))
        .await;
    let people: Vec<Value> = (0..1000)
        .map(|n| json!({"kind": "User", "name": format!("p{n}"), "password": "correct horse battery"}))
        .collect();
    let before = processor_time(mcpd.pid());
    let answer = mcpd.post("/api/v1/apply", &mallory, &Value::Array(people)).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let spent = processor_time(mcpd.pid()) - before;
    // A thousand hashes take some 20 s.
    assert!(spent < 3.0, "{spent} s");
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
