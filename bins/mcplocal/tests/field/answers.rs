//! Answers as servers really send them, through both daemons: a byte that need not change reaches the caller unchanged.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use mcpctl_testkit::{deployment::Deployment, model_server::Reply};
use reqwest::Response;
use serde_json::json;

/// A deployment whose agent has no local providers.
async fn start() -> Deployment {
    Deployment::builder().providers("").start().await
}

/// The responses of mcpd and of the agent to the same request.
async fn both(deployment: &Deployment, stream: bool) -> [Response; 2] {
    let body = json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let mcpd = deployment.mcpd.post("/v1/chat/completions", &deployment.alice, &body).await;
    [mcpd, deployment.send(&body).await]
}

fn reply(content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    let reply = Reply::status(200, body.into());
    if content_type.is_empty() { reply } else { reply.header("content-type", content_type) }
}

fn event(data: &[u8]) -> Vec<u8> {
    [b"data: ".as_slice(), data, b"\n\n"].concat()
}

const HELLO: &[u8] = br#"{"object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}"#;
const STOP: &[u8] = br#"{"object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

fn stream_with(odd: &[u8]) -> Vec<u8> {
    [event(HELLO), event(odd), event(STOP), event(b"[DONE]")].concat()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Deltas of streams, or messages of whole answers, that official clients can read.
const ODD: [&[u8]; 10] = [
    br#"{"content":"party \ud83c"}"#,
    br#"{"content":"\udf89!"}"#,
    br#"{"reasoning_content":"t","reasoning_content":"t","content":"x"}"#,
    br#"{"content":"x","logprob":NaN,"score":-Infinity}"#,
    b"{\"content\":\"x\xFFy\"}",
    b"{\"content\":\"x\ty\"}",
    br#"{"content":"x","big":123456789012345678901234567890}"#,
    br#"{"content":"x","big":1e999}"#,
    br#"{"content":"x","error":false}"#,
    br#"{"content":"bad \x escape"}"#,
];

#[tokio::test]
async fn odd_events_reach_the_caller_unchanged() {
    let deployment = start().await;
    for delta in ODD {
        let odd =
            [br#"{"model":"m","model":"m","error":false,"choices":[{"index":0,"delta":"#, delta, b"}]}"]
                .concat();
        // Also as the first event of all.
        for body in [stream_with(&odd), [event(&odd), event(STOP), event(b"[DONE]")].concat()] {
            deployment.provider.set_default(reply("text/event-stream", body));
            for answer in both(&deployment, true).await {
                let text = answer.bytes().await.unwrap();
                assert!(contains(&text, delta) && text.ends_with(b"data: [DONE]\n\n"), "{text:?}");
            }
        }
    }
    // What is no JSON makes clients fail, and is skipped where the stream completes.
    deployment.provider.set_default(reply("text/event-stream", stream_with(b"<<garbage>>")));
    for answer in both(&deployment, true).await {
        let text = answer.bytes().await.unwrap();
        assert!(!contains(&text, b"<<garbage>>") && text.ends_with(b"data: [DONE]\n\n"), "{text:?}");
    }
    let incomplete = [event(HELLO), event(b"<<garbage>>")].concat();
    deployment.provider.set_default(reply("text/event-stream", incomplete));
    for answer in both(&deployment, true).await {
        let text = answer.bytes().await.unwrap();
        assert!(contains(&text, br#"{"error":{"message":"the model's answer broke off"#), "{text:?}");
        assert!(!contains(&text, b"[DONE]"), "{text:?}");
    }
    let with_mark = [b"\xEF\xBB\xBF".to_vec(), stream_with(HELLO)].concat();
    deployment.provider.set_default(reply("text/event-stream", with_mark));
    for answer in both(&deployment, true).await {
        assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn odd_whole_answers_reach_the_caller_unchanged() {
    let deployment = start().await;
    for message in ODD {
        for mark in [&b""[..], b"\xEF\xBB\xBF"] {
            let body = [
                mark,
                br#"{"model":"m","model":"m","error":false,"choices":[{"index":0,"message":"#,
                message,
                b"}]}",
            ]
            .concat();
            deployment.provider.set_default(reply("application/json", body.clone()));
            for answer in both(&deployment, false).await {
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.bytes().await.unwrap(), body);
            }
        }
    }
}

#[tokio::test]
async fn stream_is_recognized_by_its_first_bytes() {
    let deployment = start().await;
    let body = stream_with(HELLO);
    for content_type in [
        "application/json",
        "",
        "text/plain; charset=utf-8",
        "application/octet-stream",
        "application/x-ndjson",
    ] {
        for body in [body.clone(), [b": ping\r\n\r\n".to_vec(), body.clone()].concat()] {
            deployment.provider.set_default(reply(content_type, body));
            for answer in both(&deployment, true).await {
                assert_eq!(answer.headers()["content-type"], "text/event-stream", "{content_type}");
                assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
            }
        }
    }
    assert_eq!(deployment.provider.inferences().len(), 20, "each request is sent once");

    // A whole answer to a request for a stream stays whole, and an error with the content type of a stream is an error.
    let whole = r#"{"model":"m","choices":[{"index":0,"message":{"content":"x"}}]}"#;
    deployment.provider.set_default(reply("application/json", whole));
    for answer in both(&deployment, true).await {
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), whole);
    }
    let error = r#"{"error":{"message":"temperature is too high","type":"invalid_request_error"}}"#;
    deployment.provider.set_default(reply("text/event-stream", error));
    for answer in both(&deployment, true).await {
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("temperature is too high"));
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_answers_are_decoded_within_the_limit() {
    let deployment = start().await;
    let whole = r#"{"model":"m","choices":[{"index":0,"message":{"content":"hello"}}]}"#;
    deployment
        .provider
        .set_default(reply("application/json", gzip(whole.as_bytes())).header("content-encoding", "gzip"));
    for answer in both(&deployment, false).await {
        assert!(!answer.headers().contains_key("content-encoding"));
        assert_eq!(answer.text().await.unwrap(), whole);
    }
    let sent = deployment.provider.inferences();
    assert!(sent.iter().all(|request| request.header("accept-encoding") == Some("identity")));

    let stream = stream_with(HELLO);
    deployment
        .provider
        .set_default(reply("text/event-stream", gzip(&stream)).header("content-encoding", "gzip"));
    for answer in both(&deployment, true).await {
        assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
    }

    let error = gzip(br#"{"error":{"message":"x","code":"context_length_exceeded"}}"#);
    deployment.provider.set_default(Reply::status(400, error).header("content-encoding", "gzip"));
    for answer in both(&deployment, false).await {
        assert_eq!(answer.headers()["mcpctl-failure"], "context_length");
    }

    // 100 MB of blanks in 100 KB.
    let bomb = gzip(&vec![b' '; 100_000_000]);
    deployment.provider.set_default(reply("application/json", bomb).header("content-encoding", "gzip"));
    for answer in both(&deployment, false).await {
        assert!(!answer.status().is_success());
    }
    deployment.provider.set_default(reply("application/json", whole).header("content-encoding", "x-snappy"));
    for answer in both(&deployment, false).await {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["mcpctl-failure"]),
            (502, &"server_error".parse().unwrap())
        );
    }
}
