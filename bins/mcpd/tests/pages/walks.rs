//! The console by keyboard alone, and without scripts.

use mcpctl_browser::{Browser, Key};
use reqwest::StatusCode;

use crate::world::World;

#[tokio::test]
async fn keyboard_alone_signs_in_and_revokes() {
    let world = World::start().await;
    let browser = Browser::start().await;
    browser.open(&world.at("/console/access?account=bob")).await;
    browser.tab_to("Token").await;
    browser.type_text(&world.mcpd().admin()).await;
    browser.press(Key::Enter).await;
    browser.is_at("/console/access?account=bob").await;
    browser.press(Key::Tab).await;
    let first = browser.focused().await;
    assert_eq!(browser.accessible_name(&first).await, "Skip to the content");
    browser.tab_to("bob, gpt: runs").await;
    browser.press(Key::Enter).await;
    browser.shows("What gives it").await;
    browser.tab_to("Revoke… devs-use-gpt").await;
    browser.press(Key::Enter).await;
    browser.shows("What runs now").await;
    browser.tab_to("Take bob out of the group devs").await;
    browser.press(Key::Enter).await;
    browser.shows("The access is revoked").await;
    assert_eq!(world.mcpd().get("/api/v1/llms/gpt", &world.bob).await.status(), StatusCode::FORBIDDEN);
    browser.tab_to("Sign out").await;
    browser.press(Key::Enter).await;
    browser.shows("You are signed out").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn every_section_works_without_scripts() {
    let world = World::with_records().await;
    let browser = Browser::start_without_scripts().await;
    world.sign_in(&browser, &world.mcpd().admin()).await;
    for (section, field, text) in [
        ("Access", "Llm", "embeddings-of-a-long-name"),
        ("People", "Name", "alice"),
        ("Usage", "Llm", "claude"),
        ("Failovers", "Llm", "claude"),
        ("Audit", "Action", "failover"),
    ] {
        browser.click(section).await;
        browser.fill(field, text).await;
        let button = if section == "Usage" { "Show" } else { "Filter" };
        browser.click(button).await;
        browser.shows(text).await;
        assert_eq!(browser.value(field).await, text, "{section}");
    }
    browser.click("Usage").await;
    browser.click("The same as a table").await;
    browser.shows("Days of UTC").await;
    browser.open(&world.at("/console/access/revoke?binding=alice-llm-user")).await;
    browser.click("Delete the binding alice-llm-user").await;
    browser.shows("The access is revoked").await;
    let refused = world.deployment.chat().await.status();
    assert_eq!(refused, StatusCode::FORBIDDEN);
    browser.click("Sign out").await;
    browser.shows("You are signed out").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
