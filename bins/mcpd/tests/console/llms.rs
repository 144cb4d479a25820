//! The list of Llms.

use mcpctl_testkit::daemons::{Mcpd, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::Browser;

#[tokio::test]
async fn list_shows_what_the_caller_may_view_and_nothing_else() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let browser = Browser::signed_in(&mcpd, &alice).await;
    browser.get("/console/llms").await.is(StatusCode::OK).has("There is no Llm that you may view");

    mcpd.llm("a", "http://127.0.0.1:9/v1").await;
    mcpd.llm("b", "http://127.0.0.1:9/v1").await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["a"]}]);
    mcpd.apply(json!([
        {"kind": "Role", "name": "viewer-of-a", "rules": rules},
        {"kind": "RoleBinding", "name": "alice-a", "role": "viewer-of-a", "subjects": [{"kind": "User", "name": "alice"}]},
    ]))
    .await;
    let page = browser.get("/console/llms").await;
    page.has(">a</a></th>").has(">unused<").lacks(">b</a></th>");
    // A refused connection is a failure, which the list shows.
    let admin = mcpd.admin();
    let body = json!({"model": "a", "messages": [{"role": "user", "content": "x"}]});
    mcpd.post("/v1/chat/completions", &admin, &body).await;
    browser.get("/console/llms").await.has("class=\"state bad\"");
    // A revocation holds for the next page.
    assert_eq!(mcpd.delete("/api/v1/rolebindings/alice-a", &admin).await.status(), StatusCode::NO_CONTENT);
    browser.get("/console/llms").await.has("There is no Llm that you may view");
}

#[tokio::test]
async fn breaker_that_lets_a_request_through_is_so_named_on_both_pages() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{"kind": "Llm", "name": "gpt", "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m-1",
        "retries": {"max": 0}, "breaker": {"failures": 1, "open": "1ms"}}]))
        .await;
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
    mcpd.post("/v1/chat/completions", &mcpd.admin(), &body).await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let browser = &browser;
    for path in ["/console/llms", "/console/llms/gpt"] {
        eventually("the breaker lets a request through", async || {
            let page = browser.get(path).await;
            page.html.contains("<span class=\"state warn\">breaker half open</span>").then_some(())
        })
        .await;
        browser.get(path).await.lacks(">breaker open<");
    }
    let status: Value = mcpd.get("/api/v1/llms/gpt/status", &mcpd.admin()).await.json().await.unwrap();
    assert_eq!(
        (&status["state"], &status["breakers"][0]["state"]),
        (&json!("breakerHalfOpen"), &json!("halfOpen"))
    );
}

#[tokio::test]
async fn long_lists_have_pages_and_hostile_texts_are_texts() {
    let mcpd = Mcpd::start().await;
    let llms: Vec<_> = (0..101)
        .map(|n| {
            json!({"kind": "Llm", "name": format!("m-{n:03}"), "type": "openai", "url": "http://127.0.0.1:9/v1",
                   "model": "<script>alert(1)</script>\"'&"})
        })
        .collect();
    mcpd.apply(json!(llms)).await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let page = browser.get("/console/llms").await;
    page.has(">m-099<").lacks(">m-100<").lacks("<script>alert").has("&#60;script&#62;");
    browser.get("/console/llms?after=m-099").await.has(">m-100<").lacks(">m-099<").lacks("Next page");
}
