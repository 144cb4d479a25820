//! Too many attempts to sign in: for how long, and how an administrator lifts it.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    replicas::Replicas,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn login(mcpd: &Mcpd, user: &str, password: &str) -> Response {
    mcpd.post("/api/v1/auth/login", "", &json!({"user": user, "password": password})).await
}

async fn lift(mcpd: &Mcpd, who: &str, body: Value) -> StatusCode {
    mcpd.post("/api/v1/admin/lift-throttle", who, &body).await.status()
}

#[tokio::test]
async fn throttled_user_is_told_for_how_long_and_lifted_by_an_administrator() {
    let limits =
        "limits: {logins: {perName: {burst: 2, every: 300s}, perNetwork: {burst: 8, every: 300s}}}\n";
    let mcpd =
        Mcpd::start_with(McpdOptions { config: Some(limits.to_owned()), ..McpdOptions::default() }).await;
    mcpd.apply(json!([{"kind": "User", "name": "alice", "password": "a long password"}])).await;
    for _ in 0..2 {
        assert_eq!(login(&mcpd, "alice", "a wrong password").await.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = login(&mcpd, "alice", "a long password").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let body: Value = refused.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!((200..=300).contains(&seconds), "{seconds}");
    assert!(
        message.starts_with("too many attempts to sign in as this user from your network; try again in 2"),
        "{body}"
    );
    assert!(
        body["error"]["hint"].as_str().unwrap().contains("mcpctl admin lift-throttle --user NAME"),
        "{body}"
    );

    // It takes the right to edit the user; a network takes an account that may do everything.
    let admin = mcpd.admin();
    let outsider = mcpd.user("outsider", None).await;
    let clerk = json!([{"kinds": ["users"], "verbs": ["edit"], "names": ["alice"]}]);
    let clerk = mcpd.user_with_rules("clerk", clerk).await;
    assert_eq!(lift(&mcpd, &outsider, json!({"user": "alice"})).await, StatusCode::FORBIDDEN);
    assert_eq!(lift(&mcpd, &outsider, json!({"user": "nobody"})).await, StatusCode::FORBIDDEN);
    assert_eq!(lift(&mcpd, &clerk, json!({"address": "127.0.0.1"})).await, StatusCode::FORBIDDEN);
    assert_eq!(lift(&mcpd, &admin, json!({})).await, StatusCode::BAD_REQUEST);
    assert_eq!(lift(&mcpd, &admin, json!({"user": "nobody"})).await, StatusCode::NOT_FOUND);
    assert_eq!(lift(&mcpd, &clerk, json!({"user": "alice"})).await, StatusCode::NO_CONTENT);
    assert_eq!(login(&mcpd, "alice", "a long password").await.status(), StatusCode::CREATED);
    let audit: Value =
        mcpd.get("/api/v1/audit?action=lift-throttle&decision=allowed", &admin).await.json().await.unwrap();
    let row = &audit["items"][0];
    assert_eq!((&row["principal"], &row["resourceName"]), (&json!("User clerk"), &json!("alice")), "{audit}");

    // Who may edit people does not get to guess an administrator's password.
    let all = json!([{"kinds": ["users"], "verbs": ["edit"], "names": ["*"]}]);
    let editor = mcpd.user_with_rules("editor", all).await;
    assert_eq!(lift(&mcpd, &editor, json!({"user": "alice"})).await, StatusCode::NO_CONTENT);
    assert_eq!(lift(&mcpd, &editor, json!({"user": "admin"})).await, StatusCode::FORBIDDEN);
    assert_eq!(lift(&mcpd, &admin, json!({"user": "admin"})).await, StatusCode::NO_CONTENT);

    // It is the server's: a document neither sets nor removes it.
    let user: Value = mcpd.get("/api/v1/users/alice", &admin).await.json().await.unwrap();
    assert!(user["throttleLiftedAt"].is_string(), "{user}");
    for document in [user.clone(), json!({"kind": "User", "name": "alice"})] {
        mcpd.apply(json!([document])).await;
        let after: Value = mcpd.get("/api/v1/users/alice", &admin).await.json().await.unwrap();
        assert_eq!(after["throttleLiftedAt"], user["throttleLiftedAt"]);
    }

    // A whole network.
    let mut status = StatusCode::UNAUTHORIZED;
    for number in 0..9 {
        status = login(&mcpd, &format!("made-up-{number}"), "a wrong password").await.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(lift(&mcpd, &admin, json!({"address": "127.0.0.1"})).await, StatusCode::NO_CONTENT);
    assert_eq!(login(&mcpd, "made-up", "a wrong password").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn lifted_user_signs_in_at_every_replica_at_once() {
    let replicas = Replicas::start_with("limits: {logins: {perName: {burst: 2, every: 1h}}}\n").await;
    let (one, two) = (&replicas.one, &replicas.two);
    one.apply(json!([{"kind": "User", "name": "alice", "password": "a long password"}])).await;
    for mcpd in [one, two] {
        for _ in 0..2 {
            login(mcpd, "alice", "a wrong password").await;
        }
        let refused = login(mcpd, "alice", "a long password").await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(lift(one, &one.admin(), json!({"user": "alice"})).await, StatusCode::NO_CONTENT);
    for mcpd in [two, one] {
        assert_eq!(login(mcpd, "alice", "a long password").await.status(), StatusCode::CREATED);
    }
}
