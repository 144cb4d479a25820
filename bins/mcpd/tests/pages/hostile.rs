//! Texts that strangers write are shown as texts on every page: no script of theirs runs, and none makes a page wider.

use mcpctl_api::{Id, agent::FailoverOutcome};
use mcpctl_browser::{Browser, View};
use mcpctl_journal::{CallerKind, JournalEntry, Served};
use mcpctl_testkit::{journal, model_server::Reply};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{looks::PAGES, world::World};

/// Begins a script in a text, in an attribute and in a comment, if it is not escaped.
const SCRIPT: &str =
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'--><svg onload=window.hacked=1>";
/// Turns the direction of what follows, in a paragraph of its own.
const BIDI: &str = "\u{202e}abc\u{2066}";
/// Longer than any window is wide.
const WORD_CHARS: usize = 900;

/// As documents take it, which hold no invisible characters.
fn visible() -> String {
    format!("{SCRIPT} {}", "W".repeat(WORD_CHARS))
}

fn hostile() -> String {
    format!("{BIDI} {}", visible())
}

/// Writes hostile texts wherever one can be written.
async fn write(world: &World) {
    let (mcpd, text) = (world.mcpd(), visible());
    let of = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    mcpd.apply(json!([
        {"kind": "User", "name": "alice", "displayName": text, "email": text},
        {"kind": "ServiceAccount", "name": "ci", "description": text},
        {"kind": "Group", "name": "devs", "description": text, "members": [of("User", "alice"), of("User", "bob")]},
        {"kind": "Secret", "name": "openai", "description": text, "data": {"token": "sk-1"}},
        {"kind": "Llm", "name": "hostile", "type": "openai", "url": world.deployment.provider.base_url(), "model": text},
    ]))
    .await;
    let text = hostile();
    world.deployment.provider.set_default(Reply::text(&text).model(&text));
    let body = json!({"model": "hostile", "messages": [{"role": "user", "content": text}]});
    let request = mcpd.request(Method::POST, "/v1/chat/completions", &mcpd.admin());
    let answer = request.header("user-agent", SCRIPT).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // A name that no account has, of a person who may not sign in.
    mcpd.post("/api/v1/auth/login", "", &json!({"user": SCRIPT, "password": text})).await;
    mcpd.get(&format!("/api/v1/llms/{}", "%3Cscript%3Ewindow.hacked=1%3C%2Fscript%3E"), &world.bob).await;
    report(world, &text).await;
}

/// Hands over a journal whose every text is hostile.
async fn report(world: &World, text: &str) {
    let (agent, at) = (Id::mint(), jiff::Timestamp::now());
    let served = Served {
        request: text.to_owned(),
        who: text.to_owned(),
        caller: CallerKind::User,
        llm: Some(text.to_owned()),
        llm_id: None,
        provider: text.to_owned(),
    };
    let entries = [
        JournalEntry::Failover {
            at,
            served: served.clone(),
            class: Some(text.to_owned()),
            access: vec![text.to_owned()],
            outcome: FailoverOutcome::Served,
            reason: Some(text.to_owned()),
            proof: None,
        },
        JournalEntry::Ended {
            at,
            served,
            outcome: text.to_owned(),
            model: Some(text.to_owned()),
            tokens: None,
            cost: 0,
        },
    ];
    journal::hand_over(world.mcpd(), &world.bob, &agent, &entries).await;
}

/// Nothing of a text has become a part of the page, in a wide window and in a narrow one.
async fn is_harmless(browser: &Browser, name: &str) {
    let parts = "[window.hacked === undefined, document.scripts.length, \
                 document.querySelectorAll('img, iframe, object, embed, [onload], [onerror]').length]";
    assert_eq!(browser.evaluate(parts).await, json!([true, 1, 0]), "{name}");
    for view in [View::Light, View::Narrow] {
        browser.see(view).await;
        assert_eq!(browser.wider_than_window().await, Vec::<String>::new(), "{name}, {}", view.name());
    }
    browser.see(View::Light).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "{name}");
}

#[tokio::test]
async fn hostile_texts_are_shown_as_texts_on_every_page() {
    let world = World::with_records().await;
    write(&world).await;
    let browser = world.administrator().await;
    let more = [
        ("", "people-groups", "/console/people?kind=groups", ""),
        ("", "service-accounts", "/console/people?kind=serviceaccounts", ""),
        ("", "group", "/console/people/groups/devs", ""),
        ("", "hostile-llm", "/console/llms/hostile", ""),
        ("", "ends", "/console/failovers?show=ends", ""),
        ("", "usage-by-model", "/console/usage?by=model", ""),
        ("", "filter", "/console/access?account=%22%3E%3Cscript%3Ewindow.hacked=1%3C/script%3E", ""),
    ];
    for (_, name, address, _) in PAGES.into_iter().chain(more) {
        browser.open(&world.at(address)).await;
        is_harmless(&browser, name).await;
    }
    for (address, what) in [
        ("/console/llms", "the model"),
        ("/console/people", "the name of a person"),
        ("/console/people/users/alice", "the address"),
        ("/console/people/groups/devs", "the description"),
        ("/console/secrets/openai", "the description"),
        ("/console/failovers", "the reason"),
        ("/console/audit", "the reason"),
        ("/console/usage?by=model", "the model"),
    ] {
        browser.open(&world.at(address)).await;
        let text = browser.text().await;
        assert!(text.contains("<script>window.hacked=1</script>"), "{address}, {what}: {text}");
    }
    browser.open(&world.at("/console/agents")).await;
    browser.click_at("tbody a").await;
    browser.shows("<script>window.hacked=1</script>").await;
    is_harmless(&browser, "agent").await;
}

/// As it is written by the script, and as the page is made without one.
#[tokio::test]
async fn hostile_answers_are_texts_in_the_playground() {
    let world = World::start().await;
    let text = hostile();
    for browser in [Browser::start().await, Browser::start_without_scripts().await] {
        world.deployment.provider.set_default(Reply::text(&text).model(&text).reasoning(&text));
        world.sign_in(&browser, &world.mcpd().admin()).await;
        browser.open(&world.at("/console/playground?llm=gpt")).await;
        browser.fill("Prompt", SCRIPT).await;
        browser.click("Send").await;
        browser.shows("<script>window.hacked=1</script><img src=x").await;
        browser.shows("Served by").await;
        is_harmless(&browser, "playground").await;
    }
}
