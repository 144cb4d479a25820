//! Requests in flight: how many one principal and all may have, and what streams keep of the memory for bodies.

use mcpctl_testkit::{
    daemons::{McpdOptions, eventually},
    model_server::Reply,
    response::header,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::support::World;

fn limited(limits: &str) -> McpdOptions {
    McpdOptions { config: Some(format!("limits: {limits}\n")), ..McpdOptions::default() }
}

/// A stream to `open` that has begun.
async fn begun(world: &World, bearer: &str, prompt: &str) -> Response {
    let messages = json!([{"role": "user", "content": prompt}]);
    let body = json!({"model": "open", "stream": true, "messages": messages});
    let mut answer = world.mcpd.post("/v1/chat/completions", bearer, &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.chunk().await.unwrap().is_some());
    answer
}

#[tokio::test]
async fn requests_in_flight_are_bounded_per_principal_and_in_total() {
    let world = World::with(limited("{inference: {perPrincipal: 2, total: 3}}")).await;
    world.provider.set_default(Reply::text("one two").stall_after(1));
    let (mcpd, alice, admin) = (&world.mcpd, &world.alice, &world.admin);
    let carol = mcpd.user("carol", Some("open-user")).await;
    let whole = json!({"model": "open", "messages": []});
    let ask = async |bearer: &str| mcpd.post("/v1/chat/completions", bearer, &whole).await;
    let (first, second) = (begun(&world, alice, "Hi").await, begun(&world, alice, "Hi").await);
    let refused = ask(alice).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    // The agent does not fail over for what the caller itself caused.
    assert_eq!(
        (header(&refused, "mcpctl-failure"), header(&refused, "retry-after")),
        (Some("quota"), Some("2"))
    );
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "requests_in_flight");
    assert!(body["error"]["hint"].as_str().unwrap().contains("limits.inference"), "{body}");
    let third = begun(&world, admin, "Hi").await;
    let full = ask(&carol).await;
    assert_eq!((full.status(), header(&full, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("2")));
    assert_eq!(world.provider.inferences().len(), 3);
    // Neither a probe nor a denial takes a place.
    assert_eq!(mcpd.head("/api/v1/llms/open", alice).await.status(), StatusCode::OK);
    assert_eq!(ask(&world.bob).await.status(), StatusCode::FORBIDDEN);
    drop((first, third));
    world.provider.set_default(Reply::text("done"));
    eventually("the places of callers who left are free", async || {
        let (own, other) = (ask(alice).await.status(), ask(&carol).await.status());
        (own == StatusCode::OK && other == StatusCode::OK).then_some(())
    })
    .await;
    drop(second);
}

/// A stream that a fallback may go on with keeps its request until its end.
#[tokio::test]
async fn resumable_streams_leave_the_memory_for_bodies_to_others() {
    let world = World::with(limited("{http: {bodyBytes: 2MiB}}")).await;
    let (mcpd, alice) = (&world.mcpd, &world.alice);
    let change = json!({"fallbacks": [{"llm": "closed"}], "midStream": "restart"});
    let patched = mcpd.request(Method::PATCH, "/api/v1/llms/open", &world.admin).json(&change).send().await;
    assert_eq!(patched.unwrap().status(), StatusCode::OK);
    world.provider.set_default(Reply::text("one two").stall_after(1));
    let prompt = "x".repeat(150_000);
    let mut running = Vec::new();
    for _ in 0..14 {
        running.push(begun(&world, alice, &prompt).await);
    }
    for bearer in [alice, &world.admin] {
        let large = json!({"verb": "view", "kind": "llms", "name": "x".repeat(60_000)});
        let answer = mcpd.post("/api/v1/auth/can-i", bearer, &large).await;
        assert!(!answer.status().is_server_error() && answer.status() != StatusCode::TOO_MANY_REQUESTS);
        running.push(begun(&world, bearer, &"y".repeat(700_000)).await);
    }
}
