//! Usage and cost, as the console shows them.

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::browser::{Browser, Page};

/// The page, once it has this many requests.
async fn with_requests(browser: &Browser, address: &str, count: u64) -> Page {
    let mark = format!("<dt>Requests</dt><dd>{count}</dd>");
    eventually("the requests are counted", async || {
        let page = browser.get(address).await;
        page.html.contains(&mark).then_some(page)
    })
    .await
}

#[tokio::test]
async fn cost_that_is_not_known_is_shown_as_no_number() {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    server.set_default(Reply::text("hello"));
    let llm = |name: &str, price: serde_json::Value| json!({"kind": "Llm", "name": name, "type": "openai", "url": server.base_url(), "model": name, "price": price});
    mcpd.apply(json!([
        llm("priced", json!({"input": 10_000, "output": 10_000})),
        {"kind": "Llm", "name": "unpriced", "type": "openai", "url": server.base_url(), "model": "m"},
    ]))
    .await;
    let admin = mcpd.admin();
    let ask = async |llm: &str| {
        let body = json!({"model": llm, "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(mcpd.post("/v1/chat/completions", &admin, &body).await.status(), StatusCode::OK);
    };
    let browser = Browser::signed_in(&mcpd, &admin).await;
    ask("unpriced").await;
    let page = with_requests(&browser, "/console/usage?show=cost", 1).await;
    page.has("<dd>?</dd>").has("data-label=\"Cost, US dollars\">?</td>").has("without a known price");
    page.has("No cost in this time is known").lacks("<dd>0.0000</dd>");
    browser.get("/console/llms/unpriced").await.has("data-label=\"USD\">?</td>").lacks("0.00 USD");

    ask("priced").await;
    let page = with_requests(&browser, "/console/usage", 2).await;
    let costs = page.between("data-label=\"Cost, US dollars\">", "</td>");
    assert!(
        costs.iter().any(|cost| cost == "?") && costs.iter().any(|cost| cost.ends_with(" + ?")),
        "{costs:?}"
    );
    browser.get("/console/llms/priced").await.lacks("?</td>").lacks("without a known price");
}

#[tokio::test]
async fn deleted_llm_is_told_apart_from_a_later_one_of_its_name() {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    server.set_default(Reply::text("hello"));
    let admin = mcpd.admin();
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["gpt"]}]);
    let bob = mcpd.user_with_rules("bob", rules).await;
    for _ in 0..2 {
        mcpd.llm("gpt", &server.base_url()).await;
        let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
        for token in [&admin, &bob] {
            assert_eq!(mcpd.post("/v1/chat/completions", token, &body).await.status(), StatusCode::OK);
        }
        assert_eq!(mcpd.delete("/api/v1/llms/gpt", &admin).await.status(), StatusCode::NO_CONTENT);
    }
    mcpd.llm("gpt", &server.base_url()).await;
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(mcpd.post("/v1/chat/completions", &admin, &body).await.status(), StatusCode::OK);
    let browser = Browser::signed_in(&mcpd, &admin).await;
    let page = with_requests(&browser, "/console/usage", 5).await;
    let mut names = page.between("<th scope=\"row\">gpt", "</th>");
    names.sort();
    assert!(
        names[0].is_empty() && names[1].starts_with(" (deleted) …") && names[2].starts_with(" (deleted) …"),
        "{names:?}"
    );
    assert!(names.len() == 3 && names[1] != names[2], "{names:?}");
    // Who may not view it learns nothing of what became of it.
    let own: serde_json::Value = mcpd.get("/api/v1/usage?by=llm", &bob).await.json().await.unwrap();
    let items = own["items"].as_array().unwrap();
    assert!(items.len() == 2 && items.iter().all(|item| item.get("llmDeleted").is_none()), "{own}");

    // A deleted account has no page.
    assert_eq!(mcpd.delete("/api/v1/users/bob", &admin).await.status(), StatusCode::NO_CONTENT);
    let page = browser.get("/console/usage?by=user").await;
    page.has("<th scope=\"row\">User bob (deleted)</th>").lacks("/console/people/users/bob");
}
