//! Streamed answers of a scripted model server: whole, broken in every way, and who gave them.

use mcpctl_client::{ChatRequest, Client, ClientError, ClientOptions, Delta, ServedBy};
use mcpctl_testkit::model_server::{ModelServer, Reply};
use secrecy::SecretString;
use serde_json::json;

async fn ask(server: &ModelServer) -> Result<(ServedBy, Vec<Delta>), ClientError> {
    let bearer = Some(SecretString::from("mcpd_alice"));
    let address = server.base_url().trim_end_matches("/v1").parse().unwrap();
    let client = Client::new(address, bearer, &ClientOptions::default()).unwrap();
    let messages = vec![json!({"role": "user", "content": "Hi"})];
    let mut stream = client
        .chat(&ChatRequest { model: "claude".to_owned(), messages, max_tokens: None, temperature: None })
        .await?;
    let mut deltas = Vec::new();
    while let Some(delta) = stream.next().await {
        deltas.push(delta);
    }
    assert_eq!(stream.next().await, None, "after the end there is nothing");
    Ok((stream.served_by, deltas))
}

fn text(deltas: &[Delta]) -> String {
    let texts = deltas.iter().filter_map(|delta| match delta {
        Delta::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn broken(deltas: &[Delta]) -> &str {
    match deltas.last() {
        Some(Delta::Broken(broken)) => &broken.message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answer_comes_in_parts_and_ends_with_usage() {
    let server = ModelServer::with_default(Reply::text("one two three").reasoning("let me think")).await;
    let (served_by, deltas) = ask(&server).await.unwrap();
    assert_eq!(text(&deltas), "one two three", "the answer, without the reasoning");
    assert!(deltas.len() > 2, "{deltas:?}");
    assert!(matches!(deltas.last(), Some(Delta::Usage(usage)) if usage.output_tokens > 0), "{deltas:?}");
    assert_eq!(served_by, ServedBy::default());
    let requests = server.inferences();
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].header("authorization"), Some("Bearer mcpd_alice"));
    assert_eq!(
        (&requests[0].json()["model"], &requests[0].json()["stream"]),
        (&json!("claude"), &json!(true))
    );
}

#[tokio::test]
async fn headers_name_the_server_that_answered_and_why() {
    let reply = Reply::text("hello")
        .header("mcpctl-served-by", "vllm-local")
        .header("mcpctl-failover", "server_error")
        .header("mcpctl-attempts", "2");
    let (served_by, _) = ask(&ModelServer::with_default(reply).await).await.unwrap();
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(
        served_by,
        ServedBy { name: name("vllm-local"), failover: name("server_error"), attempts: Some(2) }
    );
}

#[tokio::test]
async fn inv_13_broken_stream_never_looks_complete() {
    for (reply, why) in [
        (Reply::text("one two three").cut_after(2), "the connection was cut"),
        (Reply::text("one two three").error_after(2, "out of\nmemory"), "out of memory"),
        (Reply::text("one two three").garbage_after(2), "the answer is not readable"),
    ] {
        let (_, deltas) = ask(&ModelServer::with_default(reply).await).await.unwrap();
        assert_eq!(broken(&deltas), why, "{deltas:?}");
        assert!(
            "one two three".starts_with(&text(&deltas)) && text(&deltas) != "one two three",
            "{deltas:?}"
        );
    }
}

#[tokio::test]
async fn inv_13_stream_without_an_end_marker_is_broken() {
    let event = r#"data: {"choices":[{"index":0,"delta":{"content":"one"}}]}"#;
    let ending = |more: &str| format!("{event}\n\n{more}");
    for (body, whole) in [
        (ending(""), false),
        (ending("data: [DONE]\n\n"), true),
        (ending("data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"), true),
    ] {
        let reply = Reply::status(200, body.clone()).header("content-type", "text/event-stream");
        let (_, deltas) = ask(&ModelServer::with_default(reply).await).await.unwrap();
        assert_eq!(text(&deltas), "one");
        assert_eq!(matches!(deltas.last(), Some(Delta::Broken(_))), !whole, "{body} {deltas:?}");
    }
}

#[tokio::test]
async fn error_response_comes_before_any_part() {
    let server =
        ModelServer::with_default(Reply::error(403, "`alice` may not run `claude`", "forbidden")).await;
    let error = ask(&server).await.unwrap_err();
    assert_eq!(error.to_string(), "`alice` may not run `claude`");
    assert_eq!(error.status().unwrap().as_u16(), 403);
}
