//! Who sees whose access, people and records, and who may revoke.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::Browser;

const REVOKE: &str = "/console/access/revoke";
const OF_BOB: &str = "/console/access/revoke?binding=bob-llm-user&subject=bob";

async fn with_people() -> (Mcpd, String) {
    let mcpd = Mcpd::start().await;
    mcpd.llm("gpt", "http://127.0.0.1:9/v1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    mcpd.user("bob", Some("llm-user")).await;
    (mcpd, alice)
}

#[tokio::test]
async fn people_see_what_is_about_themselves_and_nothing_of_others() {
    let (mcpd, alice) = with_people().await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    browser.get("/console/access").await.is(StatusCode::OK).has("What you may use").has("runs").lacks("bob");
    let why = browser.get("/console/access/why?subject=alice&llm=gpt").await;
    why.is(StatusCode::OK).has("alice-llm-user").lacks("Revoke…");
    browser.get("/console/people").await.is(StatusCode::OK).has("none that you may view").lacks("bob");
    let own = browser.get("/console/people/users/alice").await;
    own.is(StatusCode::OK).has("alice-llm-user").has("alice-token").lacks("/console/access/revoke");
    for page in ["usage", "failovers", "audit"] {
        browser.get(&format!("/console/{page}")).await.is(StatusCode::OK);
        browser.get(&format!("/console/{page}?subject=bob")).await.is(StatusCode::FORBIDDEN);
    }
    browser.get("/console/agents").await.is(StatusCode::OK).has("No agent has handed");
    for page in [
        "/console/people/users/bob",
        "/console/people/users/nobody",
        "/console/people/groups/devs",
        "/console/access/why?subject=bob&llm=gpt",
        "/console/access/revoke?binding=alice-llm-user",
        OF_BOB,
    ] {
        browser.get(page).await.is(StatusCode::FORBIDDEN).lacks("bob-token");
    }
    let fields = [("binding", "bob-llm-user"), ("subject", "bob"), ("way", "subject"), ("expected", "1")];
    browser.post("/console/access", REVOKE, &fields).await.is(StatusCode::FORBIDDEN);
    // The records of the denials are about her, and shown to her.
    browser.get("/console/audit?decision=denied").await.has("User alice").has("users/bob");
}

#[tokio::test]
async fn revoke_changes_what_was_shown_or_nothing() {
    let (mcpd, _) = with_people().await;
    let (admin, browser) = (mcpd.admin(), Browser::signed_in(&mcpd, &mcpd.admin()).await);
    let binding = async || mcpd.get("/api/v1/rolebindings/bob-llm-user", &admin).await;
    let page = browser.get(OF_BOB).await;
    page.is(StatusCode::OK).has("RoleBinding <code>bob-llm-user</code> is deleted");
    assert_eq!(binding().await.status(), StatusCode::OK, "looking at it changes nothing");
    // It is the only subject, so that there is one way alone, and its page calls it what it is.
    page.has("<button class=\"danger\">Delete the binding bob-llm-user</button>")
        .has("the only one that the binding names");
    page.lacks("Instead").lacks("out of the binding");
    let expected = page.hidden("expected");
    let fields = [
        ("binding", "bob-llm-user"),
        ("subject", "bob"),
        ("way", "subject"),
        ("expected", expected.as_str()),
    ];

    // Another administrator has changed the binding since: it has a second subject.
    let subjects = json!([{"kind": "User", "name": "bob"}, {"kind": "User", "name": "alice"}]);
    mcpd.apply(
        json!([{"kind": "RoleBinding", "name": "bob-llm-user", "role": "llm-user", "subjects": subjects}]),
    )
    .await;
    browser.post(OF_BOB, REVOKE, &fields).await.is(StatusCode::PRECONDITION_FAILED).has("is at revision");
    let shown = browser.get(OF_BOB).await;
    shown.has("RoleBinding <code>bob-llm-user</code> is changed").has("May no longer run");
    let expected = shown.hidden("expected");
    let fields = [
        ("binding", "bob-llm-user"),
        ("subject", "bob"),
        ("way", "subject"),
        ("expected", expected.as_str()),
    ];
    let done = browser.post(OF_BOB, REVOKE, &fields).await;
    assert!(done.header("location").starts_with("/console/people/users/bob?done="), "{done:?}");
    let left: Value = binding().await.json().await.unwrap();
    assert_eq!(left["subjects"], json!([{"kind": "User", "name": "alice"}]));
    browser
        .get(done.header("location"))
        .await
        .has("The access is revoked")
        .has("No binding gives it a right");
    // The confirmation is for this session alone, and a link confirms nothing.
    let other = Browser::signed_in(&mcpd, &admin).await;
    other.get(done.header("location")).await.is(StatusCode::OK).lacks("The access is revoked");
    for link in [
        "/console/people/users/bob?done=true",
        "/console/access?done=1.00",
        "/console/tokens?revoked=admin&done=1",
    ] {
        browser.get(link).await.is(StatusCode::OK).lacks("role=\"status\">The");
    }
    browser.get("/console/people/users/bob?revoked=true").await.is(StatusCode::BAD_REQUEST);
    browser.get("/console/sign-in?signed_out=true").await.is(StatusCode::OK).lacks("You are signed out");

    browser.get(OF_BOB).await.is(StatusCode::BAD_REQUEST).has("does not name User bob");
    browser.get("/console/access/revoke?binding=none").await.is(StatusCode::NOT_FOUND);
    let last: Value = mcpd.get("/api/v1/rolebindings", &admin).await.json().await.unwrap();
    let last = last["items"].as_array().unwrap().iter().find(|item| item["role"] == "admin").unwrap();
    let page = format!("/console/access/revoke?binding={}", last["name"].as_str().unwrap());
    browser
        .get(&page)
        .await
        .is(StatusCode::CONFLICT)
        .has("no active administrator who can sign in would be left");
}

#[tokio::test]
async fn looking_at_a_revocation_is_no_attempt_of_one() {
    let (mcpd, _) = with_people().await;
    let rules = json!([{"kinds": ["*"], "verbs": ["view"], "names": ["*"]}]);
    let viewer = mcpd.user_with_rules("viewer", rules).await;
    let browser = Browser::signed_in(&mcpd, &viewer).await;
    browser.get(OF_BOB).await.is(StatusCode::FORBIDDEN).has("delete");
    let denials = async || {
        let page: Value = mcpd
            .get("/api/v1/audit?subject=viewer&decision=denied", &mcpd.admin())
            .await
            .json()
            .await
            .unwrap();
        page["items"].as_array().unwrap().len()
    };
    assert_eq!(denials().await, 0);
    let fields = [("binding", "bob-llm-user"), ("subject", "bob"), ("way", "subject"), ("expected", "1")];
    browser.post("/console/access", REVOKE, &fields).await.is(StatusCode::FORBIDDEN);
    assert_eq!(denials().await, 1);
}

#[tokio::test]
async fn table_of_access_has_pages_of_accounts_and_of_llms() {
    let mcpd = Mcpd::start().await;
    let number = |n: usize| format!("{n:03}");
    let users = (0..60).map(|n| json!({"kind": "User", "name": format!("u-{}", number(n))}));
    let llms = (0..20).map(|n| {
        json!({"kind": "Llm", "name": format!("m-{}", number(n)), "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"})
    });
    mcpd.apply(users.chain(llms).collect()).await;
    let subject = json!([{"kind": "User", "name": "u-055"}]);
    mcpd.apply(json!([{"kind": "RoleBinding", "name": "one", "role": "llm-user", "subjects": subject}]))
        .await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let first = browser.get("/console/access?account=u-").await;
    first.has(">u-000<").has(">u-024<").lacks(">u-025<").has(">m-007<").lacks(">m-008<");
    let next = browser.get("/console/access?account=u-&after=u-024&llms_after=m-015").await;
    next.has(">u-025<").has(">u-049<").lacks(">u-050<").has(">m-016<").has(">m-019<").lacks("More Llms");
    let last = browser.get("/console/access?account=u-&after=u-049").await;
    last.has(">u-059<").lacks("More accounts").has("To the start");
    let granted = browser.get("/console/access?account=u-&granted=true&llm=M-01").await;
    granted.has(">u-055<").lacks(">u-054<").has(">m-010<").lacks(">m-009<");
    browser.get("/console/access?x=1").await.is(StatusCode::BAD_REQUEST);
    let people = browser.get("/console/people?name=u-0").await;
    people.has(">u-049<").lacks(">u-050<").has("Next page");
    browser.get("/console/people?kind=users&name=u-0&after=u-049").await.has(">u-059<").lacks("Next page");
}

#[tokio::test]
async fn hostile_texts_are_texts_and_wrong_fields_are_errors() {
    let (mcpd, _) = with_people().await;
    let hostile = "<script>alert(1)</script>\"'&";
    mcpd.apply(json!([
        {"kind": "User", "name": "alice", "displayName": hostile, "email": hostile},
        {"kind": "Group", "name": "devs", "description": hostile, "members": [{"kind": "User", "name": "alice"}]},
    ]))
    .await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    for page in [
        "/console/people",
        "/console/people?kind=groups",
        "/console/people/users/alice",
        "/console/people/groups/devs",
        "/console/audit",
        "/console/audit?subject=alice&action=%3Cscript%3E",
        "/console/usage?llm=%3Cscript%3E",
        "/console/failovers?llm=%22%3E%3Cscript%3E",
        "/console/access?account=%22%3E%3Cscript%3E",
    ] {
        let page = browser.get(page).await;
        page.is(StatusCode::OK).lacks("<script>").lacks("\"><script");
    }
    browser
        .get("/console/audit?since=2026-01-01T09:30&until=")
        .await
        .is(StatusCode::OK)
        .has("2026-01-01T09:30");
    for page in [
        "audit?since=yesterday",
        "audit?decision=perhaps",
        "audit?after=x",
        "usage?since=2020-01-01&until=2026-01-01",
        "usage?by=hour",
        "failovers?agent=x",
        "agents?after=1.x.y",
    ] {
        browser.get(&format!("/console/{page}")).await.is(StatusCode::BAD_REQUEST).has("role=\"alert\"");
    }
    // What was typed is still there.
    for page in ["audit", "failovers"] {
        let wrong = format!("/console/{page}?subject=alice&agent=my+desk&llm=gpt");
        let page = browser.get(&wrong).await;
        page.is(StatusCode::BAD_REQUEST).has("<code>my desk</code> is not the id of an agent");
        page.has("value=\"my desk\"").has("value=\"alice\"").has("value=\"gpt\"");
    }
    let page = browser.get("/console/usage?subject=group/devs&llm=gpt&since=2026-01-01T00:00").await;
    page.is(StatusCode::BAD_REQUEST).has("value=\"group/devs\"").has("value=\"2026-01-01T00:00\"");
    // Another error leads back to the page before.
    let referrer = format!("{}/console/audit?llm=gpt", mcpd.url());
    let page =
        browser.send(reqwest::Method::GET, "/console/llms/nothing", &[("referer", &referrer)], None).await;
    page.has("href=\"/console/audit?llm=gpt\"");
    let foreign = [("referer", "https://example.com/")];
    let page = browser.send(reqwest::Method::GET, "/console/llms/nothing", &foreign, None).await;
    page.lacks("Back to the page before");
}
