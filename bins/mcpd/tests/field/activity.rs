//! What Llms are doing, on whole daemons: what counts, and who sees it.

use mcpctl_testkit::{
    central::Central,
    daemons::{Mcpd, eventually},
    model_server::{Gate, Reply},
};
use serde_json::{Value, json};

async fn activity(mcpd: &Mcpd, bearer: &str) -> Value {
    let answer = mcpd.get("/api/v1/llm-activity", bearer).await;
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json().await.unwrap()
}

/// The named counts of an Llm.
async fn counts<const N: usize>(world: &Central, llm: &str, names: [&str; N]) -> [u64; N] {
    let all = activity(&world.mcpd, &world.mcpd.admin()).await;
    let item = all["items"].as_array().unwrap().iter().find(|item| item["llm"] == llm).unwrap();
    names.map(|name| item[name].as_u64().unwrap_or_else(|| panic!("{name}: {item}")))
}

async fn send(world: &Central, llm: &str, stream: bool) -> reqwest::Response {
    let body =
        json!({"model": llm, "stream": stream, "messages": [{"role": "user", "content": "hello there"}]});
    world.mcpd.post("/v1/chat/completions", &world.alice, &body).await
}

#[tokio::test]
async fn requests_count_as_they_run_and_as_they_end() {
    let mut world = Central::start(&["gpt", "claude"]).await;
    let url = world.provider.base_url();
    world
        .mcpd
        .apply(json!([{"kind": "Llm", "name": "gpt", "type": "openai", "url": url, "model": "m",
            "retries": {"max": 0}, "fallbacks": [{"llm": "claude"}]}]))
        .await;
    let ended = ["requests", "failures", "fallbacks", "inputTokens", "outputTokens"];
    assert_eq!(counts(&world, "gpt", ended).await, [0; 5]);
    // The model server counts words: two in both directions.
    send(&world, "gpt", false).await.bytes().await.unwrap();
    assert_eq!(counts(&world, "gpt", ended).await, [1, 0, 0, 2, 2]);
    world.provider.queue(Reply::error(503, "busy", "busy"));
    send(&world, "gpt", false).await.bytes().await.unwrap();
    assert_eq!(counts(&world, "gpt", ended).await, [2, 1, 0, 2, 2]);
    assert_eq!(counts(&world, "claude", ended).await, [1, 0, 1, 2, 2]);

    // A stream counts its tokens while it runs, and none of them twice.
    let gate = Gate::new();
    world.provider.queue(Reply::pieces(&["one ", "two ", "three ", "four"]).gate_after(3, &gate));
    let stream = send(&world, "claude", true).await;
    let live = ["running", "streams", "firstTokens", "outputTokens", "requests"];
    eventually("three tokens of the stream count", async || {
        (counts(&world, "claude", live).await == [1, 1, 1, 5, 1]).then_some(())
    })
    .await;
    let [micros] = counts(&world, "claude", ["firstTokenMicros"]).await;
    assert!(micros > 0);
    gate.release();
    stream.bytes().await.unwrap();
    eventually("the stream has ended", async || {
        (counts(&world, "claude", live).await == [0, 0, 1, 6, 2]).then_some(())
    })
    .await;
    // A caller who goes away is no failure of the Llm, and nothing runs on.
    world.provider.queue(Reply::pieces(&["one ", "two"]).stall_after(1));
    drop(send(&world, "claude", true).await);
    let gone = ["running", "streams", "requests", "failures"];
    eventually("the cancelled stream has ended", async || {
        (counts(&world, "claude", gone).await == [0, 0, 3, 0]).then_some(())
    })
    .await;

    let before = activity(&world.mcpd, &world.mcpd.admin()).await;
    world.mcpd.kill();
    world.mcpd.restart().await;
    let after = activity(&world.mcpd, &world.mcpd.admin()).await;
    assert_ne!(before["replica"], after["replica"], "another process counts from zero");
    assert!(before["upMillis"].as_u64() > after["upMillis"].as_u64(), "{before} {after}");
    assert_eq!(counts(&world, "claude", ended).await, [0; 5]);
}

#[tokio::test]
async fn activity_shows_the_llms_that_a_caller_may_view() {
    let world = Central::start(&["gpt", "claude"]).await;
    let mcpd = &world.mcpd;
    let names = async |bearer: &str| -> Vec<String> {
        let all = activity(mcpd, bearer).await;
        let items = all["items"].as_array().unwrap().iter();
        items.map(|item| item["llm"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&world.alice).await, ["claude", "gpt"]);
    let rules = |verb: &str| json!([{"kinds": ["llms"], "verbs": [verb], "names": ["gpt"]}]);
    assert_eq!(names(&mcpd.user_with_rules("eve", rules("view")).await).await, ["gpt"]);
    assert!(names(&mcpd.user_with_rules("mallory", rules("run")).await).await.is_empty());
    assert!(names(&mcpd.user("carol", None).await).await.is_empty());
    assert_eq!(mcpd.get("/api/v1/llm-activity", "").await.status(), 401);
    assert_eq!(mcpd.get("/api/v1/llm-activity?llm=gpt", &world.alice).await.status(), 400);
}
