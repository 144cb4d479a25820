//! Signing in and out.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::browser::Browser;

const SIGN_IN: &str = "/console/sign-in";

/// The user `alice` with a password; returns a token of hers.
async fn with_password(mcpd: &Mcpd) -> String {
    let token = mcpd.user("alice", Some("llm-user")).await;
    mcpd.apply(json!([{"kind": "User", "name": "alice", "password": "correct horse battery"}])).await;
    token
}

async fn tokens(mcpd: &Mcpd, subject: &str) -> Vec<Value> {
    let path = format!("/api/v1/auth/token-status?subject={subject}");
    let list: Value = mcpd.get(&path, &mcpd.admin()).await.json().await.unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn password_begins_a_session_that_ends_at_the_store() {
    let mcpd = Mcpd::start().await;
    with_password(&mcpd).await;
    let browser = Browser::at(&mcpd);
    let page = browser.get("/console/llms?after=a").await;
    page.is(StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), "/console/sign-in?return_to=%2Fconsole%2Fllms%3Fafter%3Da");
    let wrong = [("user", "alice"), ("password", "wrong"), ("return_to", "/console/llms?after=a")];
    let page = browser.post(page.header("location"), SIGN_IN, &wrong).await;
    page.is(StatusCode::UNAUTHORIZED)
        .has("user or password is wrong")
        .has("value=\"alice\"")
        .lacks("wrong\"");
    assert_eq!(page.hidden("return_to"), "/console/llms?after=a");
    assert_eq!(browser.cookie("session"), None);
    let visitor = browser.cookie("visitor");
    let right =
        [("user", "alice"), ("password", "correct horse battery"), ("return_to", "/console/llms?after=a")];
    let page = browser.post(SIGN_IN, SIGN_IN, &right).await;
    page.is(StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), "/console/llms?after=a");
    assert!(visitor.is_some() && browser.cookie("visitor").is_none(), "nothing from before is kept");
    browser.get("/console/llms").await.is(StatusCode::OK).has("<span>alice</span>");
    let session = |tokens: &[Value]| tokens.iter().filter(|token| token["session"] == json!(true)).count();
    assert_eq!(session(&tokens(&mcpd, "alice").await), 1, "it is listed as every session is");

    // What the browser held is worth nothing after the sign-out.
    let held = browser.cookies.lock().unwrap().clone();
    let page = browser.post("/console/llms", "/console/sign-out", &[]).await;
    assert_eq!(page.header("location"), "/console/sign-in?signed_out=true");
    assert_eq!((browser.cookie("session"), session(&tokens(&mcpd, "alice").await)), (None, 0));
    browser.get(page.header("location")).await.is(StatusCode::OK).has("the session has ended");
    browser.cookies.lock().unwrap().extend(held);
    browser.get("/console/llms").await.is(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn session_of_a_token_is_as_narrow_and_ends_with_it() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["a"]}]);
    let body = json!({"name": "alice-narrow", "subject": {"kind": "User", "name": "alice"}, "expiresIn": "1h", "rules": rules});
    let narrow: Value = mcpd.post("/api/v1/tokens", &alice, &body).await.json().await.unwrap();
    mcpd.llm("a", "http://127.0.0.1:9/v1").await;
    mcpd.llm("b", "http://127.0.0.1:9/v1").await;

    let browser = Browser::signed_in(&mcpd, narrow["token"].as_str().unwrap()).await;
    browser.get("/console/llms").await.is(StatusCode::OK).has(">a</a>").lacks(">b</a>");
    let session = browser.cookie("session").unwrap();
    assert!(session.starts_with("mcpc_"), "the token itself stays out of the browser");
    let sessions = tokens(&mcpd, "alice").await;
    let session = sessions.iter().find(|token| token["session"] == json!(true)).unwrap();
    let stored: Value = mcpd
        .get(&format!("/api/v1/tokens/{}", session["id"].as_str().unwrap()), &mcpd.admin())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!((&stored["rules"], &stored["expiresAt"]), (&rules, &narrow["expiresAt"]));

    let wide = Browser::signed_in(&mcpd, &alice).await;
    wide.get("/console/llms").await.has(">b</a>");
    // A new secret ends the sessions that were begun with the old one.
    let rotated = mcpd.post("/api/v1/tokens/alice-narrow/rotate", &alice, &json!({"grace": "10m"})).await;
    assert_eq!(rotated.status(), StatusCode::CREATED);
    let rotated: Value = rotated.json().await.unwrap();
    browser.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    let replaced = [("token", narrow["token"].as_str().unwrap())];
    browser
        .post(SIGN_IN, SIGN_IN, &replaced)
        .await
        .is(StatusCode::FORBIDDEN)
        .has("was replaced by a rotation");

    let browser = Browser::signed_in(&mcpd, rotated["token"].as_str().unwrap()).await;
    assert_eq!(
        mcpd.delete("/api/v1/tokens/alice-narrow", &mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    browser.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    assert!(tokens(&mcpd, "alice").await.iter().all(|token| token["state"] == json!("active")));
    wide.get("/console/llms").await.is(StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_token_of_a_person_begins_no_session() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([{"kind": "ServiceAccount", "name": "job"}])).await;
    let body = json!({"name": "job", "subject": {"kind": "ServiceAccount", "name": "job"}});
    let job: Value = mcpd.post("/api/v1/tokens", &admin, &body).await.json().await.unwrap();
    let browser = Browser::at(&mcpd);
    for (token, status, message) in [
        ("", 401, "this is not a token of mcpd"),
        ("mcpd_x", 401, "this is not a token of mcpd"),
        (job["token"].as_str().unwrap(), 403, "belongs to a service account"),
    ] {
        let page = browser.post(SIGN_IN, SIGN_IN, &[("token", token)]).await;
        assert_eq!(page.status.as_u16(), status);
        page.has(message);
        assert_eq!(browser.cookie("session"), None);
    }
    browser.post(SIGN_IN, SIGN_IN, &[("user", "x")]).await.is(StatusCode::BAD_REQUEST);
    let both = [("user", "x"), ("password", "y"), ("token", "z")];
    browser.post(SIGN_IN, SIGN_IN, &both).await.is(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn session_begins_no_other_session() {
    let mcpd = Mcpd::start().await;
    let alice = with_password(&mcpd).await;
    // Neither what a browser holds nor the session of a command line, which an end of the first would not reach.
    let held = Browser::signed_in(&mcpd, &alice).await.cookie("session").unwrap();
    let login = json!({"user": "alice", "password": "correct horse battery"});
    let session: Value = mcpd.post("/api/v1/auth/login", "", &login).await.json().await.unwrap();
    for (token, status, message) in [
        (held.as_str(), 401, "this is not a token of mcpd"),
        (session["token"].as_str().unwrap(), 403, "is the token of a session, which begins no other"),
    ] {
        let browser = Browser::at(&mcpd);
        let page = browser.post(SIGN_IN, SIGN_IN, &[("token", token)]).await;
        assert_eq!(page.status.as_u16(), status);
        page.has(message);
        assert_eq!(browser.cookie("session"), None);
    }
}

#[tokio::test]
async fn sessions_of_a_token_make_room_among_themselves() {
    let mcpd = Mcpd::start().await;
    let alice = with_password(&mcpd).await;
    let wide = Browser::at(&mcpd);
    let right = [("user", "alice"), ("password", "correct horse battery")];
    wide.post(SIGN_IN, SIGN_IN, &right).await.is(StatusCode::SEE_OTHER);
    let first = Browser::signed_in(&mcpd, &alice).await;
    for _ in 0..8 {
        Browser::signed_in(&mcpd, &alice).await;
    }
    wide.get("/console/llms").await.is(StatusCode::OK);
    first.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    let sessions =
        tokens(&mcpd, "alice").await.iter().filter(|token| token["session"] == json!(true)).count();
    assert_eq!(sessions, 1 + 8);
}

#[tokio::test]
async fn new_sign_in_ends_the_session_that_the_browser_had() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    let before = browser.cookies.lock().unwrap().clone();
    browser.post(SIGN_IN, SIGN_IN, &[("token", &alice)]).await.is(StatusCode::SEE_OTHER);
    browser.get("/console/llms").await.is(StatusCode::OK);
    let kept = Browser::at(&mcpd);
    kept.cookies.lock().unwrap().extend(before);
    kept.get("/console/llms").await.is(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn planted_cookie_is_no_session_and_is_forgotten() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    let name = browser.cookies.lock().unwrap().keys().find(|name| name.contains("session")).unwrap().clone();
    // A token, which a server of another port may plant, is none of a session.
    browser.cookies.lock().unwrap().insert(name.clone(), alice.clone());
    browser.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    assert_eq!(browser.cookie("session"), None);
    browser.post(SIGN_IN, SIGN_IN, &[("token", &alice)]).await.is(StatusCode::SEE_OTHER);
    browser.get("/console/llms").await.is(StatusCode::OK);
}

#[tokio::test]
async fn cookie_counts_at_the_console_and_bearer_elsewhere() {
    let mcpd = Mcpd::start().await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    for path in ["/api/v1/users", "/v1/models", "/metrics"] {
        let page = browser.get(path).await;
        page.is(StatusCode::UNAUTHORIZED);
        assert_eq!(page.header("content-type"), "application/json", "{path}");
    }
    // Servers of other ports of the host read the cookie; what it holds is worth nothing at the API.
    let held = browser.cookie("session").unwrap();
    for path in ["/api/v1/auth/whoami", "/v1/models"] {
        assert_eq!(mcpd.get(path, &held).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let bearer = format!("Bearer {}", mcpd.admin());
    let stranger = Browser::at(&mcpd);
    let page = stranger.send(Method::GET, "/console/llms", &[("authorization", &bearer)], None).await;
    page.is(StatusCode::SEE_OTHER);
    // The cookie of another port's mcpd is another one.
    let other = Mcpd::start().await;
    let elsewhere = Browser::at(&other);
    elsewhere.cookies.lock().unwrap().extend(browser.cookies.lock().unwrap().clone());
    elsewhere.get("/console/llms").await.is(StatusCode::SEE_OTHER);
}
