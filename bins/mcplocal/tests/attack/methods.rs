//! Methods, and headers by which some servers take one method for another.

use mcpctl_testkit::deployment::Deployment;

use super::support::{CHAT, bearer, chat_headers, for_each};

#[tokio::test]
async fn other_methods_and_method_overrides_do_nothing() {
    let deployment = Deployment::builder().signed_in().start().await;
    let key = bearer(&deployment.agent.local_key());
    let paths =
        ["/status", "/v1/models", "/v1/chat/completions", "/api/v1/engines/desk/stop", "/healthz", "/"];
    let methods = [
        "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "DEBUG", "get", "PUT", "PATCH", "DELETE", "QUERY",
    ];
    let rows = paths.iter().flat_map(|path| methods.map(|method| format!("{method} {path} HTTP/1.1")));
    for_each(rows, async |line| {
        let answer = deployment.send_raw(deployment.raw_request(&line, &chat_headers(&key), CHAT)).await;
        assert!(!answer.succeeded(), "{line}: {}", answer.text());
        let text = answer.text().to_lowercase();
        assert!(!text.contains("access-control-allow") && !text.contains("bearer mcpl_"), "{line}: {text}");
    })
    .await;
    let overrides = [
        "X-HTTP-Method-Override: POST",
        "X-HTTP-Method: POST",
        "X-Method-Override: POST",
        "_method: POST",
        "X-Original-Method: POST",
        "X-Original-URL: /v1/chat/completions",
        "X-Rewrite-URL: /v1/chat/completions",
    ];
    let lines = [
        "GET /v1/chat/completions HTTP/1.1",
        "GET /api/v1/llms/claude/infer HTTP/1.1",
        "PUT /v1/chat/completions HTTP/1.1",
        "GET /api/v1/engines/desk/stop HTTP/1.1",
        "HEAD /v1/chat/completions HTTP/1.1",
    ];
    let rows = overrides.iter().flat_map(|header| lines.map(|line| (line, header)));
    for_each(rows, async |(line, header)| {
        let headers = format!("{header}\r\n{}", chat_headers(&key));
        let answer = deployment.send_raw(deployment.raw_request(line, &headers, CHAT)).await;
        assert!(!answer.succeeded(), "{line} with `{header}`: {}", answer.text());
    })
    .await;
    assert_eq!(deployment.inferences(), 0);
}
