//! Forms of the console, and what its script adds to pages.

use mcpctl_browser::Browser;
use mcpctl_testkit::model_server::{Gate, Reply};
use reqwest::StatusCode;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn playground_shows_the_answer_as_it_is_written() {
    let world = World::start().await;
    let browser = world.administrator().await;
    let gate = Gate::new();
    world.deployment.provider.set_default(Reply::pieces(&["first ", "second"]).gate_after(2, &gate));
    browser.open(&world.at("/console/playground?llm=gpt")).await;
    browser.fill("Prompt", "Count").await;
    browser.click("Send").await;
    browser.shows("first").await;
    assert!(!browser.text().await.contains("Served by"), "the answer is not over");
    gate.release();
    browser.shows("first second").await;
    browser.shows("Served by").await;
    browser.inspect("playground-answered").await;
    // A refusal is shown where the answer would be.
    world.deployment.provider.set_default(Reply::error(400, "the prompt is refused", "content_filter"));
    browser.click("Send").await;
    browser.shows("the prompt is refused").await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("status of 400")), "{complaints:#?}");
}

#[tokio::test]
async fn live_parts_follow_without_a_reload() {
    let world = World::start().await;
    let browser = world.administrator().await;
    browser.open(&world.at("/console/llms/gpt")).await;
    browser.shows("unused").await;
    browser.evaluate("window.loadedOnce = true").await;
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "x"}]});
    let mcpd = world.mcpd();
    assert_eq!(mcpd.post("/v1/chat/completions", &mcpd.admin(), &body).await.status(), StatusCode::OK);
    browser.shows_no("unused").await;
    assert_eq!(browser.evaluate("window.loadedOnce").await, json!(true));
    browser.click("Pause updates").await;
    browser.shows("Paused").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn forms_work_without_scripts() {
    let world = World::start().await;
    let browser = Browser::start_without_scripts().await;
    world.sign_in(&browser, &world.mcpd().admin()).await;
    browser.click("Your tokens").await;
    browser.fill("Name", "phone").await;
    browser.choose("Good for", "7 days").await;
    browser.click("Make the token").await;
    browser.shows("never again").await;
    browser.inspect("token-made").await;
    let secret = browser.texts("#secret").await.remove(0);
    let whoami = async || world.mcpd().get("/api/v1/auth/whoami", &secret).await.status();
    assert_eq!(whoami().await, StatusCode::OK);
    browser.click("admin-phone").await;
    browser.click("Revoke admin-phone").await;
    browser.shows("is revoked").await;
    assert_eq!(whoami().await, StatusCode::UNAUTHORIZED);

    browser.click("Secrets").await;
    browser.click("openai").await;
    browser.fill("New value", "sk-another").await;
    browser.check("Store it unchecked").await;
    browser.click("Store the value").await;
    browser.shows("The value of token is stored").await;
    assert!(!browser.source().await.contains("sk-another"));
    browser.inspect("secret-written").await;

    browser.click("Llms").await;
    browser.click("gpt").await;
    browser.click("Test the way to the model").await;
    browser.shows("answered after").await;
    browser.inspect("llm-tested").await;
    browser.click("Try it in the playground").await;
    browser.fill("Prompt", "Hello").await;
    browser.click("Send").await;
    browser.shows("Served by").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
