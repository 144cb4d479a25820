//! Long lists are read to their last row by the links of their pages, and each row is on one page.

use mcpctl_api::Id;
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES},
    journal,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::{Browser, Page};

/// Pages after which a walk would be a loop.
const MAX_PAGES: usize = 40;

async fn started() -> (Mcpd, Browser) {
    let options = McpdOptions { config: Some(UNBOUNDED_WRITES.to_owned()), ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    (mcpd, browser)
}

/// Reads a list from this address on by the links of this name; returns the texts between the marks, and the last page.
async fn walk(browser: &Browser, first: &str, link: &str, marks: (&str, &str)) -> (Vec<String>, Page) {
    let (mut found, mut page) = (Vec::new(), browser.get(first).await);
    for _ in 0..MAX_PAGES {
        found.extend(page.is(StatusCode::OK).between(marks.0, marks.1));
        let Some(next) = page.link(link) else { return (found, page) };
        page = browser.get(&next).await;
    }
    panic!("{first} has more than {MAX_PAGES} pages");
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n:03}")).collect()
}

fn documents(names: &[String], document: impl Fn(&str) -> Value) -> Value {
    names.iter().map(|name| document(name)).collect()
}

#[tokio::test]
async fn lists_of_resources_are_read_to_the_last_name() {
    let (mcpd, browser) = started().await;
    let (users, secrets, llms) = (numbered("u", 120), numbered("s", 205), numbered("m", 205));
    mcpd.apply(documents(&users, |name| json!({"kind": "User", "name": name}))).await;
    mcpd.apply(documents(&secrets, |name| json!({"kind": "Secret", "name": name, "data": {"token": "x"}})))
        .await;
    mcpd.apply(documents(&llms, |name| {
        json!({"kind": "Llm", "name": name, "type": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"})
    }))
    .await;
    for (first, link, marks, names) in [
        ("/console/people?name=u-", "Next page", ("<a href=\"/console/people/users/", "\""), &users),
        ("/console/secrets", "Next page", ("<a href=\"/console/secrets/", "\""), &secrets),
        ("/console/llms", "Next page", ("<a href=\"/console/llms/", "\""), &llms),
        ("/console/access?account=u-", "More accounts", ("<a href=\"/console/people/users/", "\""), &users),
        ("/console/access?account=u-000&llm=m-", "More Llms", ("<th scope=\"col\">m-", "<"), &llms),
    ] {
        let (found, last) = walk(&browser, first, link, marks).await;
        let expected: Vec<_> = names.iter().map(|name| name.trim_start_matches("m-")).collect();
        let found: Vec<_> = found.iter().map(|name| name.trim_start_matches("m-")).collect();
        assert_eq!(found, expected, "{first}");
        let start = last.link("To the start").unwrap_or_else(|| panic!("{first}: {}", last.html));
        let again = browser.get(&start).await;
        assert_eq!(again.between(marks.0, marks.1)[0].trim_start_matches("m-"), expected[0], "{first}");
        assert_eq!(again.link("To the start"), None, "{first}");
    }
}

#[tokio::test]
async fn audit_is_read_to_the_oldest_row_while_rows_are_added() {
    let (mcpd, browser) = started().await;
    let users = numbered("u", 120);
    mcpd.apply(documents(&users, |name| json!({"kind": "User", "name": name}))).await;
    let first = browser.get("/console/audit?action=create").await;
    mcpd.apply(documents(&numbered("later", 60), |name| json!({"kind": "User", "name": name}))).await;
    let (older, last) =
        walk(&browser, &first.link("Older rows").unwrap(), "Older rows", (">users/u-", "<")).await;
    let mut found = first.between(">users/u-", "<");
    found.extend(older);
    found.sort();
    let expected: Vec<_> = users.iter().map(|name| name.trim_start_matches("u-").to_owned()).collect();
    assert_eq!(found, expected, "each row once, and none of those that came later");
    let newest = browser.get(&last.link("To the newest").unwrap()).await;
    newest.has("users/later-").lacks("To the newest");
}

/// Lines of failovers that an agent reports as the holder of this token.
async fn report(mcpd: &Mcpd, bearer: &str, agent: &Id, count: usize) {
    let entries: Vec<_> = (0..count).map(|number| journal::failover(&format!("r{number}"), "gpt")).collect();
    journal::hand_over(mcpd, bearer, agent, &entries).await;
}

#[tokio::test]
async fn ledger_and_agents_are_read_to_the_last_row() {
    let (mcpd, browser) = started().await;
    let alice = mcpd.user("alice", None).await;
    let agent = Id::mint();
    report(&mcpd, &alice, &agent, 120).await;
    let (mut lines, _) =
        walk(&browser, "/console/failovers", "Older rows", ("<span class=\"none\">line ", "<")).await;
    lines.sort_by_key(|line| line.parse::<usize>().unwrap());
    assert_eq!(lines, (1..=120).map(|n| n.to_string()).collect::<Vec<_>>());

    let mut agents: Vec<String> = vec![agent.to_string()];
    for _ in 0..60 {
        let agent = Id::mint();
        report(&mcpd, &alice, &agent, 1).await;
        agents.push(agent.to_string());
    }
    let marks = ("<a href=\"/console/agents/", "\"");
    let (mut found, _) = walk(&browser, "/console/agents", "Next page", marks).await;
    found.sort();
    agents.sort();
    assert_eq!(found, agents);
}
