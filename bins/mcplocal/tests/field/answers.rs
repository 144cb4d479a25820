//! Answers as servers really send them, through both daemons: they reach the caller with every byte that nothing had to change.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response};
use serde_json::json;

struct World {
    mcpd: Mcpd,
    provider: ModelServer,
    agent: Mcplocal,
    alice: String,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("hello")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
        Self { mcpd, provider, agent, alice }
    }

    /// What mcpd answers, and what the agent does.
    async fn ask(&self, stream: bool) -> [Response; 2] {
        let body =
            json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let agent = self.agent.request(Method::POST, "/v1/chat/completions", &self.alice).json(&body);
        let central = self.mcpd.post("/v1/chat/completions", &self.alice, &body).await;
        [central, agent.send().await.unwrap()]
    }
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

/// Deltas, and the messages of whole answers, that official clients read.
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
async fn odd_events_reach_the_caller_as_they_came() {
    let world = World::new().await;
    for delta in ODD {
        let odd =
            [br#"{"model":"m","model":"m","error":false,"choices":[{"index":0,"delta":"#, delta, b"}]}"]
                .concat();
        // Also as the first event of all.
        for body in [stream_with(&odd), [event(&odd), event(STOP), event(b"[DONE]")].concat()] {
            world.provider.set_default(reply("text/event-stream", body));
            for answer in world.ask(true).await {
                let text = answer.bytes().await.unwrap();
                assert!(contains(&text, delta) && text.ends_with(b"data: [DONE]\n\n"), "{text:?}");
            }
        }
    }
    // What nobody can read is the caller's to judge, once the stream is one of a completion.
    world.provider.set_default(reply("text/event-stream", stream_with(b"<<garbage>>")));
    for answer in world.ask(true).await {
        let text = answer.bytes().await.unwrap();
        assert!(contains(&text, b"<<garbage>>") && text.ends_with(b"data: [DONE]\n\n"), "{text:?}");
    }
    let with_mark = [b"\xEF\xBB\xBF".to_vec(), stream_with(HELLO)].concat();
    world.provider.set_default(reply("text/event-stream", with_mark));
    for answer in world.ask(true).await {
        assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn odd_whole_answers_reach_the_caller_as_they_came() {
    let world = World::new().await;
    for message in ODD {
        for mark in [&b""[..], b"\xEF\xBB\xBF"] {
            let body = [
                mark,
                br#"{"model":"m","model":"m","error":false,"choices":[{"index":0,"message":"#,
                message,
                b"}]}",
            ]
            .concat();
            world.provider.set_default(reply("application/json", body.clone()));
            for answer in world.ask(false).await {
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.bytes().await.unwrap(), body);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_is_known_by_its_first_bytes_under_any_content_type() {
    let world = World::new().await;
    let body = stream_with(HELLO);
    for content_type in [
        "application/json",
        "",
        "text/plain; charset=utf-8",
        "application/octet-stream",
        "application/x-ndjson",
    ] {
        for body in [body.clone(), [b": ping\r\n\r\n".to_vec(), body.clone()].concat()] {
            world.provider.set_default(reply(content_type, body));
            for answer in world.ask(true).await {
                assert_eq!(answer.headers()["content-type"], "text/event-stream", "{content_type}");
                assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
            }
        }
    }
    assert_eq!(world.provider.inferences().len(), 20, "each is asked for once");

    // A whole answer to a wish for a stream stays one, and an error under the type of a stream is an error.
    let whole = r#"{"model":"m","choices":[{"index":0,"message":{"content":"x"}}]}"#;
    world.provider.set_default(reply("application/json", whole));
    for answer in world.ask(true).await {
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), whole);
    }
    let error = r#"{"error":{"message":"temperature is too high","type":"invalid_request_error"}}"#;
    world.provider.set_default(reply("text/event-stream", error));
    for answer in world.ask(true).await {
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
    let world = World::new().await;
    let whole = r#"{"model":"m","choices":[{"index":0,"message":{"content":"hello"}}]}"#;
    world
        .provider
        .set_default(reply("application/json", gzip(whole.as_bytes())).header("content-encoding", "gzip"));
    for answer in world.ask(false).await {
        assert!(!answer.headers().contains_key("content-encoding"));
        assert_eq!(answer.text().await.unwrap(), whole);
    }
    let asked = world.provider.inferences();
    assert!(asked.iter().all(|request| request.header("accept-encoding") == Some("identity")));

    let stream = stream_with(HELLO);
    world.provider.set_default(reply("text/event-stream", gzip(&stream)).header("content-encoding", "gzip"));
    for answer in world.ask(true).await {
        assert!(answer.bytes().await.unwrap().ends_with(b"data: [DONE]\n\n"));
    }

    let error = gzip(br#"{"error":{"message":"x","code":"context_length_exceeded"}}"#);
    world.provider.set_default(Reply::status(400, error).header("content-encoding", "gzip"));
    for answer in world.ask(false).await {
        assert_eq!(answer.headers()["mcpctl-failure"], "context_length");
    }

    // 100 MB of blanks in 100 KB.
    let bomb = gzip(&vec![b' '; 100_000_000]);
    world.provider.set_default(reply("application/json", bomb).header("content-encoding", "gzip"));
    for answer in world.ask(false).await {
        assert!(!answer.status().is_success());
    }
    world.provider.set_default(reply("application/json", whole).header("content-encoding", "x-snappy"));
    for answer in world.ask(false).await {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["mcpctl-failure"]),
            (502, &"server_error".parse().unwrap())
        );
    }
}
