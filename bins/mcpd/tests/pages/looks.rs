//! Looks at every page, in light, dark and narrow. A page that is not in the table below fails the test.

use std::collections::BTreeSet;

use mcpctl_browser::{Browser, View};
use serde_json::json;

use crate::world::World;

/// Every page: its route, the name of its screenshots, an address, and a text that it shows.
pub const PAGES: [(&str, &str, &str, &str); 19] = [
    ("/console/sign-in", "sign-in", "/console/sign-in", "Sign in to mcpd"),
    ("/console/llms", "llms", "/console/llms", "claude"),
    ("/console/llms/{name}", "llm", "/console/llms/gpt", "Where requests go"),
    ("/console/playground", "playground", "/console/playground?llm=gpt", "Maximum of tokens"),
    ("/console/secrets", "secrets", "/console/secrets", "Values can be written"),
    ("/console/secrets/{name}", "secret", "/console/secrets/openai", "Write a value"),
    ("/console/tokens", "tokens", "/console/tokens", "Make the token"),
    ("/console/tokens/{name}", "token", "/console/tokens/admin-laptop", "New secret"),
    ("/console/tokens/{name}/revoke", "token-revoke", "/console/tokens/admin-laptop/revoke", "What runs now"),
    ("/console/access", "access", "/console/access", "embeddings-of-a-long-name"),
    ("/console/access/why", "why", "/console/access/why?subject=alice&llm=gpt", "devs-use-gpt"),
    ("/console/access/revoke", "revoke", "/console/access/revoke?binding=devs-use-gpt", "What runs now"),
    ("/console/people", "people", "/console/people", "Bob <b>of</b> the \"tests\""),
    ("/console/people/{kind}/{name}", "person", "/console/people/users/alice", "alice-llm-user"),
    (
        "/console/people/{kind}/{name}/{action}",
        "disable",
        "/console/people/users/alice/disable",
        "Who loses what",
    ),
    ("/console/usage", "usage", "/console/usage", "Cost, US dollars"),
    ("/console/failovers", "failovers", "/console/failovers", "local provider desk"),
    ("/console/agents", "agents", "/console/agents", "User alice"),
    ("/console/audit", "audit", "/console/audit", "mcpd itself"),
];
/// A page whose address the test learns from the list before it.
const AGENT: &str = "/console/agents/{agent}";
/// Routes that are no pages: they lead to others, or are what pages load.
const NO_PAGES: [&str; 9] = [
    "/console",
    "/console/",
    "/console/assets/{file}",
    "/console/sign-out",
    "/console/sign-in/with/{provider}",
    "/console/sign-in/return",
    "/console/llms/{name}/test",
    "/console/playground/infer",
    "/console/tokens/{name}/rotate",
];

#[tokio::test]
async fn every_page_is_clean_in_light_dark_and_narrow() {
    let world = World::with_records().await;
    let browser = world.administrator().await;
    for (_, name, address, text) in PAGES {
        browser.open(&world.at(address)).await;
        browser.shows(text).await;
        browser.inspect(name).await;
    }
    browser.open(&world.at("/console/agents")).await;
    browser.click_at("tbody a").await;
    browser.shows("Engines").await;
    browser.shows("desk").await;
    browser.inspect("agent").await;
}

/// More of what a page can show.
#[tokio::test]
async fn further_views_of_pages_are_clean() {
    let world = World::with_records().await;
    let browser = world.administrator().await;
    for (name, address, text) in [
        ("people-groups", "/console/people?kind=groups", "who writes programs"),
        ("group", "/console/people/groups/devs", "What the group gives"),
        ("usage-by-user", "/console/usage?by=user&show=tokens", "User alice"),
        ("access-filtered", "/console/access?account=bo&granted=true", "bob"),
        (
            "revoke-subject",
            "/console/access/revoke?binding=alice-llm-user&subject=alice",
            "May no longer run",
        ),
        ("enable", "/console/people/users/carol/enable", "Who gains what"),
        ("audit-denied", "/console/audit?decision=denied&subject=nobody", "No row matches"),
    ] {
        browser.open(&world.at(address)).await;
        browser.shows(text).await;
        browser.inspect(name).await;
    }
    world.sign_in(&browser, &world.bob).await;
    for (name, address, text) in [
        ("access-of-own", "/console/access", "What you may use"),
        ("person-own", "/console/people/users/bob", "Tokens and sessions"),
        ("usage-own", "/console/usage", "None in this time"),
    ] {
        browser.open(&world.at(address)).await;
        browser.shows(text).await;
        browser.inspect(name).await;
    }
    refused(&browser, &world, "/console/people/users/alice", "forbidden-page").await;
}

#[tokio::test]
async fn narrow_window_shows_the_newest_day_and_the_first_row() {
    let world = World::with_records().await;
    let browser = world.administrator().await;
    browser.see(View::Narrow).await;
    browser.open(&world.at("/console/usage")).await;
    // The bar of today is the only one of the plot that is shown.
    let newest = "[...document.querySelectorAll('.plot [fill=\"#010101\"]')].map(bar => bar.getBoundingClientRect())\
                  .filter(bar => bar.height > 0).map(bar => bar.left > 0 && bar.right < innerWidth)";
    assert_eq!(browser.evaluate(newest).await, json!([true]));
    for page in ["audit", "failovers"] {
        browser.open(&world.at(&format!("/console/{page}"))).await;
        let first = "document.querySelector('tbody tr').getBoundingClientRect().top < innerHeight";
        assert_eq!(browser.evaluate(first).await, json!(true), "{page}");
    }
}

#[tokio::test]
async fn zone_of_times_is_stated_once_where_there_are_times() {
    let world = World::start().await;
    let browser = world.administrator().await;
    browser.in_zone("Asia/Kolkata").await;
    browser.open(&world.at("/console/audit")).await;
    browser.shows("Times are those of Asia/").await;
    let shown = "[document.querySelector('time').textContent, document.querySelector('time').dateTime]";
    let [shown, utc] = serde_json::from_value::<[String; 2]>(browser.evaluate(shown).await).unwrap();
    let utc: jiff::Timestamp = utc.parse().unwrap();
    assert_eq!(shown, utc.in_tz("Asia/Kolkata").unwrap().strftime("%F %T").to_string());
    browser.open(&world.at("/console/playground")).await;
    browser.shows("Maximum of tokens").await;
    browser.shows_no("Times are those").await;
}

#[tokio::test]
async fn wrong_entry_is_shown_where_it_was_typed() {
    let world = World::start().await;
    let browser = world.administrator().await;
    browser.open(&world.at("/console/tokens")).await;
    browser.fill("Name", "Bad Name").await;
    browser.choose("Good for", "7 days").await;
    browser.click("Make the token").await;
    browser.shows("cannot be a name").await;
    assert_eq!(browser.value("Name").await, "Bad Name");
    assert_eq!(browser.value("Good for").await, "7d");
    let seen = "(() => { const {top, bottom} = document.activeElement.getBoundingClientRect(); \
                return [document.activeElement.className, top >= 0 && bottom <= innerHeight] })()";
    assert_eq!(browser.evaluate(seen).await, json!(["alert", true]));
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("status of 400")), "{complaints:#?}");
    browser.inspect("token-not-accepted").await;
}

/// Chromium itself notes that the page came with an error.
async fn refused(browser: &Browser, world: &World, address: &str, name: &str) {
    browser.open(&world.at(address)).await;
    browser.shows("Not allowed").await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("status of 403")), "{complaints:#?}");
    browser.inspect(name).await;
}

/// From the source, because a route that no test knows is what is looked for.
#[test]
fn every_page_has_its_screenshots() {
    let source = include_str!("../../src/http/console.rs");
    let served: BTreeSet<&str> =
        source.split('"').skip(1).step_by(2).filter(|text| text.starts_with("/console")).collect();
    let looked_at = PAGES.iter().map(|page| page.0).chain([AGENT]).chain(NO_PAGES).collect();
    assert_eq!(
        served, looked_at,
        "add a page to PAGES, with an address at which the world has something to show"
    );
}
