//! Accounts are disabled, enabled and signed out, and tokens of others revoked, from the page of a person.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::Browser;

const ALICE: &str = "/console/people/users/alice";
const DISABLE: &str = "/console/people/users/alice/disable";
const ENABLE: &str = "/console/people/users/alice/enable";
const END_SESSIONS: &str = "/console/people/users/alice/end-sessions";
const REVOKE_TOKEN: &str = "/console/tokens/alice-token/revoke";

/// An mcpd with an Llm that `alice` may use, and her token.
async fn with_alice() -> (Mcpd, String) {
    let mcpd = Mcpd::start().await;
    mcpd.llm("gpt", "http://127.0.0.1:9/v1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    (mcpd, alice)
}

async fn status(mcpd: &Mcpd, token: &str) -> StatusCode {
    mcpd.get("/api/v1/auth/whoami", token).await.status()
}

/// A token that the holder of another one makes for a user.
async fn made(mcpd: &Mcpd, bearer: &str, name: &str, user: &str) -> String {
    secret(mcpd, bearer, json!({"name": name, "subject": {"kind": "User", "name": user}})).await
}

async fn secret(mcpd: &Mcpd, bearer: &str, request: Value) -> String {
    let made: Value = mcpd.post("/api/v1/tokens", bearer, &request).await.json().await.unwrap();
    made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

#[tokio::test]
async fn account_is_disabled_and_enabled_as_it_was_shown() {
    let (mcpd, alice) = with_alice().await;
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let session = Browser::signed_in(&mcpd, &alice).await;
    admin.get(ALICE).await.has(&format!("href=\"{DISABLE}\"")).lacks(ENABLE);
    let page = admin.get(DISABLE).await;
    page.is(StatusCode::OK)
        .has("<h1>Disable alice</h1>")
        .has("User <code>alice</code> is disabled")
        .has("Who loses what")
        .has("May no longer run")
        .has("gpt")
        .has("No request that runs at this replica of mcpd ends")
        .lacks("your own account");
    assert_eq!(status(&mcpd, &alice).await, StatusCode::OK, "looking at it changes nothing");
    let shown = page.hidden("expected");

    // The account has changed since.
    mcpd.apply(json!([{"kind": "User", "name": "alice", "displayName": "Alice"}])).await;
    let page = admin.post(DISABLE, DISABLE, &[("expected", &shown)]).await;
    page.is(StatusCode::PRECONDITION_FAILED).has("is at revision");
    admin.post(ALICE, DISABLE, &[]).await.is(StatusCode::PRECONDITION_FAILED);
    assert_eq!(status(&mcpd, &alice).await, StatusCode::OK);

    let shown = admin.get(DISABLE).await.hidden("expected");
    let page = admin.post(DISABLE, DISABLE, &[("expected", &shown)]).await;
    assert!(
        page.header("location").starts_with("/console/people/users/alice?what=disabled&done="),
        "{page:?}"
    );
    let next = admin.get(page.header("location")).await;
    next.is(StatusCode::OK).has("The account is disabled").has(ENABLE).lacks(DISABLE);
    admin.get(&page.header("location").replace("disabled", "enabled")).await.lacks("role=\"status\">The");
    assert_eq!(status(&mcpd, &alice).await, StatusCode::UNAUTHORIZED);
    session.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    admin.get(DISABLE).await.is(StatusCode::BAD_REQUEST).has("is disabled already");

    let page = admin.get(ENABLE).await;
    page.is(StatusCode::OK).has("Who gains what").has("gpt").has("is enabled").lacks("What runs now");
    let page = admin.post(ENABLE, ENABLE, &[("expected", &page.hidden("expected"))]).await;
    admin.get(page.header("location")).await.has("The account is enabled").has(DISABLE);
    assert_eq!(status(&mcpd, &alice).await, StatusCode::OK);
    let user: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!((&user["displayName"], &user["disabled"]), (&json!("Alice"), &Value::Null));
    for path in ["/console/people/groups/devs/disable", "/console/people/users/alice/delete"] {
        admin.get(path).await.is(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn service_account_is_switched_with_what_it_made_for_others() {
    let (mcpd, _) = with_alice().await;
    let of_ci = json!([{"kind": "ServiceAccount", "name": "ci"}]);
    mcpd.apply(json!([
        {"kind": "ServiceAccount", "name": "ci"},
        {"kind": "RoleBinding", "name": "ci-admin", "role": "admin", "subjects": of_ci},
        {"kind": "User", "name": "bob"},
        {"kind": "Secret", "name": "openai", "data": {"token": "sk-1"}},
    ]))
    .await;
    let ci = json!({"name": "ci", "subject": {"kind": "ServiceAccount", "name": "ci"}});
    let ci = secret(&mcpd, &mcpd.admin(), ci).await;
    let for_alice = made(&mcpd, &ci, "alice-of-ci", "alice").await;
    let documents = json!([
        {"kind": "User", "name": "bob", "password": "correct horse battery"},
        {"kind": "Llm", "name": "keyed", "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m",
         "apiKey": {"secret": "openai", "key": "token"}},
    ]);
    let applied = mcpd.post("/api/v1/apply?skipCheck=true", &ci, &documents).await;
    assert_eq!(applied.status(), StatusCode::OK);
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;

    let page = "/console/people/serviceaccounts/ci/disable";
    let shown = admin.get(page).await;
    shown
        .is(StatusCode::OK)
        .has("ServiceAccount <code>ci</code> is disabled")
        .has("1 token(s) that ServiceAccount <code>ci</code> made for others are void while it is disabled")
        .has("1 password(s) that ServiceAccount <code>ci</code> set for others are void")
        .has("Llm <code>keyed</code> sends no key while ServiceAccount <code>ci</code>");
    let done = admin.post(page, page, &[("expected", &shown.hidden("expected"))]).await;
    admin.get(done.header("location")).await.has("The account is disabled");
    assert_eq!(status(&mcpd, &for_alice).await, StatusCode::UNAUTHORIZED);

    let page = "/console/people/serviceaccounts/ci/enable";
    let shown = admin.get(page).await;
    shown
        .is(StatusCode::OK)
        .has("1 token(s) that ServiceAccount <code>ci</code> made for others are accepted again")
        .has("1 password(s) that ServiceAccount <code>ci</code> set for others are accepted again")
        .has("Llm <code>keyed</code> sends the key again that ServiceAccount <code>ci</code> attached");
    admin.post(page, page, &[("expected", &shown.hidden("expected"))]).await.is(StatusCode::SEE_OTHER);
    assert_eq!(status(&mcpd, &for_alice).await, StatusCode::OK);
}

#[tokio::test]
async fn sessions_and_tokens_of_others_end_from_the_page_of_their_account() {
    let (mcpd, alice) = with_alice().await;
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    admin.get(END_SESSIONS).await.is(StatusCode::BAD_REQUEST).has("has no session that you may end");
    admin.get(ALICE).await.lacks(END_SESSIONS).has(&format!("href=\"{REVOKE_TOKEN}\""));
    let session = Browser::signed_in(&mcpd, &alice).await;
    admin.get(ALICE).await.has(END_SESSIONS);
    admin.get(END_SESSIONS).await.is(StatusCode::OK).has("is deleted").has("it may sign in again");
    let page = admin.post(END_SESSIONS, END_SESSIONS, &[]).await;
    admin
        .get(page.header("location"))
        .await
        .has("1 session has ended")
        .lacks("Still open")
        .lacks(END_SESSIONS);
    session.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    assert_eq!(status(&mcpd, &alice).await, StatusCode::OK, "tokens stay");

    let session = Browser::signed_in(&mcpd, &alice).await;
    // One's own other sessions end, and the one in use stays.
    let other = Browser::signed_in(&mcpd, &alice).await;
    let page = session.get(END_SESSIONS).await;
    page.is(StatusCode::OK).has("<h1>End your other sessions</h1>");
    session.post(END_SESSIONS, END_SESSIONS, &[]).await.is(StatusCode::SEE_OTHER);
    session.get("/console/llms").await.is(StatusCode::OK);
    other.get("/console/llms").await.is(StatusCode::SEE_OTHER);

    let page = admin.get(REVOKE_TOKEN).await;
    page.is(StatusCode::OK).has("ends too").has("This cannot be undone").lacks("you will be signed out");
    page.has("<a href=\"/console/people/users/alice\">alice</a>");
    let ends = page.between("the session <code>", "</code>");
    assert_eq!(page.html.matches(ends[0].as_str()).count(), 1, "what ends is listed once: {}", page.html);
    let page = admin.post(REVOKE_TOKEN, REVOKE_TOKEN, &[]).await;
    admin.get(page.header("location")).await.has("The token is revoked").lacks(REVOKE_TOKEN);
    assert_eq!(status(&mcpd, &alice).await, StatusCode::UNAUTHORIZED);
    session.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    admin.get(REVOKE_TOKEN).await.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn sessions_that_one_may_not_end_are_counted_and_stay() {
    let (mcpd, alice) = with_alice().await;
    let first = Browser::signed_in(&mcpd, &alice).await;
    let statuses = mcpd.get("/api/v1/auth/token-status?subject=user/alice", &mcpd.admin()).await;
    let statuses: Value = statuses.json().await.unwrap();
    let tokens = statuses["items"].as_array().unwrap();
    let session = tokens.iter().find(|token| token["session"] == json!(true)).unwrap()["token"].clone();
    let second = Browser::signed_in(&mcpd, &alice).await;
    let rules = json!([
        {"kinds": ["users"], "verbs": ["view", "grant"], "names": ["*"]},
        {"kinds": ["tokens"], "verbs": ["view"], "names": ["*"]},
        {"kinds": ["tokens"], "verbs": ["delete"], "names": [session]},
    ]);
    let helper = Browser::signed_in(&mcpd, &mcpd.user_with_rules("helper", rules).await).await;
    helper.get(ALICE).await.has(END_SESSIONS);
    helper
        .get(END_SESSIONS)
        .await
        .is(StatusCode::OK)
        .has("Sessions that stay, because you may not end them: 1");
    let page = helper.post(END_SESSIONS, END_SESSIONS, &[]).await;
    helper
        .get(page.header("location"))
        .await
        .has("1 session has ended")
        .has("Still open, because you may not end them: 1")
        .lacks(END_SESSIONS);
    first.get("/console/llms").await.is(StatusCode::SEE_OTHER);
    second.get("/console/llms").await.is(StatusCode::OK);
    helper.get(END_SESSIONS).await.is(StatusCode::BAD_REQUEST).has("ask an administrator");
}

#[tokio::test]
async fn account_is_changed_by_those_alone_who_may_and_to_others_nothing_is_offered() {
    let (mcpd, alice) = with_alice().await;
    Browser::signed_in(&mcpd, &alice).await.get("/console/llms").await.is(StatusCode::OK);
    let view_all = json!([{"kinds": ["*"], "verbs": ["view"], "names": ["*"]}]);
    let viewer = mcpd.user_with_rules("viewer", view_all.clone()).await;
    // One who may edit users and delete tokens, and holds less than alice.
    let rules = json!([
        {"kinds": ["users", "tokens"], "verbs": ["view"], "names": ["*"]},
        {"kinds": ["users"], "verbs": ["edit"], "names": ["*"]},
        {"kinds": ["tokens"], "verbs": ["delete"], "names": ["*"]},
    ]);
    let helper = mcpd.user_with_rules("helper", rules).await;
    let narrow =
        json!({"name": "admin-viewer", "subject": {"kind": "User", "name": "admin"}, "rules": view_all});
    let narrow = secret(&mcpd, &mcpd.admin(), narrow).await;
    let denials = async |subject: &str| {
        let rows = format!("/api/v1/audit?subject={subject}&decision=denied");
        let page: Value = mcpd.get(&rows, &mcpd.admin()).await.json().await.unwrap();
        page["items"].as_array().unwrap().len()
    };
    for (name, token, refusal) in [
        ("viewer", &viewer, "may not"),
        ("helper", &helper, "rights that you do not hold"),
        ("admin", &narrow, "may not"),
    ] {
        let browser = Browser::signed_in(&mcpd, token).await;
        let before = denials(name).await;
        let page = browser.get(ALICE).await;
        page.is(StatusCode::OK)
            .has("alice-token")
            .lacks("Disable…")
            .lacks("Revoke…")
            .lacks("End the sessions");
        browser.get("/console/tokens/alice-token").await.is(StatusCode::OK).lacks("Revoke").lacks("Rotate");
        browser.get(DISABLE).await.is(StatusCode::FORBIDDEN).has(refusal);
        browser.get(REVOKE_TOKEN).await.is(StatusCode::FORBIDDEN).has(refusal);
        browser.get(END_SESSIONS).await.is(StatusCode::BAD_REQUEST).has("that you may end");
        assert_eq!(denials(name).await, before, "{name}: looking at it is no attempt");
        let user: Value = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.json().await.unwrap();
        let expected = user["revision"].to_string();
        browser.post(ALICE, DISABLE, &[("expected", &expected)]).await.is(StatusCode::FORBIDDEN);
        let token: Value = mcpd.get("/api/v1/tokens/alice-token", &mcpd.admin()).await.json().await.unwrap();
        let expected = token["revision"].to_string();
        browser.post(ALICE, REVOKE_TOKEN, &[("expected", &expected)]).await.is(StatusCode::FORBIDDEN);
        browser.post(ALICE, END_SESSIONS, &[]).await.is(StatusCode::BAD_REQUEST);
        assert_eq!(denials(name).await, before + 2, "{name}");
        assert_eq!(status(&mcpd, &alice).await, StatusCode::OK, "{name}");
    }
    // What an account holds is not shown to one who may change it and not view that.
    mcpd.apply(json!([{"kind": "User", "name": "bob"}])).await;
    let browser = Browser::signed_in(&mcpd, &helper).await;
    browser.get("/console/people/users/bob").await.has("Disable…");
    let page = browser.get("/console/people/users/bob/disable").await;
    page.is(StatusCode::OK).lacks("Who loses what").has("you may not view the rights of accounts");
    let alice = Browser::signed_in(&mcpd, &alice).await;
    // The own page is shown to those who may not view accounts.
    let before = denials("user/alice").await;
    alice.get(ALICE).await.is(StatusCode::OK).lacks("Disable…");
    alice.get(DISABLE).await.is(StatusCode::FORBIDDEN);
    assert_eq!(denials("user/alice").await, before);
    for path in ["/console/people/users/bob/disable", "/console/people/users/none/disable"] {
        alice.get(path).await.is(StatusCode::FORBIDDEN);
    }
    assert_eq!(denials("user/alice").await, before + 2);
}

/// Who deletes an account or a token and makes another one of the name changes what an old form is about.
#[tokio::test]
async fn old_forms_do_not_touch_a_later_token_or_account_of_the_name() {
    let (mcpd, alice) = with_alice().await;
    mcpd.apply(json!([{"kind": "User", "name": "bob"}])).await;
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let _session = Browser::signed_in(&mcpd, &alice).await;
    let one = "/console/tokens/alice-token";
    let rotate = "/console/tokens/alice-token/rotate";
    let (revoked, rotated) =
        (admin.get(REVOKE_TOKEN).await.hidden("expected"), admin.get(one).await.hidden("expected"));
    let ended = admin.get(END_SESSIONS).await.hidden("account");
    mcpd.delete("/api/v1/users/alice", &mcpd.admin()).await;
    mcpd.apply(json!([{"kind": "User", "name": "alice"}])).await;
    let later = made(&mcpd, &mcpd.admin(), "alice-token", "bob").await;
    let other = Browser::signed_in(&mcpd, &made(&mcpd, &mcpd.admin(), "alice-other", "alice").await).await;

    let page = admin.post(ALICE, REVOKE_TOKEN, &[("expected", &revoked)]).await;
    page.is(StatusCode::PRECONDITION_FAILED);
    let page = admin.post(ALICE, rotate, &[("expected", &rotated), ("grace", "")]).await;
    page.is(StatusCode::PRECONDITION_FAILED);
    for path in [REVOKE_TOKEN, rotate] {
        admin.post(ALICE, path, &[("grace", "")]).await.is(StatusCode::PRECONDITION_FAILED);
    }
    let page = admin.post(ALICE, END_SESSIONS, &[("account", &ended)]).await;
    page.is(StatusCode::PRECONDITION_FAILED).has("is not the account whose sessions were shown");
    assert_eq!(status(&mcpd, &later).await, StatusCode::OK);
    other.get("/console/llms").await.is(StatusCode::OK);
}

#[tokio::test]
async fn page_of_a_change_names_the_own_sign_out_and_no_id() {
    let (mcpd, alice) = with_alice().await;
    let session = Browser::signed_in(&mcpd, &alice).await;
    session.get("/console/tokens/alice-token").await.has("Your session was begun with it");
    session.get(REVOKE_TOKEN).await.is(StatusCode::OK).has("you will be signed out");
    let page = session.post(REVOKE_TOKEN, REVOKE_TOKEN, &[]).await;
    assert_eq!(page.header("location"), "/console/sign-in?signed_out=true");
    let view_all = json!([{"kinds": ["*"], "verbs": ["view"], "names": ["*"]}]);
    let viewer = Browser::signed_in(&mcpd, &mcpd.user_with_rules("viewer", view_all).await).await;
    viewer.get(DISABLE).await.is(StatusCode::FORBIDDEN).has("<code>alice</code>");
    let stranger = Browser::at(&mcpd);
    let page = stranger.post("/console/sign-in", "/console/sign-in", &[("token", &alice)]).await;
    page.is(StatusCode::UNAUTHORIZED).has("its account is disabled").lacks("Bearer");
}

#[tokio::test]
async fn last_administrator_stays_and_another_one_signs_itself_out() {
    let (mcpd, alice) = with_alice().await;
    let of_alice = json!([{"kind": "User", "name": "alice"}]);
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let own = "/console/people/users/admin/disable";
    admin
        .get(own)
        .await
        .is(StatusCode::CONFLICT)
        .has("no active administrator who can sign in would be left");
    mcpd.apply(
        json!([{"kind": "RoleBinding", "name": "alice-admin", "role": "admin", "subjects": of_alice}]),
    )
    .await;
    // A token that the first administrator has made is void without that account.
    let alice = made(&mcpd, &alice, "alice-own", "alice").await;
    let page = admin.get(own).await;
    page.is(StatusCode::OK).has("you cannot enable it yourself").has("you will be signed out");
    let page = admin.post(own, own, &[("expected", &page.hidden("expected"))]).await;
    assert_eq!(page.header("location"), "/console/sign-in?signed_out=true");
    assert_eq!(admin.cookie("session"), None);
    admin.get(page.header("location")).await.has("You are signed out");
    // Alice has no other administrator left, and no other credential.
    let alice = Browser::signed_in(&mcpd, &alice).await;
    alice.get(DISABLE).await.is(StatusCode::CONFLICT);
    alice.get("/console/tokens/alice-own/revoke").await.is(StatusCode::CONFLICT);
}

#[tokio::test]
async fn forms_about_accounts_that_no_own_page_has_sent_change_nothing() {
    let (mcpd, alice) = with_alice().await;
    let admin = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let session = Browser::signed_in(&mcpd, &alice).await;
    let page = admin.get(DISABLE).await;
    let (own, expected) = (page.hidden("form_token"), page.hidden("expected"));
    let other = Browser::signed_in(&mcpd, &mcpd.admin()).await.get(DISABLE).await.hidden("form_token");
    for to in [DISABLE, END_SESSIONS, REVOKE_TOKEN] {
        for token in [None, Some(""), Some(other.as_str())] {
            let fields: Vec<_> = token.map(|token| ("form_token", token)).into_iter().collect();
            let fields = [fields, vec![("expected", expected.as_str())]].concat();
            admin
                .send_form(to, &fields, &[])
                .await
                .is(StatusCode::FORBIDDEN)
                .has("was not made for your session");
        }
        let fields = [("form_token", own.as_str()), ("expected", expected.as_str())];
        for headers in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            admin.send_form(to, &fields, &[headers]).await.is(StatusCode::FORBIDDEN).has("another site");
        }
    }
    assert_eq!(status(&mcpd, &alice).await, StatusCode::OK);
    session.get("/console/llms").await.is(StatusCode::OK);
}
