//! Providers' errors through both daemons: which of them fail over, and what the caller reads.

use mcpctl_testkit::{deployment::Deployment, model_server::Reply, response::header};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// A deployment with `claude`'s breaker closed throughout, and a class more that fails over.
async fn without_breaker() -> Deployment {
    let config = "failover: {on: [context_length]}\nprimary: {breaker: {failures: 1000}}";
    Deployment::builder().config(config).start().await
}

fn question(more: Value) -> Value {
    let mut body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Sends a chat through the agent, with more keys of the body.
async fn chat(deployment: &Deployment, more: Value) -> Response {
    deployment.send(&question(more)).await
}

/// Sends a chat to mcpd itself, with more keys of the body.
async fn chat_with_mcpd(deployment: &Deployment, more: Value) -> Response {
    deployment.mcpd.post("/v1/chat/completions", &deployment.alice, &question(more)).await
}

/// The status, failure class and body of mcpd's own response.
async fn failure_of_mcpd(deployment: &Deployment) -> (StatusCode, String, String) {
    let answer = chat_with_mcpd(deployment, json!({})).await;
    let class = header(&answer, "mcpctl-failure").unwrap_or_default().to_owned();
    (answer.status(), class, answer.text().await.unwrap())
}

fn raw(status: u16, content_type: &str, body: &str) -> Reply {
    Reply::status(status, body.to_owned()).header("content-type", content_type)
}

fn json_reply(status: u16, body: &Value) -> Reply {
    raw(status, "application/json", &body.to_string())
}

#[tokio::test]
async fn refused_content_never_reaches_a_local_model() {
    let deployment = without_breaker().await;
    let flagged = json!({"error": {"code": 403, "message": "Your input was flagged by moderation", "metadata": {"reasons": ["violence"]}}});
    let xai = json!({"code": "permission-denied", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"});
    let azure = json!({"error": {"message": "no", "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    for (status, body) in
        [(403, &flagged), (403, &xai), (400, &azure), (500, &azure), (429, &flagged), (200, &flagged)]
    {
        deployment.provider.set_default(json_reply(status, body));
        let (_, class, text) = failure_of_mcpd(&deployment).await;
        assert_eq!(class, "rejected", "{status} {body}");
        let words = body["error"]["message"].as_str().or(body["error"].as_str()).unwrap();
        assert!(text.contains(words) && !text.contains("credential"), "{text}");
        let answer = chat(&deployment, json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{status} {body}");
        assert!(answer.text().await.unwrap().contains(words));
    }
    // Refusals in other shapes, also with status 200.
    let nest =
        json!({"statusCode": 403, "error": "Forbidden", "message": "Your input was flagged by moderation"});
    let wrapped =
        json!({"error": {"message": "Error code: 403 - {'error': 'Your input was flagged by moderation'}"}});
    let alibaba =
        json!({"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."});
    let topic = json!({"message": "this topic is not open for discussion"});
    for (status, body) in
        [(403, &nest), (503, &nest), (403, &wrapped), (200, &alibaba), (200, &nest), (403, &topic)]
    {
        deployment.provider.set_default(json_reply(status, body));
        let (_, class, _) = failure_of_mcpd(&deployment).await;
        assert_eq!(class, "rejected", "{status} {body}");
        let answer = chat(&deployment, json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{status} {body}");
        let event = raw(200, "text/event-stream", &format!("data: {body}\n\n"));
        if status == 200 {
            deployment.provider.set_default(event);
            let answer = chat(&deployment, json!({"stream": true})).await;
            assert_eq!(header(&answer, "mcpctl-failover"), None, "{body}");
        }
    }
    // The same as the first event of a stream.
    deployment.provider.set_default(raw(200, "text/event-stream", &format!("data: {flagged}\n\n")));
    let answer = chat(&deployment, json!({"stream": true})).await;
    assert_eq!(
        (header(&answer, "mcpctl-failover"), header(&answer, "mcpctl-failure")),
        (None, Some("rejected"))
    );
    // And 451, or an unreadable 403, which may come from a firewall.
    for reply in [Reply::error(451, "no", "x"), raw(403, "text/html", "<html>blocked</html>")] {
        deployment.provider.set_default(reply);
        let answer = chat(&deployment, json!({})).await;
        assert_eq!(
            (header(&answer, "mcpctl-failover"), header(&answer, "mcpctl-failure")),
            (None, Some("rejected"))
        );
    }
    assert_eq!(deployment.desk.inferences().len(), 0);
}

#[tokio::test]
async fn fault_of_the_provider_or_its_account_fails_over() {
    let deployment = without_breaker().await;
    let key = json!([{"error": {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}]);
    let inactive = json!({"error": {"message": "Your account is not active", "code": "account_deactivated"}});
    for (status, body, expected) in [
        (400, key, "upstream_credentials"),
        (403, inactive, "upstream_credentials"),
        (520, json!("x"), "server_error"),
        (530, json!("x"), "server_error"),
        (507, json!("x"), "server_error"),
        (599, json!("x"), "server_error"),
        (408, json!("x"), "server_error"),
        (425, json!("x"), "server_error"),
        (
            404,
            json!({"error": {"message": "The model `m` does not exist.", "code": 404}}),
            "model_unavailable",
        ),
        (400, json!({"error": {"message": "gone", "code": "model_decommissioned"}}), "model_unavailable"),
        (
            404,
            json!({"error": {"message": "model \"m\" not found, try pulling it first"}}),
            "model_unavailable",
        ),
        (
            400,
            json!({"object": "error", "message": "The input (9 tokens) is longer than the model's context length (8 tokens)."}),
            "context_length",
        ),
    ] {
        deployment.provider.set_default(json_reply(status, &body));
        let answer = chat(&deployment, json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), Some(expected), "{status} {body}");
        assert!(answer.text().await.unwrap().contains("from the desk"));
    }
    deployment.provider.set_default(Reply::error(404, "The model `m` does not exist.", "model_not_found"));
    let (status, class, text) = failure_of_mcpd(&deployment).await;
    assert_eq!((status, class.as_str()), (StatusCode::BAD_GATEWAY, "model_unavailable"));
    assert!(
        text.contains("the provider does not have the model of this Llm: The model `m` does not exist."),
        "{text}"
    );
}

#[tokio::test]
async fn used_up_quota_fails_over_without_a_retry() {
    let deployment = without_breaker().await;
    let body = json!({"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "code": "insufficient_quota"}});
    deployment.provider.set_default(json_reply(429, &body));
    let (status, class, _) = failure_of_mcpd(&deployment).await;
    assert_eq!((status.as_u16(), class.as_str()), (429, "rate_limited"));
    assert_eq!(deployment.provider.inferences().len(), 1);
    assert_eq!(header(&chat(&deployment, json!({})).await, "mcpctl-failover"), Some("rate_limited"));
}

#[tokio::test]
async fn retry_after_of_a_503_is_respected() {
    let deployment = without_breaker().await;
    deployment.provider.set_default(Reply::error(503, "busy", "x").header("retry-after", "30"));
    let answer = chat_with_mcpd(&deployment, json!({})).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, Some("30")));
    assert_eq!(deployment.provider.inferences().len(), 1);
}

#[tokio::test]
async fn images_open_no_breaker_of_other_requests() {
    let deployment = Deployment::start().await;
    let image = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]}]});
    // The words of a known server: the caller's request is at fault, and no other model can answer it.
    deployment.provider.set_default(Reply::error(500, "image input is not supported - hint: mmproj", "x"));
    for _ in 0..6 {
        let answer = chat(&deployment, image.clone()).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "mcpctl-failure")), (500, Some("rejected")));
    }
    // Unknown words: requests fail over, and only those with images skip the primary.
    deployment.provider.set_default(Reply::error(500, "assertion failed in clip.cpp", "x"));
    for _ in 0..6 {
        assert_eq!(header(&chat(&deployment, image.clone()).await, "mcpctl-failover"), Some("server_error"));
    }
    let before = deployment.provider.inferences().len();
    chat(&deployment, image.clone()).await;
    assert_eq!(
        deployment.provider.inferences().len(),
        before,
        "requests with images do not skip the primary"
    );
    deployment.provider.set_default(Reply::text("from the primary"));
    let answer = chat(&deployment, json!({})).await;
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    assert!(answer.text().await.unwrap().contains("from the primary"));
}

#[tokio::test]
async fn errors_inside_a_stream_keep_the_providers_words() {
    let deployment = without_breaker().await;
    let delta = json!({"object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"content": "hel"}}]});
    for (error, words, code) in [
        (
            r#"data: {"error":{"message":"tool call validation failed","type":"invalid_request_error","code":"tool_use_failed"}}"#,
            "tool call validation failed",
            "tool_use_failed",
        ),
        (r#"data: {"error":"unexpected EOF"}"#, "unexpected EOF", "broken_stream"),
        ("event: error\ndata: {\"message\":\"quota of the tenant\"}", "quota of the tenant", "broken_stream"),
    ] {
        let body = format!("data: {delta}\n\n{error}\n\ndata: [DONE]\n\n");
        deployment.provider.set_default(raw(200, "text/event-stream", &body));
        for answer in [
            chat_with_mcpd(&deployment, json!({"stream": true})).await,
            chat(&deployment, json!({"stream": true})).await,
        ] {
            let text = answer.text().await.unwrap();
            let last = text.trim_end().rsplit("data: ").next().unwrap();
            let event: Value = serde_json::from_str(last).unwrap();
            assert_eq!((&event["error"]["message"], &event["error"]["code"]), (&json!(words), &json!(code)));
        }
    }
}
