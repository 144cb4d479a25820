//! Addresses and methods that some servers take for others: encodings, segments, absolute form, overrides.

use reqwest::StatusCode;
use serde_json::json;

use super::support::{World, bearer, for_each};

/// Paths that some servers take for `/api/v1/llms/closed`, for `/api/v1/llms` or for `/metrics`.
const UNUSUAL_PATHS: [&str; 53] = [
    "//api/v1/llms/closed",
    "/api//v1/llms/closed",
    "/api/v1//llms/closed",
    "/api/v1/llms//closed",
    "/api/v1/llms/closed/",
    "/api/v1/llms/closed//",
    "/api/v1/llms/",
    "/./api/v1/llms/closed",
    "/api/v1/llms/./closed",
    "/api/v1/llms/open/../closed",
    "/api/v1/llms/open/%2e%2e/closed",
    "/api/v1/llms/open/..%2fclosed",
    "/api/v1/llms/open%2f..%2fclosed",
    "/api/v1/llms/open%2F%2E%2E%2Fclosed",
    "/api/v1/llms/open%252f..%252fclosed",
    "/api/v1/llms/open%5c..%5cclosed",
    "/api/v1/llms/open\\..\\closed",
    "/api/v1/llms/%63losed",
    "/api/v1/llms/%2563losed",
    "/api/v1/llms/closed%00",
    "/api/v1/llms/open%00closed",
    "/api/v1/llms/closed%20",
    "/api/v1/llms/%20closed",
    "/api/v1/llms/closed%0a",
    "/api/v1/llms/closed%0d%0a",
    "/api/v1/llms/closed.json",
    "/api/v1/llms/closed;x=open",
    "/api/v1/llms;x/closed",
    "/api/v1/llms/open;/../closed",
    "/api/v1/llms/CLOSED",
    "/api/v1/LLMS/closed",
    "/API/V1/LLMS/CLOSED",
    "/api/v1/llm/closed",
    "/api/v1/Llm/closed",
    "/api/v1/llms/%c0%aeclosed",
    "/api/v1/llms/%ff",
    "/api/v1/llms/%",
    "/api/v1/llms/%zz",
    "/api/v1/llms/*",
    "/api/v1/llms/closed*",
    "/api/v1/llms/clos%65d?name=open",
    "/api/v1/%6clms/closed",
    "/healthz/../api/v1/llms/closed",
    "/healthz/%2e%2e/metrics",
    "/healthz%2f..%2fmetrics",
    "/healthz/..;/metrics",
    "/healthz/",
    "/healthz;/metrics",
    "/openapi.json/../api/v1/users",
    "/api/v1/auth/login/../whoami",
    "/api/v1/auth/login%2f..%2fwhoami",
    "/api/v1/auth/login/",
    "/metrics/",
];

#[tokio::test]
async fn unusual_paths_need_a_credential_too() {
    let world = World::new().await;
    let methods = ["GET", "HEAD", "POST", "DELETE"];
    let rows =
        UNUSUAL_PATHS.iter().flat_map(|path| methods.map(|method| format!("{method} {path} HTTP/1.1")));
    for_each(rows, async |line| {
        let answer = world.send(world.request(&line, "", "")).await;
        assert!(!answer.succeeded(), "{line}: {}", answer.text());
    })
    .await;
    let plain = world.request("GET /healthz HTTP/1.1", "", "");
    assert!(world.send(plain).await.succeeded(), "a plain request is answered");
}

#[tokio::test]
async fn unusual_paths_do_not_widen_rights() {
    let world = World::new().await;
    let before = world.resources().await;
    let closed = world.mcpd.get("/api/v1/llms/closed", &world.admin).await.json::<serde_json::Value>().await;
    let id = closed.unwrap()["id"].as_str().unwrap().to_owned();
    let upper_id = id.to_uppercase();
    let by_id =
        [format!("/api/v1/llms/{id}"), format!("/api/v1/llms/{upper_id}"), format!("/api/v1/llms/{id}/")];
    let paths = UNUSUAL_PATHS.iter().map(|path| (*path).to_owned()).chain(by_id);
    let rows = paths.flat_map(|path| {
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(|method| (method, path.clone()))
    });
    for_each(rows, async |(method, path)| {
        let line = format!("{method} {path} HTTP/1.1");
        let headers = format!("{}Content-Length: 2\r\n", bearer(&world.alice));
        let answer = world.send(world.request(&line, &headers, "{}")).await.text();
        world.assert_closed_was_not_reached(&line, &answer);
    })
    .await;
    let long = format!("GET /api/v1/llms/{} HTTP/1.1", "a".repeat(300_000));
    assert!(
        !world.send(world.request(&long, &bearer(&world.alice), "")).await.succeeded(),
        "an overlong segment"
    );
    assert_eq!(world.resources().await, before, "a request of alice's changed something");
    let own = world.request("GET /api/v1/llms/open HTTP/1.1", &bearer(&world.alice), "");
    assert!(world.send(own).await.succeeded(), "alice's own Llm is shown");
}

#[tokio::test]
async fn unusual_names_in_bodies_and_paths_run_nothing() {
    let world = World::new().await;
    let id = world.mcpd.get("/api/v1/llms/closed", &world.admin).await.json::<serde_json::Value>().await;
    let id = id.unwrap()["id"].as_str().unwrap().to_owned();
    let upper_id = id.to_uppercase();
    let names = [
        "closed",
        &id,
        &upper_id,
        "CLOSED",
        " closed",
        "closed ",
        "closed\0",
        "open\0closed",
        "open/../closed",
        "%63losed",
        "closed\n",
        "ｃlosed",
        "local/closed",
        "./closed",
        "closed/infer",
        "*",
        "",
        "open,closed",
        "models/closed",
    ];
    for name in names {
        for route in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
            let body = json!({"model": name, "messages": [], "prompt": "", "input": ""});
            let answer = world.mcpd.post(route, &world.alice, &body).await;
            assert!(!answer.status().is_success(), "{route} with the model `{name}`: {}", answer.status());
            world.assert_closed_was_not_reached(name, &answer.text().await.unwrap());
        }
    }
    for path in [
        "open%2f..%2fclosed/infer",
        "open/../closed/infer",
        "closed%2finfer",
        "open/infer/../../closed/infer",
        "closed;open/infer",
    ] {
        let line = format!("POST /api/v1/llms/{path} HTTP/1.1");
        let headers = format!("{}Content-Length: 15\r\n", bearer(&world.alice));
        let answer = world.send(world.request(&line, &headers, r#"{"messages":[]}"#)).await;
        assert!(!answer.succeeded(), "{path}: {}", answer.text());
        world.assert_closed_was_not_reached(path, &answer.text());
    }
    assert!(world.provider.inferences().is_empty());
    let own = world
        .mcpd
        .post("/v1/chat/completions", &world.alice, &json!({"model": "open", "messages": []}))
        .await;
    assert_eq!(own.status(), StatusCode::OK, "alice's own Llm runs");
}

#[tokio::test]
async fn other_methods_and_method_overrides_do_nothing() {
    let world = World::new().await;
    let before = world.resources().await;
    let paths = ["/api/v1/llms/closed", "/api/v1/llms", "/v1/models", "/metrics", "/api/v1/auth/whoami", "/"];
    let methods = [
        "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "DEBUG", "get", "GET\t", "G%45T", "QUERY", "LINK",
    ];
    let rows = paths.iter().flat_map(|path| methods.map(|method| format!("{method} {path} HTTP/1.1")));
    for_each(rows, async |line| {
        let answer = world.send(world.request(&line, "", "")).await;
        assert!(!answer.succeeded(), "{line} without a credential: {}", answer.text());
        let answer = world.send(world.request(&line, &bearer(&world.admin), "")).await.text();
        assert!(!answer.contains(&world.admin), "{line} sends the credential back: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "{line}: {answer}");
    })
    .await;
    let overrides = [
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "_method: DELETE",
        "X-Original-Method: DELETE",
        "X-Original-URL: /api/v1/users/bob",
        "X-Rewrite-URL: /api/v1/users/bob",
        "X-Forwarded-Prefix: /api/v1/users/bob",
    ];
    let lines = [
        "GET /api/v1/llms/closed HTTP/1.1",
        "POST /api/v1/llms/closed HTTP/1.1",
        "GET /api/v1/llms/closed?_method=DELETE HTTP/1.1",
        "POST /api/v1/auth/whoami HTTP/1.1",
    ];
    let rows = overrides.iter().flat_map(|header| lines.map(|line| (line, header)));
    for_each(rows, async |(line, header)| {
        let headers = format!("{}{header}\r\nContent-Length: 0\r\n", bearer(&world.admin));
        let answer = world.send(world.request(line, &headers, "")).await;
        assert!(!answer.statuses().contains(&204), "{line} with `{header}`: {}", answer.text());
    })
    .await;
    assert_eq!(world.resources().await, before);
}

#[tokio::test]
async fn absolute_and_authority_form_need_the_same_credential() {
    let world = World::new().await;
    let host = world.mcpd.url().trim_start_matches("http://").to_owned();
    let admin = &world.admin;
    let targets = [
        format!("http://{host}/api/v1/llms"),
        format!("https://{host}/api/v1/llms"),
        "http://elsewhere.example/api/v1/llms".to_owned(),
        format!("http://admin:{admin}@{host}/api/v1/llms"),
        format!("http://{admin}@{host}/api/v1/auth/whoami"),
        format!("http://{host}/healthz/../metrics"),
        format!("http://{host}\\@elsewhere.example/metrics"),
        "http:///api/v1/llms".to_owned(),
        "ftp://127.0.0.1/api/v1/llms".to_owned(),
        "file:///etc/passwd".to_owned(),
        "unix:/api/v1/llms".to_owned(),
        host.clone(),
        "*".to_owned(),
        "api/v1/llms".to_owned(),
        "?/api/v1/llms".to_owned(),
    ];
    let rows = targets.iter().flat_map(|target| ["GET", "CONNECT", "OPTIONS"].map(|method| (method, target)));
    for_each(rows, async |(method, target)| {
        let answer = world.send(world.request(&format!("{method} {target} HTTP/1.1"), "", "")).await;
        assert!(!answer.succeeded(), "{method} {target}: {}", answer.text());
    })
    .await;
    assert!(world.provider.requests().is_empty(), "the daemon is no open proxy");
}
