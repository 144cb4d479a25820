//! What providers' errors lead to, through both daemons: whether a local provider answers, and what the caller reads.

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
    async fn new(more: &str) -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\n{more}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n",
            mcpd.url(),
            desk.base_url(),
        ))
        .await;
        Self { mcpd, provider, desk, agent, alice }
    }

    /// An agent whose breaker does not open in between.
    async fn without_breaker() -> Self {
        Self::new("failover: {on: [context_length]}\nprimary: {breaker: {failures: 1000}}").await
    }

    async fn chat(&self, more: Value) -> Response {
        let mut body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = self.agent.request(Method::POST, "/v1/chat/completions", &self.alice).json(&body);
        request.send().await.unwrap()
    }

    async fn ask_mcpd(&self) -> Response {
        let body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
        self.mcpd.post("/v1/chat/completions", &self.alice, &body).await
    }

    async fn ask_mcpd_streamed(&self) -> Response {
        let body =
            json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        self.mcpd.post("/v1/chat/completions", &self.alice, &body).await
    }

    /// The status, class and body that mcpd itself answers with.
    async fn central(&self) -> (StatusCode, String, String) {
        let answer = self.ask_mcpd().await;
        let class = header(&answer, "mcpctl-failure").unwrap_or_default().to_owned();
        (answer.status(), class, answer.text().await.unwrap())
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

fn raw(status: u16, content_type: &str, body: &str) -> Reply {
    Reply::status(status, body.to_owned()).header("content-type", content_type)
}

fn json_reply(status: u16, body: &Value) -> Reply {
    raw(status, "application/json", &body.to_string())
}

#[tokio::test]
async fn refused_content_never_reaches_a_local_model() {
    let world = World::without_breaker().await;
    let flagged = json!({"error": {"code": 403, "message": "Your input was flagged by moderation", "metadata": {"reasons": ["violence"]}}});
    let xai = json!({"code": "permission-denied", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"});
    let azure = json!({"error": {"message": "no", "code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    for (status, body) in
        [(403, &flagged), (403, &xai), (400, &azure), (500, &azure), (429, &flagged), (200, &flagged)]
    {
        world.provider.set_default(json_reply(status, body));
        let (_, class, text) = world.central().await;
        assert_eq!(class, "rejected", "{status} {body}");
        let words = body["error"]["message"].as_str().or(body["error"].as_str()).unwrap();
        assert!(text.contains(words) && !text.contains("credential"), "{text}");
        let answer = world.chat(json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{status} {body}");
        assert!(answer.text().await.unwrap().contains(words));
    }
    // In other shapes, and under 200 in none that an error has.
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
        world.provider.set_default(json_reply(status, body));
        let (_, class, _) = world.central().await;
        assert_eq!(class, "rejected", "{status} {body}");
        let answer = world.chat(json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{status} {body}");
        let event = raw(200, "text/event-stream", &format!("data: {body}\n\n"));
        if status == 200 {
            world.provider.set_default(event);
            let answer = world.chat(json!({"stream": true})).await;
            assert_eq!(header(&answer, "mcpctl-failover"), None, "{body}");
        }
    }
    // The same as the first event of a stream.
    world.provider.set_default(raw(200, "text/event-stream", &format!("data: {flagged}\n\n")));
    let answer = world.chat(json!({"stream": true})).await;
    assert_eq!(
        (header(&answer, "mcpctl-failover"), header(&answer, "mcpctl-failure")),
        (None, Some("rejected"))
    );
    // And 451 or an unreadable 403, which may be a firewall's.
    for reply in [Reply::error(451, "no", "x"), raw(403, "text/html", "<html>blocked</html>")] {
        world.provider.set_default(reply);
        let answer = world.chat(json!({})).await;
        assert_eq!(
            (header(&answer, "mcpctl-failover"), header(&answer, "mcpctl-failure")),
            (None, Some("rejected"))
        );
    }
    assert_eq!(world.desk.inferences().len(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_provider_or_its_account_fails_over() {
    let world = World::without_breaker().await;
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
        world.provider.set_default(json_reply(status, &body));
        let answer = world.chat(json!({})).await;
        assert_eq!(header(&answer, "mcpctl-failover"), Some(expected), "{status} {body}");
        assert!(answer.text().await.unwrap().contains("from the desk"));
    }
    world.provider.set_default(Reply::error(404, "The model `m` does not exist.", "model_not_found"));
    let (status, class, text) = world.central().await;
    assert_eq!((status, class.as_str()), (StatusCode::BAD_GATEWAY, "model_unavailable"));
    assert!(
        text.contains("the provider does not have the model of this Llm: The model `m` does not exist."),
        "{text}"
    );
}

#[tokio::test]
async fn a_used_up_quota_is_asked_for_once_and_fails_over() {
    let world = World::without_breaker().await;
    let body = json!({"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "code": "insufficient_quota"}});
    world.provider.set_default(json_reply(429, &body));
    let (status, class, _) = world.central().await;
    assert_eq!((status.as_u16(), class.as_str()), (429, "rate_limited"));
    assert_eq!(world.provider.inferences().len(), 1);
    assert_eq!(header(&world.chat(json!({})).await, "mcpctl-failover"), Some("rate_limited"));
}

#[tokio::test]
async fn retry_after_of_a_503_is_respected() {
    let world = World::without_breaker().await;
    world.provider.set_default(Reply::error(503, "busy", "x").header("retry-after", "30"));
    let answer = world.ask_mcpd().await;
    assert_eq!((answer.status().as_u16(), header(&answer, "retry-after")), (503, Some("30")));
    assert_eq!(world.provider.inferences().len(), 1);
}

#[tokio::test]
async fn images_at_a_text_model_open_the_breaker_of_no_other_request() {
    let world = World::new("").await;
    let image = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]}]});
    // The words of a known server: the caller's request, which no other model answers.
    world.provider.set_default(Reply::error(500, "image input is not supported - hint: mmproj", "x"));
    for _ in 0..6 {
        let answer = world.chat(image.clone()).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "mcpctl-failure")), (500, Some("rejected")));
    }
    // Unknown words: it fails over, and only requests with images skip the primary.
    world.provider.set_default(Reply::error(500, "assertion failed in clip.cpp", "x"));
    for _ in 0..6 {
        assert_eq!(header(&world.chat(image.clone()).await, "mcpctl-failover"), Some("server_error"));
    }
    let before = world.provider.inferences().len();
    world.chat(image.clone()).await;
    assert_eq!(world.provider.inferences().len(), before, "requests with images do not skip the primary");
    world.provider.set_default(Reply::text("from the centre"));
    let answer = world.chat(json!({})).await;
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    assert!(answer.text().await.unwrap().contains("from the centre"));
}

#[tokio::test]
async fn errors_inside_a_stream_keep_the_providers_words() {
    let world = World::without_breaker().await;
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
        world.provider.set_default(raw(200, "text/event-stream", &body));
        for answer in [world.ask_mcpd_streamed().await, world.chat(json!({"stream": true})).await] {
            let text = answer.text().await.unwrap();
            let last = text.trim_end().rsplit("data: ").next().unwrap();
            let event: Value = serde_json::from_str(last).unwrap();
            assert_eq!((&event["error"]["message"], &event["error"]["code"]), (&json!(words), &json!(code)));
        }
    }
}
