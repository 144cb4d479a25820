//! Revoking: what is shown before is what happens.

use mcpctl_browser::Browser;
use mcpctl_testkit::model_server::Reply;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn revoke_shows_what_goes_with_it_and_ends_what_runs() {
    let world = World::start().await;
    let mcpd = world.mcpd();
    world.deployment.provider.set_default(Reply::pieces(&["a", "beginning"]).stall_after(1));
    let body = json!({"model": "gpt", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let request = mcpd.request(Method::POST, "/v1/chat/completions", &world.bob).json(&body);
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    stream.chunk().await.unwrap().expect("the beginning of an answer");

    let browser = world.administrator().await;
    browser.click("Access").await;
    browser.fill("Account", "BO").await;
    browser.click("Filter").await;
    browser.shows_no("alice").await;
    browser.click("bob, gpt: runs").await;
    browser.shows("devs-use-gpt").await;
    browser.click("Revoke… devs-use-gpt").await;
    browser.shows("Take bob out of the group devs").await;
    browser.shows("1 request that runs at this replica of mcpd ends at once").await;
    let rows = browser.texts("tbody tr").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].starts_with("bob gpt nothing nothing\nview limits team-*"), "{rows:?}");
    // Looking at it changes nothing.
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::OK);

    browser.click("Take bob out of the group devs").await;
    browser.shows("The access is revoked").await;
    assert!(browser.url().await.contains("/console/people/users/bob?done="));
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::FORBIDDEN);
    let mut rest = String::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        rest += &String::from_utf8_lossy(&chunk);
    }
    assert!(rest.contains("access_revoked"), "{rest}");
    let devs = mcpd.get("/api/v1/groups/devs", &mcpd.admin()).await.text().await.unwrap();
    assert!(devs.contains("alice") && !devs.contains("bob"), "{devs}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// By links and forms alone, as every page is made.
#[tokio::test]
async fn account_is_disabled_without_scripts_and_what_it_runs_ends() {
    let world = World::start().await;
    let mcpd = world.mcpd();
    world.deployment.provider.set_default(Reply::pieces(&["a", "beginning"]).stall_after(1));
    let body = json!({"model": "gpt", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let request = mcpd.request(Method::POST, "/v1/chat/completions", &world.bob).json(&body);
    let mut stream = request.send().await.unwrap();
    stream.chunk().await.unwrap().expect("the beginning of an answer");

    let browser = Browser::start_without_scripts().await;
    world.sign_in(&browser, &mcpd.admin()).await;
    browser.click("People").await;
    browser.click("bob").await;
    browser.click("Disable…").await;
    browser.shows("1 request that runs at this replica of mcpd ends at once").await;
    let rows = browser.texts("tbody tr").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].starts_with("bob gpt"), "{rows:?}");
    browser.click("Change nothing").await;
    browser.is_at("/console/people/users/bob").await;
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::OK);
    browser.click("Disable…").await;
    browser.click("Disable bob").await;
    browser.shows("The account is disabled").await;
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::UNAUTHORIZED);
    let mut rest = String::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        rest += &String::from_utf8_lossy(&chunk);
    }
    assert!(rest.contains("access_revoked"), "{rest}");
    browser.click("Enable…").await;
    browser.shows("Who gains what").await;
    browser.click("Enable bob").await;
    browser.shows("The account is enabled").await;
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::OK);

    browser.click("Revoke… bob-token").await;
    browser.shows("This cannot be undone").await;
    browser.click("Revoke bob-token").await;
    browser.shows("The token is revoked").await;
    assert_eq!(mcpd.get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
