//! `GET /api/v1/feed`: each way of losing access shows at every replica, and only what concerns the caller.

use futures::future::join_all;
use mcpctl_testkit::daemons::{Mcpd, McpdOptions, eventually};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::replicas::World;

/// An open feed.
struct Feed {
    response: Response,
    text: String,
}

impl Feed {
    async fn open(mcpd: &Mcpd, bearer: &str, query: &str) -> Self {
        let response = mcpd.get(&format!("/api/v1/feed?{query}"), bearer).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        while !self.text.contains("\n\n") {
            let bytes = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let event = (field("event: "), serde_json::from_str(&field("data: ")).unwrap());
        self.text = rest.to_owned();
        Some(event)
    }

    /// The next event that is no heartbeat.
    async fn news(&mut self) -> Option<(String, Value)> {
        loop {
            match self.next().await {
                Some((kind, _)) if kind == "heartbeat" => {}
                other => return other,
            }
        }
    }

    async fn state(&mut self) -> Value {
        let (kind, state) = self.news().await.expect("a state");
        assert_eq!(kind, "state", "{state}");
        state
    }
}

async fn id(mcpd: &Mcpd, llm: &str) -> Value {
    let llm = mcpd.get(&format!("/api/v1/llms/{llm}"), &mcpd.admin()).await;
    llm.json::<Value>().await.unwrap()["id"].clone()
}

#[tokio::test]
async fn feed_shows_each_way_of_losing_access_at_every_replica() {
    let world = World::new().await;
    let replicas = [&world.replicas.one, &world.replicas.two];
    let bob = world.replicas.one.user("bob", Some("llm-user")).await;
    let mut others = join_all(replicas.map(|replica| Feed::open(replica, &bob, "llms=other"))).await;
    for other in &mut others {
        other.state().await;
    }
    for how in [
        "binding deleted",
        "token deleted",
        "user deleted",
        "user disabled",
        "maker disabled",
        "maker loses the right",
        "role deleted",
        "group left",
        "group deleted",
        "llm deleted",
        "llm made again",
        "token expired",
    ] {
        let alice = world.alice(if how == "token expired" { "5s" } else { "1h" }).await;
        let llm = id(&world.replicas.one, "claude").await;
        let query = format!("llms=claude,{},other,no-such", llm.as_str().unwrap());
        let mut feeds = join_all(replicas.map(|replica| Feed::open(replica, &alice, &query))).await;
        for feed in &mut feeds {
            let state = feed.state().await;
            let expected = json!({"id": llm, "allowed": true});
            assert_eq!(state["llms"]["claude"], expected, "{how}");
            assert_eq!(state["llms"][llm.as_str().unwrap()], expected, "{how}");
            for name in ["other", "no-such"] {
                assert_eq!(state["llms"][name], json!({"allowed": false}), "no id, whether or not it exists");
            }
        }
        world.lose(how).await;
        for feed in &mut feeds {
            let ended = match how {
                "token deleted" | "user deleted" | "user disabled" | "maker disabled" => "revoked",
                "token expired" => "expired",
                "llm made again" => {
                    // The state between may be skipped.
                    let mut state = feed.state().await;
                    if state["llms"]["claude"]["allowed"] == false {
                        state = feed.state().await;
                    }
                    assert_eq!(state["llms"]["claude"]["allowed"], true);
                    assert_ne!(state["llms"]["claude"]["id"], llm);
                    assert_eq!(state["llms"][llm.as_str().unwrap()], json!({"allowed": false}));
                    continue;
                }
                _ => {
                    let state = feed.state().await;
                    assert_eq!(state["llms"]["claude"], json!({"allowed": false}), "{how}");
                    continue;
                }
            };
            let event = feed.news().await.expect(how);
            assert_eq!(event, ("ended".to_owned(), json!({"reason": ended})), "{how}");
            assert_eq!(feed.next().await, None, "{how}");
        }
        for token in ["alice", "maker"] {
            world.replicas.one.delete(&format!("/api/v1/tokens/{token}"), &world.replicas.one.admin()).await;
        }
    }
    // None of that concerned bob.
    world.lose("llm deleted").await;
    world.replicas.one.delete("/api/v1/rolebindings/bob-llm-user", &world.replicas.one.admin()).await;
    for other in &mut others {
        assert_eq!(other.state().await["llms"]["other"], json!({"allowed": false}));
    }
}

#[tokio::test]
async fn feed_goes_on_from_a_revision_and_ends_with_the_shutdown() {
    let mut mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    mcpd.llm("claude", "http://127.0.0.1:9").await;
    let state = Feed::open(&mcpd, &alice, "llms=claude").await.state().await;
    let since = state["revision"].as_u64().unwrap();
    let query = format!("llms=claude&since={since}");
    let mut feed = Feed::open(&mcpd, &alice, &query).await;
    let (kind, heartbeat) = feed.next().await.unwrap();
    assert_eq!((kind.as_str(), &heartbeat["revision"]), ("heartbeat", &json!(since)));
    // What no decision depends on is no event, and the revision goes on.
    mcpd.apply(json!([{"kind": "Secret", "name": "s", "data": {"k": "v"}}])).await;
    let moved = loop {
        let (kind, heartbeat) = feed.next().await.unwrap();
        assert_eq!(kind, "heartbeat");
        match heartbeat["revision"].as_u64().unwrap() {
            revision if revision > since => break revision,
            _ => {}
        }
    };
    mcpd.llm("gpt", "http://127.0.0.1:9").await;
    let mut late = Feed::open(&mcpd, &alice, &format!("llms=claude&since={moved}")).await;
    assert_eq!(late.state().await["llms"], state["llms"]);
    mcpd.terminate();
    for feed in [&mut feed, &mut late] {
        assert_eq!(feed.news().await, None, "it ends, and the credential does not");
    }
    assert!(mcpd.wait().success());
}

#[tokio::test]
async fn feeds_and_their_llms_are_bounded() {
    let config = "limits: {feeds: {perPrincipal: 2, total: 3}}\n".to_owned();
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let (alice, bob) = (mcpd.user("alice", Some("llm-user")).await, mcpd.user("bob", None).await);
    let feed = async |bearer: &str| mcpd.get("/api/v1/feed?llms=claude", bearer).await;
    let first = feed(&alice).await;
    let _second = feed(&alice).await;
    let refused = feed(&alice).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "too_many_feeds");
    assert!(body["error"]["hint"].as_str().unwrap().contains("`limits.feeds`"), "{body}");
    let _third = feed(&bob).await;
    assert_eq!(feed(&bob).await.status(), StatusCode::TOO_MANY_REQUESTS, "three in all");
    drop(first);
    eventually("a place is free again", async || (feed(&bob).await.status() == StatusCode::OK).then_some(()))
        .await;
    let many = |count: usize| (0..count).map(|n| format!("l{n}")).collect::<Vec<_>>().join(",");
    for query in ["", "?llms=", "?llms=a,,b", "?llms=A", "?llms=a%2Fb", "?llms=a&more=1", "?llms=a&since=x"] {
        let answer = mcpd.get(&format!("/api/v1/feed{query}"), &alice).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    let answer = mcpd.get(&format!("/api/v1/feed?llms={}", many(65)), &alice).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer = mcpd.get(&format!("/api/v1/feed?llms={}", many(64)), "mcpd_no-token").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
