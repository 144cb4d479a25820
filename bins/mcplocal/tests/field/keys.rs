//! A body means the same to the agent, to mcpd, and to the model server that answers in the end.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

struct World {
    mcpd: Mcpd,
    provider: ModelServer,
    desk: ModelServer,
    agent: Mcplocal,
    alice: String,
}

impl World {
    /// `more` goes to the agent's provider.
    async fn new(more: &str) -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let allowed = json!([{
            "kind": "Llm", "name": "claude", "type": "openai", "url": provider.base_url(), "model": "m",
            "allowFields": ["models"], "retries": {"max": 0},
        }]);
        mcpd.apply(allowed).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n{more}",
            mcpd.url(),
            desk.base_url(),
        ))
        .await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { mcpd, provider, desk, agent, alice }
    }

    async fn send(&self, bearer: &str, route: &str, body: &str) -> Response {
        let request = self.agent.request(Method::POST, route, bearer);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn another_spelling_of_a_key_reaches_neither_mcpd_nor_a_local_provider() {
    let world = World::new("").await;
    let key = world.agent.local_key();
    for route in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/v1/llms/claude/infer"] {
        for (bearer, model) in [(&world.alice, "claude"), (&key, "local/desk")] {
            for written in ["Model", "mod\\u0065l", "\u{17f}tream", "model"] {
                let body = format!(r#"{{"model":"{model}","messages":[],"{written}":"other"}}"#);
                let answer = world.send(bearer, route, &body).await;
                assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{route} {body}");
                let answer: Value = answer.json().await.unwrap();
                assert!(answer["error"]["param"].is_string(), "{answer}");
            }
        }
    }
    assert!(world.provider.inferences().is_empty() && world.desk.inferences().is_empty());
    assert!(!world.mcpd.log().contains("completions"), "refused before it is forwarded");
}

#[tokio::test]
async fn what_the_llm_allows_is_not_allowed_of_the_local_provider() {
    let mut world = World::new("").await;
    let body = r#"{"model":"claude","messages":[],"models":["another"]}"#;
    let answer = world.send(&world.alice, "/v1/chat/completions", body).await;
    assert_eq!(answer.status(), StatusCode::OK, "mcpd's Llm allows it");

    world.provider.refuse().await;
    let answer = world.send(&world.alice, "/v1/chat/completions", body).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers()["mcpctl-no-failover"], "lacks_allow_fields");
    let own = r#"{"model":"local/desk","messages":[],"models":["another"]}"#;
    let answer = world.send(&world.agent.local_key(), "/v1/chat/completions", own).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["param"], "models");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("allowFields"), "{answer}");
    assert!(world.desk.inferences().is_empty());
}

#[tokio::test]
async fn a_local_provider_has_a_list_of_allowed_fields_too() {
    let mut world = World::new("    allowFields: [models]\n").await;
    world.provider.refuse().await;
    let body = r#"{"model":"claude","messages":[],"models":["another"]}"#;
    let answer = world.send(&world.alice, "/v1/chat/completions", body).await;
    assert_eq!(
        (answer.status(), &answer.headers()["mcpctl-served-by"]),
        (StatusCode::OK, &"desk".parse().unwrap())
    );
    assert_eq!(world.desk.inferences()[0].json()["models"], json!(["another"]));
}
