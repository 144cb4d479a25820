//! One attempt against a real HTTP server with a script for each test. Timeouts are short, and every assertion
//! waits for its condition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod answers;
mod cancelling;
mod failing;
mod screening;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use mcpctl_dialect::Operation;
use mcpctl_testkit::model_server::ModelServer;
use mcpctl_upstream::{
    Answer, Api, AttemptTimeouts, Client, Failure, Request, StreamAnswer, StreamEvent, Target, TargetConfig,
    UpstreamKind, WholeAnswer, send,
};
use serde_json::json;

/// Long enough for a loaded machine, and never waited for in full: tests that expect a bound to be exceeded set
/// that one to [`SHORT`].
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

const GENEROUS: AttemptTimeouts =
    AttemptTimeouts { connect: LONG, response: LONG, answer: LONG, first_token: LONG, idle: LONG };

fn target(server: &ModelServer) -> Target {
    target_of(&server.base_url())
}

fn target_of(url: &str) -> Target {
    Target::new(TargetConfig {
        base_url: url.parse().unwrap(),
        socket: None,
        model: None,
        credential: None,
        timeouts: GENEROUS,
        api: Api::Openai,
        kind: UpstreamKind::Provider,
    })
}

fn request(stream: bool) -> Request {
    let body =
        json!({ "model": "asked-for", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] });
    Request {
        operation: Operation::Chat,
        body: Bytes::from(body.to_string()),
        stream,
        choices: 1,
        headers: HeaderMap::new(),
    }
}

async fn whole(target: &Target) -> Result<WholeAnswer, Failure> {
    match send(&Client::default(), target, &request(false)).await? {
        Answer::Whole(answer) => Ok(answer),
        Answer::Stream(stream) => panic!("{stream:?}"),
    }
}

async fn stream(target: &Target) -> Result<StreamAnswer, Failure> {
    match send(&Client::default(), target, &request(true)).await? {
        Answer::Stream(stream) => Ok(stream),
        Answer::Whole(whole) => panic!("{whole:?}"),
    }
}

/// Everything that a stream gives, and how it ended.
async fn drain(mut stream: StreamAnswer) -> (Vec<StreamEvent>, Result<(), Failure>) {
    let mut events = stream.held;
    while let Some(event) = tokio::time::timeout(LONG, stream.rest.next()).await.expect("the stream goes on")
    {
        match event {
            Ok(event) => events.push(event),
            Err(failure) => {
                assert!(stream.rest.next().await.is_none(), "nothing follows a failure");
                return (events, Err(failure));
            }
        }
    }
    (events, Ok(()))
}

fn raw(events: &[StreamEvent]) -> String {
    events.iter().map(|event| String::from_utf8_lossy(&event.frame.raw).into_owned()).collect()
}
