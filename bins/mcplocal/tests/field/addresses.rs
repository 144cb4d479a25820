//! Addresses as clients write them, of the agent, and as people write them in its file.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, program},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

struct World {
    mcpd: Mcpd,
    desk: ModelServer,
    agent: Mcplocal,
    alice: String,
}

impl World {
    /// The server's and the provider's addresses end in these.
    async fn new(server: &str, provider: &str) -> Self {
        let mcpd = Mcpd::start().await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("gpt", &desk.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let desk_root = desk.base_url().trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let agent = Mcplocal::start(&format!(
            "server: {}{server}\nproviders:\n  - name: desk\n    type: openai\n    url: {desk_root}{provider}\n    model: m\n",
            mcpd.url(),
        ))
        .await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { mcpd, desk, agent, alice }
    }

    async fn send(&self, method: Method, path: &str, bearer: &str) -> Response {
        self.agent.request(method, path, bearer).send().await.unwrap()
    }
}

async fn error_of(answer: Response) -> Value {
    let body: Value = answer.json().await.expect("an error is JSON");
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
    assert!(body["error"]["code"].is_string() && body["error"].get("param").is_some(), "{body}");
    body["error"].clone()
}

#[tokio::test]
async fn a_wrong_address_or_method_is_answered_with_the_right_one() {
    let world = World::new("", "").await;
    for (written, right) in [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/responses", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/gpt", "/v1/models/{model}"),
        ("/status/", "/status"),
    ] {
        let answer = world.send(Method::POST, written, &world.alice).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{written}");
        let error = error_of(answer).await;
        assert!(error["hint"].as_str().unwrap().contains(&format!("`{right}`")), "{written}: {error}");
    }
    let key = world.agent.local_key();
    for (method, path, allow) in [
        (Method::GET, "/v1/chat/completions", "POST"),
        (Method::OPTIONS, "/v1/embeddings", "POST"),
        (Method::DELETE, "/v1/models", "GET,HEAD"),
        (Method::POST, "/status", "GET,HEAD"),
        (Method::GET, "/api/v1/engines/desk/start", "POST"),
        (Method::PUT, "/api/v1/engines/desk/logs", "GET,HEAD"),
        (Method::POST, "/healthz", "GET,HEAD"),
    ] {
        let answer = world.send(method.clone(), path, &key).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.headers()["allow"], allow, "{method} {path}");
        let message = error_of(answer).await["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(&allow.replace(',', " and ")), "{path}: {message}");
    }
    for (method, path) in [
        (Method::GET, "/v1/models/%ff"),
        (Method::POST, "/api/v1/llms/%ff/infer"),
        (Method::GET, "/api/v1/engines/%ff/logs"),
        (Method::GET, "/api/v1/engines/desk/logs?unknown=1"),
        (Method::GET, "/api/v1/engines/desk/logs?follow=maybe"),
    ] {
        let answer = world.send(method, path, &key).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        error_of(answer).await;
    }
}

#[tokio::test]
async fn one_model_is_shown_as_the_list_shows_it() {
    let world = World::new("", "").await;
    let key = world.agent.local_key();
    let listed: Value = world.send(Method::GET, "/v1/models", &key).await.json().await.unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    for (model, path) in [
        ("gpt", "/v1/models/gpt"),
        ("local/desk", "/v1/models/local/desk"),
        ("local/desk", "/v1/models/local%2Fdesk"),
    ] {
        let answer = world.send(Method::GET, path, &key).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let shown: Value = answer.json().await.unwrap();
        assert!(listed["data"].as_array().unwrap().contains(&shown) && shown["id"] == model, "{shown}");
    }
    for (bearer, path, status) in [
        (&key, "/v1/models/local/none", StatusCode::NOT_FOUND),
        (&key, "/v1/models/none", StatusCode::NOT_FOUND),
        (&key, "/v1/models/gpt/", StatusCode::NOT_FOUND),
        (&world.alice, "/v1/models/local/desk", StatusCode::FORBIDDEN),
        (&world.mcpd.user("bob", None).await, "/v1/models/gpt", StatusCode::FORBIDDEN),
    ] {
        let answer = world.send(Method::GET, path, bearer).await;
        assert_eq!(answer.status(), status, "{path}");
        error_of(answer).await;
    }
}

#[tokio::test]
async fn addresses_in_the_file_work_in_both_forms() {
    for (server, provider) in [("/v1", "/v1"), ("//", "//v1//"), ("/v1/", "/")] {
        let world = World::new(server, provider).await;
        for (model, bearer) in [("gpt", &world.alice), ("local/desk", &world.agent.local_key())] {
            let answer = world.agent.chat(model, bearer, false).await;
            assert_eq!(answer.status(), StatusCode::OK, "{server} {provider} {model}");
            let sent = world.desk.inferences().pop().unwrap();
            assert_eq!(sent.path, "/v1/chat/completions", "{server} {provider} {model}");
        }
        let listed: Value = world.send(Method::GET, "/v1/models", &world.alice).await.json().await.unwrap();
        assert_eq!(listed["data"][0]["id"], json!("gpt"));
    }
}

#[tokio::test]
async fn an_address_that_is_no_base_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcplocal.yaml");
    let provider = |url: &str| {
        format!(
            "server: http://127.0.0.1:1\nproviders:\n  - name: desk\n    type: openai\n    url: {url}\n    model: m\n"
        )
    };
    for (config, place, base) in [
        (provider("http://127.0.0.1:9/v1/chat/completions"), "5:10", "http://127.0.0.1:9/v1"),
        (provider("http://127.0.0.1:9/v1/models/"), "5:10", "http://127.0.0.1:9/v1"),
        (provider("http://127.0.0.1:9/api/generate"), "5:10", "http://127.0.0.1:9/"),
        (provider("http://127.0.0.1:9/v1?key=x"), "5:10", "http://127.0.0.1:9/v1"),
        ("server: http://127.0.0.1:1/v1/chat/completions\n".to_owned(), "1:9", "http://127.0.0.1:1/v1"),
    ] {
        std::fs::write(&path, &config).unwrap();
        let ended = std::process::Command::new(program("mcplocal"))
            .args(["--check", "--config"])
            .arg(&path)
            .env("XDG_STATE_HOME", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{config}");
        assert!(said.contains(place) && said.contains(&format!("write `{base}`")), "{config}: {said}");
    }
}
