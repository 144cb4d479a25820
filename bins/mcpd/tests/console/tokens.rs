//! The page of one's own tokens.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::{Browser, Page};

const TOKENS: &str = "/console/tokens";

/// The secret that a page shows.
fn secret(page: &Page) -> String {
    let rest = page.html.split("aria-label=\"Secret\">").nth(1).unwrap_or_else(|| panic!("{}", page.html));
    rest.split('<').next().unwrap().to_owned()
}

async fn whoami(mcpd: &Mcpd, bearer: &str) -> (StatusCode, Value) {
    let answer = mcpd.get("/api/v1/auth/whoami", bearer).await;
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn token_is_made_rotated_and_revoked_and_shown_once() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    let fields = [("name", "laptop"), ("expires_in", "7d"), ("llms", "gpt, claude-*")];
    let page = browser.post(TOKENS, TOKENS, &fields).await;
    page.is(StatusCode::OK).has("alice-laptop").has("never again");
    let first = secret(&page);
    let (status, me) = whoami(&mcpd, &first).await;
    assert_eq!(status, StatusCode::OK);
    let rules = json!([{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["gpt", "claude-*"]}]);
    assert_eq!((&me["token"], &me["rules"]), (&json!("alice-laptop"), &rules));
    for path in [TOKENS, "/console/tokens/alice-laptop"] {
        browser.get(path).await.is(StatusCode::OK).has("view,run llms gpt,claude-*").lacks(&first);
    }
    // The same form again makes no second one.
    browser.post(TOKENS, TOKENS, &fields).await.is(StatusCode::CONFLICT);

    let one = "/console/tokens/alice-laptop";
    let page = browser.post(one, "/console/tokens/alice-laptop/rotate", &[("grace", "")]).await;
    let second = secret(page.is(StatusCode::OK));
    assert_eq!(whoami(&mcpd, &first).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(whoami(&mcpd, &second).await.0, StatusCode::OK);
    // What ends with it is on the page before it is asked for.
    let session = Browser::signed_in(&mcpd, &second).await;
    session.get("/console/llms").await.is(StatusCode::OK);
    let revoke = "/console/tokens/alice-laptop/revoke";
    browser.get(one).await.has(&format!("href=\"{revoke}\""));
    browser.get(revoke).await.is(StatusCode::OK).has("ends too");
    let page = browser.post(revoke, revoke, &[]).await;
    assert!(page.header("location").starts_with("/console/tokens?revoked=alice-laptop&done="), "{page:?}");
    browser.get(page.header("location")).await.is(StatusCode::OK).has("alice-laptop is revoked");
    assert_eq!(whoami(&mcpd, &second).await.0, StatusCode::UNAUTHORIZED);
    session.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    browser.get(one).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn only_own_tokens_are_listed_and_others_cannot_be_touched() {
    let mcpd = Mcpd::start().await;
    let (alice, bob) = (mcpd.user("alice", None).await, mcpd.user("bob", None).await);
    let browser = Browser::signed_in(&mcpd, &alice).await;
    browser.get(TOKENS).await.has("alice-token").lacks("bob-token");
    browser.get("/console/tokens/bob-token").await.is(StatusCode::FORBIDDEN).has("Not allowed");
    for (path, fields) in [
        ("/console/tokens/bob-token/revoke", vec![]),
        ("/console/tokens/bob-token/rotate", vec![("grace", "")]),
    ] {
        browser.post(TOKENS, path, &fields).await.is(StatusCode::FORBIDDEN);
    }
    assert_eq!(whoami(&mcpd, &bob).await.0, StatusCode::OK);
    for (fields, message) in [
        ([("name", "x y"), ("expires_in", "7d"), ("llms", "")], "<code>x y</code> cannot be a name"),
        ([("name", "x"), ("expires_in", "400d"), ("llms", "")], "at most"),
        ([("name", "x"), ("expires_in", "soon"), ("llms", "")], "soon"),
        ([("name", "x"), ("expires_in", "7d"), ("llms", "a<b")], "a&#60;b"),
    ] {
        browser.post(TOKENS, TOKENS, &fields).await.is(StatusCode::BAD_REQUEST).has(message);
    }
    // A session that ends itself is signed out.
    let own = browser.get(TOKENS).await;
    let name = own.html.split("this session").next().unwrap().rsplit("/console/tokens/").next().unwrap();
    let name = name.split('"').next().unwrap().to_owned();
    let revoke = format!("/console/tokens/{name}/revoke");
    browser.get(&revoke).await.has("you will be signed out");
    let page = browser.post(&revoke, &revoke, &[]).await;
    page.is(StatusCode::SEE_OTHER);
    browser.get(TOKENS).await.is(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn wrong_entry_shows_the_form_again_with_what_was_typed() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    let fields = [("name", "Bad <Name>"), ("expires_in", "90d"), ("llms", "gpt, claude")];
    let page = browser.post(TOKENS, TOKENS, &fields).await;
    page.is(StatusCode::BAD_REQUEST).has("role=\"alert\"").has("lower-case letters").lacks("e-mail");
    page.has("value=\"Bad &#60;Name&#62;\" aria-invalid=\"true\"").has("value=\"gpt, claude\"");
    page.has("<option value=\"90d\" selected>").has("alice-token");
    assert_eq!(page.html.matches("aria-invalid").count(), 1);
    // A name that is taken, and the field of another error.
    let fields = [("name", "token"), ("expires_in", "7d"), ("llms", "a b<")];
    let page = browser.post(TOKENS, TOKENS, &fields).await;
    page.is(StatusCode::BAD_REQUEST).has("value=\"token\"").has("value=\"a b&#60;\" aria-invalid=\"true\"");
    let page = browser.post(TOKENS, TOKENS, &[("name", "token"), ("expires_in", "7d")]).await;
    page.is(StatusCode::CONFLICT)
        .has("value=\"token\"")
        .has("there is a Token <code>alice-token</code> already");
    // A new secret that cannot be is refused on the page of its token.
    let one = "/console/tokens/alice-token";
    let page = browser.post(one, &format!("{one}/rotate"), &[("grace", "900d")]).await;
    page.is(StatusCode::BAD_REQUEST).has("role=\"alert\"").has("is good for another hour");
}
