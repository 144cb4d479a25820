//! Addresses as clients write those of the agent, and as people write them in its configuration file.

use mcpctl_testkit::{
    daemons::program,
    deployment::{Deployment, openai_item},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn send(deployment: &Deployment, method: Method, path: &str, bearer: &str) -> Response {
    deployment.agent.request(method, path, bearer).send().await.unwrap()
}

async fn error_of(answer: Response) -> Value {
    let body: Value = answer.json().await.expect("an error is JSON");
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
    // Anthropic's shape has no `param`: the message names it.
    let has_param = body["error"].get("param").is_some();
    assert!(body["error"]["code"].is_string() && has_param == (body["type"] != "error"), "{body}");
    body["error"].clone()
}

#[tokio::test]
async fn wrong_path_or_method_is_answered_with_the_right_one() {
    let deployment = Deployment::builder().signed_in().start().await;
    for (written, right) in [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/responses", "/v1/responses"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/models/claude", "/v1/models/{model}"),
        ("/status/", "/status"),
    ] {
        let answer = send(&deployment, Method::POST, written, &deployment.alice).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{written}");
        let error = error_of(answer).await;
        assert!(error["hint"].as_str().unwrap().contains(&format!("`{right}`")), "{written}: {error}");
    }
    let key = deployment.agent.local_key();
    for (method, path, allow) in [
        (Method::GET, "/v1/chat/completions", "POST"),
        (Method::OPTIONS, "/v1/embeddings", "POST"),
        (Method::DELETE, "/v1/models", "GET,HEAD"),
        (Method::POST, "/status", "GET,HEAD"),
        (Method::GET, "/api/v1/engines/desk/start", "POST"),
        (Method::PUT, "/api/v1/engines/desk/logs", "GET,HEAD"),
        (Method::POST, "/healthz", "GET,HEAD"),
    ] {
        let answer = send(&deployment, method.clone(), path, &key).await;
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
        let answer = send(&deployment, method, path, &key).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        error_of(answer).await;
    }
}

#[tokio::test]
async fn one_model_is_shown_as_in_the_list() {
    let deployment = Deployment::builder().signed_in().start().await;
    let key = deployment.agent.local_key();
    let listed: Value = send(&deployment, Method::GET, "/v1/models", &key).await.json().await.unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    for (model, path) in [
        ("claude", "/v1/models/claude"),
        ("local/desk", "/v1/models/local/desk"),
        ("local/desk", "/v1/models/local%2Fdesk"),
    ] {
        let answer = send(&deployment, Method::GET, path, &key).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let shown: Value = answer.json().await.unwrap();
        assert!(listed["data"].as_array().unwrap().contains(&shown) && shown["id"] == model, "{shown}");
    }
    for (bearer, path, status) in [
        (&key, "/v1/models/local/none", StatusCode::NOT_FOUND),
        (&key, "/v1/models/none", StatusCode::NOT_FOUND),
        (&key, "/v1/models/claude/", StatusCode::NOT_FOUND),
        (&deployment.alice, "/v1/models/local/desk", StatusCode::FORBIDDEN),
        (&deployment.mcpd.user("bob", None).await, "/v1/models/claude", StatusCode::FORBIDDEN),
    ] {
        let answer = send(&deployment, Method::GET, path, bearer).await;
        assert_eq!(answer.status(), status, "{path}");
        error_of(answer).await;
    }
}

#[tokio::test]
async fn base_urls_work_with_and_without_v1() {
    let mut deployment = Deployment::builder().signed_in().start().await;
    let (mcpd, desk) = (deployment.mcpd.url().to_owned(), format!("http://{}", deployment.desk.address()));
    for (server, provider) in [("/v1", "/v1"), ("//", "//v1//"), ("/v1/", "/")] {
        let config = format!(
            "server: {mcpd}{server}\nlisten: 127.0.0.1:0\nproviders:\n{}",
            openai_item("desk", &format!("{desk}{provider}"), &[])
        );
        deployment.agent.stop();
        deployment.agent.change_config(|_| config);
        deployment.agent.restart().await;
        let key = deployment.agent.local_key();
        for (model, bearer, upstream) in
            [("claude", &deployment.alice, &deployment.provider), ("local/desk", &key, &deployment.desk)]
        {
            let answer = deployment.agent.chat(model, bearer, false).await;
            assert_eq!(answer.status(), StatusCode::OK, "{server} {provider} {model}");
            let sent = upstream.inferences().pop().unwrap();
            assert_eq!(sent.path, "/v1/chat/completions", "{server} {provider} {model}");
        }
        let listed = send(&deployment, Method::GET, "/v1/models", &deployment.alice).await;
        let listed: Value = listed.json().await.unwrap();
        assert_eq!(listed["data"][0]["id"], json!("claude"));
    }
}

#[tokio::test]
async fn url_that_is_no_base_is_rejected_with_its_place() {
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
        let output = std::process::Command::new(program("mcplocal"))
            .args(["--check", "--config"])
            .arg(&path)
            .env("XDG_STATE_HOME", dir.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{config}");
        assert!(error.contains(place) && error.contains(&format!("write `{base}`")), "{config}: {error}");
    }
}
