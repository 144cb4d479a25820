//! Callers of every dialect: each is served, falls back and is refused in its own.

use mcpctl_testkit::{
    daemons::closed_address,
    deployment::Deployment,
    model_server::Reply,
    response::{content, header},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// A caller's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Messages,
    Responses,
}

const CALLERS: [(Caller, bool); 4] = [
    (Caller::Messages, false),
    (Caller::Messages, true),
    (Caller::Responses, false),
    (Caller::Responses, true),
];

impl Caller {
    const fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    fn body(self, model: &str, stream: bool) -> Value {
        match self {
            Self::Messages => json!({
                "model": model, "stream": stream, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}],
            }),
            Self::Responses => json!({"model": model, "stream": stream, "input": "Hi", "store": false}),
        }
    }

    /// Sends a request with the credential where clients of the dialect send it.
    async fn send(self, deployment: &Deployment, model: &str, credential: &str, stream: bool) -> Response {
        let body = self.body(model, stream);
        let request = match self {
            Self::Messages => deployment
                .agent
                .request_without_bearer(Method::POST, self.path())
                .header("x-api-key", credential)
                .header("anthropic-version", "2023-06-01"),
            Self::Responses => deployment.agent.request(Method::POST, self.path(), credential),
        };
        request.json(&body).send().await.unwrap()
    }

    /// The text of an answer, which is complete in the dialect.
    async fn text(self, answer: Response, stream: bool) -> String {
        assert_eq!(answer.status(), StatusCode::OK);
        if !stream {
            let body: Value = answer.json().await.unwrap();
            let text = match self {
                Self::Messages => {
                    assert_eq!(
                        (&body["type"], &body["stop_reason"]),
                        (&json!("message"), &json!("end_turn")),
                        "{body}"
                    );
                    &body["content"][0]["text"]
                }
                Self::Responses => {
                    assert_eq!(
                        (&body["object"], &body["status"]),
                        (&json!("response"), &json!("completed")),
                        "{body}"
                    );
                    &body["output"][0]["content"][0]["text"]
                }
            };
            return text.as_str().unwrap().to_owned();
        }
        let body = answer.text().await.unwrap();
        let (last, delta) = match self {
            Self::Messages => ("message_stop", "/delta/text"),
            Self::Responses => ("response.completed", "/delta"),
        };
        let events = events(&body);
        assert_eq!(events.last().unwrap()["type"], last, "{body}");
        assert!(!body.contains("[DONE]"), "{body}");
        events.iter().filter_map(|event| event.pointer(delta)?.as_str()).collect()
    }

    /// The message of an error in the dialect.
    async fn error(self, answer: Response) -> String {
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["type"] == "error", self == Self::Messages, "{body}");
        assert_eq!(body["error"].get("param").is_some(), self == Self::Responses, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// The data of the events of a stream, each named after its type.
fn events(stream: &str) -> Vec<Value> {
    let mut name = "";
    let mut events = Vec::new();
    for line in stream.lines() {
        if let Some(written) = line.strip_prefix("event: ") {
            name = written;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name, "{stream}");
            events.push(data);
        }
    }
    events
}

#[tokio::test]
async fn every_dialect_is_served_and_falls_back() {
    let deployment = Deployment::builder().signed_in().start().await;
    let (alice, key) = (&deployment.alice, &deployment.agent.local_key());
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "claude", alice, stream).await;
        assert_eq!(header(&answer, "mcpctl-served-by"), Some("claude"), "{caller:?} {stream}");
        assert_eq!(caller.text(answer, stream).await, "from the primary", "{caller:?} {stream}");
    }
    assert_eq!(deployment.probes(), 0);
    deployment.overload_provider();
    for (caller, stream) in CALLERS {
        let before = deployment.agent.journal().len();
        let answer = caller.send(&deployment, "claude", alice, stream).await;
        assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"), "{caller:?} {stream}");
        assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"), "{caller:?} {stream}");
        assert_eq!(caller.text(answer, stream).await, "from the desk", "{caller:?} {stream}");
        let journal = deployment.agent.journal().split_off(before);
        let tokens = |line: &Value| line["outputTokens"].as_u64().unwrap();
        assert_eq!((&journal[0]["outcome"], &journal[1]["outcome"]), (&json!("served"), &json!("ok")));
        assert!(tokens(&journal[1]) > 0, "usage is counted: {journal:?}");
    }
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "local/desk", key, stream).await;
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{caller:?} {stream}");
        assert_eq!(caller.text(answer, stream).await, "from the desk", "{caller:?} {stream}");
    }
    // The local server has chat completions alone.
    assert!(deployment.desk.inferences().iter().all(|request| request.path == "/v1/chat/completions"));
    let log = deployment.agent.log() + &deployment.mcpd.log();
    assert!(!log.contains(alice.as_str()) && !log.contains(key.as_str()), "inv 10");
    for request in deployment.provider.requests().iter().chain(&deployment.desk.requests()) {
        let request = format!("{request:?}");
        assert!(!request.contains(alice.as_str()) && !request.contains(key.as_str()), "inv 10: {request}");
    }
}

#[tokio::test]
async fn inv_03_every_dialect_gets_the_primarys_error_in_its_own() {
    let deployment = Deployment::start().await;
    deployment.overload_provider();
    deployment.revoke().await;
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "claude", &deployment.alice, stream).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{caller:?}");
        assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcpd"), "{caller:?}");
        assert_eq!(header(&answer, "mcpctl-failure"), Some("denied"), "{caller:?}");
        assert!(caller.error(answer).await.contains("claude"));
    }
    assert!(deployment.desk.inferences().is_empty() && deployment.probes() == 0);
}

#[tokio::test]
async fn inv_03_forbidden_probe_refuses_every_dialect() {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    deployment.revoke().await;
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "claude", &deployment.alice, stream).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{caller:?}");
        assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"), "{caller:?}");
        assert!(caller.error(answer).await.contains("mcpd cannot be reached"));
        let last = deployment.agent.journal().pop().unwrap();
        assert_eq!((&last["outcome"], &last["access"]), (&json!("refused"), &json!(["forbidden"])));
    }
    assert!(deployment.desk.inferences().is_empty());
}

/// By the server's own counter where it has one, in failover as without mcpd; else estimated, and marked as that.
#[tokio::test]
async fn tokens_are_counted_or_estimated() {
    let deployment = Deployment::builder().signed_in().start().await;
    let key = deployment.agent.local_key();
    let count = async |model: &str, credential: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "How many tokens?"}]});
        let path = "/v1/messages/count_tokens?beta=true";
        let answer =
            deployment.agent.request(Method::POST, path, credential).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{model}");
        let estimated = header(&answer, "mcpctl-estimated") == Some("input_tokens");
        let served_by = header(&answer, "mcpctl-served-by").unwrap().to_owned();
        let body = answer.json::<Value>().await.unwrap();
        assert!(body["input_tokens"].as_u64().unwrap() > 0, "{body}");
        (served_by, estimated)
    };
    let (claude, desk) = ("claude".to_owned(), "desk".to_owned());
    assert_eq!(count("claude", &deployment.alice).await, (claude, true));
    assert_eq!(count("local/desk", &key).await, (desk.clone(), true));
    assert_eq!(deployment.inferences(), 0, "an estimate takes no model");

    // mcpd fails, and the local server has no counter.
    deployment.agent.reload(unreachable_mcpd).await;
    assert_eq!(count("claude", &deployment.alice).await, (desk.clone(), true));
    assert_eq!(deployment.inferences(), 0);

    // A server that has one is asked: it was restarted, so the agent looks again.
    deployment.desk.count_tokens();
    deployment.agent.reload(|config| config.replace("model: m", "model: m2")).await;
    assert_eq!(count("claude", &deployment.alice).await, (desk.clone(), false));
    let seen = deployment.desk.inferences().pop().unwrap();
    assert_eq!((seen.path.as_str(), &seen.json()["model"]), ("/v1/messages/count_tokens", &json!("m2")));
    // Other requests are translated, because a server may drop what it does not know of messages.
    let answer = Caller::Messages.send(&deployment, "claude", &deployment.alice, false).await;
    assert_eq!(Caller::Messages.text(answer, false).await, "from the desk");
    assert_eq!(deployment.desk.inferences().pop().unwrap().path, "/v1/chat/completions");

    // A declared counter that is not there.
    deployment
        .desk
        .queue(Reply::status(404, r#"{"error":{"message":"File Not Found","type":"not_found_error"}}"#));
    assert_eq!(count("local/desk", &key).await, (desk.clone(), true));
    deployment.desk.queue(Reply::error(500, "broken", "broken"));
    let body = json!({"model": "local/desk", "messages": []});
    let path = "/v1/messages/count_tokens";
    let answer = deployment.agent.request(Method::POST, path, &key).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "a counter that fails is no reason to guess");
}

/// Sends inference to an address where nothing listens; the probe still reaches mcpd.
fn unreachable_mcpd(config: &str) -> String {
    format!("inference: http://{}\n{config}", closed_address())
}

#[tokio::test]
async fn server_of_the_callers_dialect_gets_the_request_untouched() {
    let keys = ["failoverFor: claude", "capabilities: [messages, responses]"];
    let deployment = Deployment::builder().desk(&keys).start().await;
    deployment.overload_provider();
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "claude", &deployment.alice, stream).await;
        assert_eq!(caller.text(answer, stream).await, "from the desk", "{caller:?} {stream}");
        let seen = deployment.desk.inferences().pop().unwrap();
        assert_eq!((seen.path.as_str(), seen.json()), (caller.path(), caller.body("m", stream)));
    }
}

#[tokio::test]
async fn provider_with_anthropics_api_answers_every_dialect() {
    let deployment = Deployment::start().await;
    deployment.agent.reload(|config| config.replace("type: openai", "type: anthropic")).await;
    deployment.overload_provider();
    for (caller, stream) in CALLERS {
        let answer = caller.send(&deployment, "claude", &deployment.alice, stream).await;
        assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"), "{caller:?} {stream}");
        assert_eq!(caller.text(answer, stream).await, "from the desk", "{caller:?} {stream}");
        let seen = deployment.desk.inferences().pop().unwrap();
        assert_eq!(seen.path, "/v1/messages", "{caller:?} {stream}");
        assert!(seen.header("anthropic-version").is_some() && seen.header("authorization").is_none());
    }
    assert_eq!(content(deployment.chat().await).await, "from the desk");

    let before = deployment.desk.inferences().len();
    let body = json!({"model": "claude", "input": "Hi"});
    let request = deployment.agent.request(Method::POST, "/v1/embeddings", &deployment.alice).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "the primary's own error");
    assert_eq!(header(&answer, "mcpctl-no-failover"), Some("lacks_translation"));
    assert_eq!(deployment.desk.inferences().len(), before);
}
