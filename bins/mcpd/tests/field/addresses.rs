//! Addresses as clients and documentation write them: of mcpd, and of providers.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn error_of(answer: Response) -> Value {
    let source = answer.headers().get("mcpctl-error-source").cloned();
    assert_eq!(source.unwrap(), "mcpd");
    let body: Value = answer.json().await.expect("an error is JSON");
    assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string(), "{body}");
    // Anthropic's shape has no `param`: the message names it.
    let has_param = body["error"].get("param").is_some();
    assert!(body["error"]["code"].is_string() && has_param == (body["type"] != "error"), "{body}");
    body["error"].clone()
}

#[tokio::test]
async fn wrong_path_is_answered_with_the_right_one() {
    let mcpd = Mcpd::start().await;
    for (method, written, right) in [
        (Method::POST, "/v1/chat/completions/", "/v1/chat/completions"),
        (Method::POST, "/v1//chat/completions", "/v1/chat/completions"),
        (Method::POST, "//v1/chat/completions", "/v1/chat/completions"),
        (Method::POST, "/v1/v1/chat/completions", "/v1/chat/completions"),
        (Method::POST, "/chat/completions", "/v1/chat/completions"),
        (Method::POST, "/openai/v1/chat/completions", "/v1/chat/completions"),
        (Method::POST, "/api/v1/chat/completions", "/v1/chat/completions"),
        (Method::GET, "/api/v1/chat/completions", "/v1/chat/completions"),
        (Method::POST, "/v1/embedding", "/v1/embeddings"),
        (Method::GET, "/models", "/v1/models"),
        (Method::GET, "/v1/models/", "/v1/models"),
        (Method::GET, "/api/v1/llm", "/api/v1/llms"),
        (Method::GET, "/api/v1/llms/", "/api/v1/llms"),
        (Method::GET, "/healthz/", "/healthz"),
        (Method::GET, "/nothing/here", "/openapi.json"),
    ] {
        let answer = mcpd.request(method.clone(), written, &mcpd.admin()).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {written}");
        let error = error_of(answer).await;
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains(&format!("`{right}`")), "{method} {written}: {hint}");
    }
    // A stranger learns nothing of addresses.
    let answer = mcpd.request(Method::POST, "/chat/completions", "no-token").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_rejection_has_the_shape_of_an_error() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    for (method, path, status) in [
        (Method::GET, "/v1/models/%ff", 400),
        (Method::POST, "/api/v1/llms/%ff/infer", 400),
        (Method::GET, "/api/v1/llms/%ff", 400),
        (Method::GET, "/api/v1/%ff", 400),
        (Method::PUT, "/api/v1/llms/%ff", 400),
        (Method::PATCH, "/api/v1/llms/%ff", 400),
        (Method::DELETE, "/api/v1/llms/%ff", 400),
        (Method::GET, "/api/v1/llms/%zz", 404),
        (Method::GET, "/%ff", 404),
        (Method::GET, "/api/v1/llms?unknown=1", 400),
        (Method::GET, "/api/v1/watch?since=x", 400),
        (Method::GET, "/api/v1/auth/who-can", 400),
        (Method::POST, "/api/v1/apply?dryRun=maybe", 400),
        (Method::POST, "/api/v1/apply", 400),
        (Method::POST, "/v1/chat/completions", 400),
    ] {
        let answer = mcpd.request(method.clone(), path, &admin).send().await.unwrap();
        let got = answer.status().as_u16();
        if status >= 400 {
            error_of(answer).await;
            assert_eq!(got, status, "{method} {path}");
        }
    }
    for (path, limit, bytes) in
        [("/v1/chat/completions", "32.0 MiB", 33 << 20), ("/api/v1/users", "4.0 MiB", 5 << 20)]
    {
        let answer = mcpd.request(Method::POST, path, &admin).body(vec![b' '; bytes]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(error_of(answer).await["message"].as_str().unwrap().contains(limit), "{path}");
    }
}

#[tokio::test]
async fn wrong_method_is_answered_with_the_allowed_ones() {
    let mcpd = Mcpd::start().await;
    let document: Value = mcpd.get("/openapi.json", "").await.json().await.unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let url = path.replace("{kind}", "llms").replace("{idOrName}", "x");
        for method in [Method::OPTIONS, Method::TRACE, "PURGE".parse().unwrap()] {
            let answer = mcpd.request(method.clone(), &url, &mcpd.admin()).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
            let message = error_of(answer).await["message"].as_str().unwrap().to_owned();
            let allowed =
                message.trim_start_matches("this address takes ").replace(" and ", ",").replace(", ", ",");
            let sorted = |list: &str| {
                let mut methods: Vec<_> = list.split(',').map(str::to_owned).collect();
                methods.sort();
                methods
            };
            assert_eq!(sorted(&allowed), sorted(&allow), "{path}");
            for method in item.as_object().unwrap().keys() {
                assert!(allow.contains(&method.to_uppercase()), "{method} {path}: {allow}");
            }
        }
    }
}

#[tokio::test]
async fn main_listener_names_the_separate_inference_listener() {
    let mcpd = Mcpd::start_with(McpdOptions { inference_listener: true, ..McpdOptions::default() }).await;
    let answer = mcpd.post("/v1/chat/completions", &mcpd.admin(), &json!({})).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(error_of(answer).await["hint"].as_str().unwrap().contains("another listener"));
}

#[tokio::test]
async fn one_model_is_shown_to_those_who_may_run_it() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("gpt", "http://127.0.0.1:1").await;
    mcpd.llm("other", "http://127.0.0.1:1").await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["gpt"]}]);
    let alice = mcpd.user_with_rules("alice", rules).await;
    let listed: Value = mcpd.get("/v1/models", &alice).await.json().await.unwrap();
    let llm: Value = mcpd.get("/api/v1/llms/gpt", &mcpd.admin()).await.json().await.unwrap();
    for target in ["gpt", llm["id"].as_str().unwrap()] {
        let answer = mcpd.get(&format!("/v1/models/{target}"), &alice).await;
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
        assert_eq!(answer.json::<Value>().await.unwrap(), listed["data"][0], "{target}");
    }
    assert_eq!(mcpd.head("/v1/models/gpt", &alice).await.status(), StatusCode::OK);
    for target in ["other", "missing"] {
        let answer = mcpd.get(&format!("/v1/models/{target}"), &alice).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{target}: existing or not");
    }
    assert_eq!(mcpd.get("/v1/models/missing", &mcpd.admin()).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn provider_url_works_with_and_without_v1_or_gets_a_hint() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("hello")).await;
    let base = provider.base_url();
    let root = base.trim_end_matches('/').trim_end_matches("/v1").to_owned();
    for written in ["", "/", "/v1", "/v1/", "/v1//", "//v1", "//"] {
        mcpd.llm("gpt", &format!("{root}{written}")).await;
        let chat = json!({"model": "gpt", "messages": []});
        let answer = mcpd.post("/v1/chat/completions", &mcpd.admin(), &chat).await;
        assert_eq!(answer.status(), StatusCode::OK, "{written}");
        assert_eq!(provider.inferences().pop().unwrap().path, "/v1/chat/completions", "{written}");
    }
    for written in [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1//chat//completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1?x=1",
        "/v1#x",
    ] {
        let llm = json!({
            "name": "gpt", "type": "openai", "url": format!("{root}{written}"), "model": "m",
        });
        let answer =
            mcpd.request(Method::PUT, "/api/v1/llms/gpt", &mcpd.admin()).json(&llm).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{written}");
        let error = error_of(answer).await;
        assert_eq!(error["param"], "url");
        assert_eq!(error["hint"], format!("write `{root}/v1`"), "{written}");
    }
}
