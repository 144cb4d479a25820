//! The pages of secrets.

use mcpctl_testkit::{daemons::Mcpd, model_server::ModelServer};
use reqwest::StatusCode;
use serde_json::json;

use crate::browser::Browser;

const SECRETS: &str = "/console/secrets";

#[tokio::test]
async fn value_is_written_and_shown_on_no_page() {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    let admin = mcpd.admin();
    let browser = Browser::signed_in(&mcpd, &admin).await;
    browser.get(SECRETS).await.is(StatusCode::OK).has("There is no secret that you may view");
    let value = "sk-first-value";
    let fields = [("name", "openai"), ("key", "token"), ("value", value), ("hosts", "127.0.0.1")];
    let page = browser.post(SECRETS, SECRETS, &fields).await;
    page.is(StatusCode::OK).has("The secret openai is stored").lacks(value);
    mcpd.apply(
        json!([{"kind": "Llm", "name": "gpt", "type": "openai", "url": server.base_url(), "model": "m",
                       "apiKey": {"secret": "openai", "key": "token"}}]),
    )
    .await;
    let one = "/console/secrets/openai";
    browser.get(one).await.has("in force").has("/console/llms/gpt").lacks(value);

    let before = browser.get(one).await;
    let write = async |value: &str, key: &str, revision: &str| {
        let id = before.hidden("secret_id");
        let fields = [
            ("secret_id", id.as_str()),
            ("revision", revision),
            ("key", key),
            ("value", value),
            ("unchecked", "true"),
        ];
        browser.post(one, one, &fields).await
    };
    let page = write("sk-second-value", "token", &before.hidden("revision")).await;
    page.is(StatusCode::OK).has("The value of token is stored").lacks("sk-second-value");
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(mcpd.post("/v1/chat/completions", &admin, &body).await.status(), StatusCode::OK);
    let sent = server.inferences().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer sk-second-value"));
    // A page that was made before another one wrote changes nothing.
    write("sk-third-value", "token", &before.hidden("revision")).await.is(StatusCode::PRECONDITION_FAILED);
    let page = write("bad\u{7f}value", "token", &browser.get(one).await.hidden("revision")).await;
    page.is(StatusCode::BAD_REQUEST).lacks("bad\u{7f}value");
    assert!(!mcpd.log().contains("sk-"), "no value is logged");
}

#[tokio::test]
async fn only_who_may_edit_writes_and_hidden_llms_stay_hidden() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([
        {"kind": "Secret", "name": "openai", "data": {"token": "sk-1"}},
        {"kind": "Llm", "name": "hidden", "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m",
         "apiKey": {"secret": "openai", "key": "token"}},
    ]))
    .await;
    let rules = json!([{"kinds": ["secrets"], "verbs": ["view"], "names": ["openai"]}]);
    let viewer = mcpd.user_with_rules("viewer", rules).await;
    let browser = Browser::signed_in(&mcpd, &viewer).await;
    let page = browser.get(SECRETS).await;
    page.has(">openai<").lacks("hidden<").lacks("New secret");
    browser.get("/console/secrets/openai").await.is(StatusCode::OK).lacks("Write a value").lacks(">hidden<");
    let fields = [("name", "mine"), ("key", "token"), ("value", "x")];
    browser.post(SECRETS, SECRETS, &fields).await.is(StatusCode::FORBIDDEN);
    let fields =
        [("secret_id", "c000000000000000000000000"), ("revision", "1"), ("key", "a"), ("value", "x")];
    browser.post(SECRETS, "/console/secrets/openai", &fields).await.is(StatusCode::FORBIDDEN);
    browser.get("/console/secrets/other").await.is(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn wrong_entry_shows_the_form_again_without_the_value() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let browser = Browser::signed_in(&mcpd, &admin).await;
    let value = "sk-typed-value";
    let fields = |name: &'static str, key: &'static str, hosts: &'static str| {
        [("name", name), ("key", key), ("value", value), ("hosts", hosts), ("description", "the team's")]
    };
    for (name, key, hosts, problem) in [
        ("Open AI", "token", "api.openai.com", "cannot be a name"),
        ("openai", "token", "http://x/", "is not a host"),
        ("openai", "a b", "api.openai.com", "data"),
    ] {
        let page = browser.post(SECRETS, SECRETS, &fields(name, key, hosts)).await;
        page.is(StatusCode::BAD_REQUEST).has(problem).has("aria-invalid").lacks(value).lacks("e-mail");
        for kept in [name, key, hosts, "the team&#39;s"] {
            page.has(&format!("value=\"{kept}\""));
        }
        page.has("write it again");
    }
    browser.post(SECRETS, SECRETS, &fields("openai", "token", "")).await.is(StatusCode::OK);
    let page = browser.post(SECRETS, SECRETS, &fields("openai", "token", "")).await;
    page.is(StatusCode::CONFLICT).has("value=\"openai\"").lacks(value);

    let one = "/console/secrets/openai";
    let form = browser.get(one).await;
    let (id, revision) = (form.hidden("secret_id"), form.hidden("revision"));
    let fields = [
        ("secret_id", id.as_str()),
        ("revision", &revision),
        ("key", "a b"),
        ("value", value),
        ("unchecked", "true"),
    ];
    let page = browser.post(one, one, &fields).await;
    page.is(StatusCode::BAD_REQUEST).has("value=\"a b\"").has(" checked>").has("write it again").lacks(value);
    assert!(!mcpd.log().contains(value), "no value is logged");
}
