//! The playground, without its script: `pages` looks at it in a browser.

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::browser::Browser;

const PLAYGROUND: &str = "/console/playground";
const INFER: &str = "/console/playground/infer";

async fn stage() -> (Mcpd, ModelServer) {
    let mcpd = Mcpd::start().await;
    let server = ModelServer::start().await;
    mcpd.apply(json!([
        {"kind": "Llm", "name": "backup", "type": "openai", "url": server.base_url(), "model": "m-2"},
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m-1",
         "retries": {"max": 0}, "fallbacks": [{"llm": "backup"}]},
    ]))
    .await;
    (mcpd, server)
}

#[tokio::test]
async fn answer_comes_as_a_page_with_who_gave_it() {
    let (mcpd, server) = stage().await;
    server.set_default(Reply::text("Hello <b>you</b>"));
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    browser
        .get("/console/playground?llm=gpt")
        .await
        .is(StatusCode::OK)
        .has("<option value=\"gpt\" selected>");
    let fields = [
        ("llm", "gpt"),
        ("system", "Be brief"),
        ("prompt", "Say <hello>"),
        ("temperature", "0.5"),
        ("max_tokens", "7"),
    ];
    let page = browser.post(PLAYGROUND, INFER, &fields).await;
    page.is(StatusCode::OK).has("Hello &#60;b&#62;you&#60;/b&#62;").has("Say &#60;hello&#62;</textarea>");
    page.has("<dd>backup")
        .has("gpt failed: connect")
        .has("<dt>Tokens</dt>")
        .has("<dt>Attempts</dt><dd>2</dd>");
    let sent = server.inferences().pop().unwrap();
    let body = sent.json();
    assert_eq!((&body["temperature"], &body["max_tokens"]), (&json!(0.5), &json!(7)));
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Say <hello>"}])
    );
    // Nothing of the browser's goes to the provider.
    for header in ["cookie", "origin", "sec-fetch-site", "authorization"] {
        assert_eq!(sent.header(header), None, "{header}");
    }
    // What was written stays.
    for temperature in ["hot", "NaN", "inf", "-infinity", "1e400"] {
        let fields =
            [("llm", "gpt"), ("system", "Be kind"), ("prompt", "a long one"), ("temperature", temperature)];
        let page = browser.post(PLAYGROUND, INFER, &fields).await;
        page.is(StatusCode::BAD_REQUEST).has(&format!("`{temperature}` is not a number"));
        page.has("a long one</textarea>").has("value=\"Be kind\"").has("<option value=\"gpt\" selected>");
    }
    // The page takes as many characters as the form may carry.
    let (system, prompt) = ("語".repeat(20_000), "語".repeat(60_000));
    browser.get(PLAYGROUND).await.has("maxlength=\"20000\"").has("maxlength=\"60000\"");
    let fields = [("llm", "gpt"), ("system", &system), ("prompt", &prompt)];
    browser.post(PLAYGROUND, INFER, &fields).await.is(StatusCode::OK).has("Hello &#60;b");
    server.set_default(Reply::error(400, "too <long>", "context_length_exceeded"));
    let fields = [("llm", "backup"), ("prompt", "x")];
    browser.post(PLAYGROUND, INFER, &fields).await.is(StatusCode::OK).has("too &#60;long&#62;");
}

#[tokio::test]
async fn only_llms_that_the_caller_may_run_answer() {
    let (mcpd, server) = stage().await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]);
    let viewer = mcpd.user_with_rules("viewer", rules).await;
    let browser = Browser::signed_in(&mcpd, &viewer).await;
    browser.get(PLAYGROUND).await.is(StatusCode::OK).has("There is no Llm that you may run");
    let fields = [("llm", "backup"), ("prompt", "x")];
    browser.post(PLAYGROUND, INFER, &fields).await.is(StatusCode::FORBIDDEN).has("Not allowed");
    assert!(server.inferences().is_empty());
}

#[tokio::test]
async fn script_gets_events_as_they_are_written() {
    let (mcpd, server) = stage().await;
    server.set_default(Reply::pieces(&["Hel", "lo"]));
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let token = browser.get(PLAYGROUND).await.hidden("form_token");
    let fields = [("form_token", token.as_str()), ("llm", "gpt"), ("prompt", "x")];
    let page = browser.send_form(INFER, &fields, &[("accept", "text/event-stream")]).await;
    page.is(StatusCode::OK).has("\"Hel\"").has("data: [DONE]").has("\"usage\"");
    assert_eq!(page.header("content-type"), "text/event-stream");
    assert_eq!((page.header("mcpctl-served-by"), page.header("mcpctl-failover")), ("backup", "connect"));
    assert_eq!(page.header("x-accel-buffering"), "no");
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
}
