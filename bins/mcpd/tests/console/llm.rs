//! The page of one Llm.

use std::sync::Arc;

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::browser::Browser;

#[tokio::test]
async fn page_shows_what_the_llm_does_and_who_may_use_it() {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([
        {"kind": "Llm", "name": "backup", "type": "openai", "url": server.base_url(), "model": "m-2"},
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m-1", "description": "The <best> one",
         "fallbacks": [{"llm": "backup"}], "retries": {"max": 0}, "failover": {"require": "run", "offlineGrace": "60s"}},
        {"kind": "Limit", "name": "day", "per": "subject", "tokens": {"max": 100000, "period": "day"}},
        {"kind": "User", "name": "alice"},
        {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]},
        {"kind": "RoleBinding", "name": "team-runs", "role": "llm-user", "subjects": [{"kind": "Group", "name": "team"}]},
    ]))
    .await;
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(mcpd.post("/v1/chat/completions", &admin, &body).await.status(), StatusCode::OK);
    let browser = Browser::signed_in(&mcpd, &admin).await;
    let page = browser.get("/console/llms/gpt").await;
    page.is(StatusCode::OK).has("The &#60;best&#62; one").has("<code>connect</code>").has("failing");
    page.has("/console/llms/backup").has("for 1m without mcpd too").has("tokens").has("mcpctl get llm gpt");
    page.has("User alice").has("team-runs").has(">team</td>").has("100000");
    browser
        .get("/console/llms/backup")
        .await
        .has("/console/llms/gpt")
        .has("1, of them failed: 0, in place of another Llm: 1");

    // The other's page names neither accounts nor the Llms that are hidden.
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["backup"]}]);
    let viewer = mcpd.user_with_rules("viewer", rules).await;
    let browser = Browser::signed_in(&mcpd, &viewer).await;
    let page = browser.get("/console/llms/backup").await;
    page.is(StatusCode::OK)
        .has("no, no rule allows it")
        .lacks("User alice")
        .lacks("/console/llms/gpt")
        .lacks("Test the way");
    browser.get("/console/llms/gpt").await.is(StatusCode::FORBIDDEN);
    browser.get("/console/llms/nothing").await.is(StatusCode::FORBIDDEN);
    browser.post("/console/llms", "/console/llms/backup/test", &[]).await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn page_is_shown_where_usage_has_to_wait_and_is_read_again_without_it() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("gpt", "http://127.0.0.1:9/v1").await;
    let browser = Arc::new(Browser::signed_in(&mcpd, &mcpd.admin()).await);
    let mut pages = JoinSet::new();
    for _ in 0..24 {
        let browser = Arc::clone(&browser);
        pages.spawn(async move { browser.get("/console/llms/gpt").await });
    }
    for page in pages.join_all().await {
        page.is(StatusCode::OK).has("Where requests go").has("Usage of 30 days");
        page.has("data-live-control=\"/console/llms/gpt?live=true\"");
    }
    let live = browser.get("/console/llms/gpt?live=true").await;
    live.is(StatusCode::OK).has("id=\"state\"").has("id=\"targets\"");
    live.lacks("Usage of 30 days").lacks("Who may use it").lacks("Limits on your requests");
}

#[tokio::test]
async fn test_names_the_step_that_failed() {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    mcpd.llm("good", &server.base_url()).await;
    mcpd.llm("gone", "http://127.0.0.1:9/v1").await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    server.set_default(Reply::text("hello"));
    let test = async |name: &str| {
        let page = format!("/console/llms/{name}");
        browser.post(&page, &format!("{page}/test"), &[]).await
    };
    test("good").await.is(StatusCode::OK).has("answered after").has("first token").lacks("failed after");
    test("gone").await.is(StatusCode::OK).has("failed after").has("refused").has("not made");
}
