//! Carriage returns and line feeds in whatever a caller or a model server sends: they add no line to a log or the journal, and no
//! header to an answer.

use mcpctl_testkit::{deployment::Deployment, model_server::Reply};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const FORGED: &str =
    "\r\nX-Forged: yes\r\n2026-01-01T00:00:00.000000Z  WARN mcpd forged\n{\"event\":\"forged\"}\r\n";
const ENCODED: &str = "%0d%0aX-Forged:%20yes%0d%0a2026-01-01T00:00:00Z%20%20WARN%20forged%0a";

async fn no_forged_header(answer: Response, what: &str) {
    assert!(!answer.headers().contains_key("x-forged"), "{what}: {:?}", answer.headers());
    answer.text().await.unwrap();
}

#[tokio::test]
async fn line_breaks_forge_no_line_and_no_header() {
    let deployment = Deployment::builder().signed_in().start().await;
    let Deployment { mcpd, agent, provider, desk, alice, .. } = &deployment;
    let admin = mcpd.admin();
    let chat = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": FORGED}]});
    let lengthy = format!("claude{FORGED}");
    for model in [FORGED, &lengthy, &format!("local/{FORGED}")] {
        for (key, path) in
            [(alice, "/v1/chat/completions"), (alice, "/v1/messages"), (&agent.local_key(), "/v1/responses")]
        {
            let request = agent.request(Method::POST, path, key).json(&chat(model));
            no_forged_header(request.send().await.unwrap(), "the model at the agent").await;
        }
        no_forged_header(mcpd.post("/v1/chat/completions", alice, &chat(model)).await, "the model at mcpd")
            .await;
    }
    for path in [
        format!("/api/v1/llms/{ENCODED}/infer"),
        format!("/v1/models/{ENCODED}"),
        format!("/v1/models?{ENCODED}={ENCODED}"),
        format!("/status?{ENCODED}"),
        format!("/{ENCODED}"),
    ] {
        for method in [Method::GET, Method::POST] {
            let at_agent = agent.request(method.clone(), &path, &agent.local_key()).json(&chat("claude"));
            no_forged_header(at_agent.send().await.unwrap(), &path).await;
            let at_mcpd = mcpd.request(method, &path, &admin).json(&chat("claude"));
            no_forged_header(at_mcpd.send().await.unwrap(), &path).await;
        }
    }
    for (path, body) in [
        ("/api/v1/auth/login", json!({"user": FORGED, "password": FORGED})),
        ("/api/v1/auth/can-i", json!({"verb": FORGED, "kind": FORGED, "name": FORGED})),
        ("/api/v1/users", json!({"name": FORGED})),
        ("/api/v1/users", json!({"name": "forger", "displayName": FORGED})),
        ("/api/v1/tokens", json!({"name": FORGED, "subject": {"kind": "User", "name": FORGED}})),
        ("/api/v1/apply", json!([{"kind": FORGED, "name": "x"}])),
    ] {
        no_forged_header(mcpd.post(path, &admin, &body).await, path).await;
    }
    // Of the primary's model server, then of the local one.
    let broken =
        format!("data: {}\n\n", json!({"error": {"message": FORGED, "type": FORGED, "code": FORGED}}));
    let replies = || {
        [
            Reply::error(500, FORGED, FORGED),
            Reply::error(400, FORGED, FORGED),
            Reply::status(502, FORGED),
            Reply::text("hello").model(FORGED),
            Reply::stream_of(vec![broken.clone().into()]),
        ]
    };
    for (server, model, key) in [(provider, "claude", alice), (desk, "local/desk", &agent.local_key())] {
        for reply in replies() {
            for stream in [false, true] {
                server.set_default(reply.clone());
                no_forged_header(agent.chat(model, key, stream).await, "a model server's").await;
            }
        }
    }
    for (what, log) in [("mcpd", mcpd.log()), ("mcplocal", agent.log())] {
        let forged: Vec<_> = log
            .lines()
            .filter(|line| {
                line.starts_with("2026-01-01") || line.starts_with("X-Forged") || line.starts_with("{\"event")
            })
            .collect();
        assert_eq!(forged, [""; 0], "{what}");
        assert!(!log.contains('\r'), "{what} logs a carriage return");
    }
    let forged = |entry: &Value| entry["event"] == "forged";
    assert!(!agent.journal().iter().any(forged));
}
