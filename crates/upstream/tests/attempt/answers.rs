//! Answers, whole and streamed, and what of a request and an answer passes.

use mcpctl_dialect::openai::chunk::ChunkKind;
use mcpctl_testkit::model_server::{Fault, Reply};
use mcpctl_upstream::Held;

use super::*;

#[tokio::test]
async fn a_whole_answer_keeps_its_bytes_and_tells_model_and_usage() {
    let body = r#"{ "model":"m-1", "choices":[], "usage":{"prompt_tokens":3,"completion_tokens":4} }"#;
    let server = ModelServer::start().await;
    server.queue(Reply::status(200, body).header("x-request-id", "r-1"));
    let answer = whole(&target(&server)).await.unwrap();
    assert_eq!(answer.body, body);
    assert_eq!(answer.headers["x-request-id"], "r-1");
    assert_eq!(answer.model.as_deref(), Some("m-1"));
    let usage = answer.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (3, 4));
    assert_eq!(server.inferences()[0].body, request(false).body, "an unchanged body goes byte for byte");
}

#[tokio::test]
async fn a_stream_is_held_until_content_and_then_goes_on_byte_for_byte() {
    let server = ModelServer::with_default(Reply::text("one two three").start_up(2, 100)).await;
    let expected = reqwest::Client::builder().no_proxy().build().unwrap();
    let expected = expected.post(format!("{}/chat/completions", server.base_url())).body(request(true).body);
    let expected = expected.send().await.unwrap().text().await.unwrap();

    let answer = stream(&target(&server)).await.unwrap();
    assert_eq!(answer.held_until, Held::Content);
    let kinds: Vec<_> = answer.held.iter().map(|event| event.chunk.kind.clone()).collect();
    assert_eq!(kinds, [ChunkKind::StartUp, ChunkKind::StartUp, ChunkKind::StartUp, ChunkKind::Content]);
    let (events, end) = drain(answer).await;
    end.unwrap();
    assert_eq!(raw(&events), expected);
    assert_eq!(events.last().unwrap().chunk.kind, ChunkKind::Done);
}

#[tokio::test]
async fn reasoning_tool_calls_and_an_immediate_end_are_content_too() {
    let server = ModelServer::start().await;
    server.queue(Reply::text("b").reasoning("a"));
    assert!(raw(&stream(&target(&server)).await.unwrap().held).contains("reasoning_content"));
    server.queue(Reply::tool_call("look", "{}"));
    assert!(raw(&stream(&target(&server)).await.unwrap().held).contains("tool_calls"));
    server.queue(Reply::text(""));
    let empty = stream(&target(&server)).await.unwrap();
    assert_eq!((empty.held_until, empty.held.last().unwrap().chunk.finished_choices), (Held::Content, 1));
    drain(empty).await.1.unwrap();
    // Complete without as much as a finish reason.
    server.queue(Reply::text("").after(0, Fault::Bytes("data: [DONE]\n\n".into())).after(0, Fault::End));
    let done = stream(&target(&server)).await.unwrap();
    assert_eq!(done.held_until, Held::Done);
    drain(done).await.1.unwrap();
}

#[tokio::test]
async fn completions_and_embeddings_go_to_their_routes() {
    let server = ModelServer::start().await;
    for (operation, stream, body, path) in [
        (Operation::Completions, true, r#"{"model":"m","prompt":"x","stream":true}"#, "/v1/completions"),
        (Operation::Completions, false, r#"{"model":"m","prompt":"x"}"#, "/v1/completions"),
        // Embeddings do not stream, whatever a body says.
        (Operation::Embeddings, true, r#"{"model":"m","input":["x"],"stream":true}"#, "/v1/embeddings"),
    ] {
        let request = Request { operation, stream, body: body.into(), ..request(stream) };
        match send(&Client::default(), &target(&server), request).await.unwrap() {
            Answer::Stream(answer) => {
                assert_eq!(operation, Operation::Completions);
                drain(answer).await.1.unwrap();
            }
            Answer::Whole(answer) => assert!(answer.usage.unwrap().input_tokens > 0),
        }
        assert_eq!(server.inferences().last().unwrap().path, path);
    }
}

#[tokio::test]
async fn the_model_is_rewritten_and_nothing_else_of_the_body() {
    let server = ModelServer::start().await;
    let target = Target { model: Some("real-name".into()), ..target(&server) };
    let answer = whole(&target).await.unwrap();
    let expected = String::from_utf8(request(false).body.to_vec()).unwrap().replace("asked-for", "real-name");
    assert_eq!(server.inferences()[0].body, expected);
    assert_eq!(answer.model.as_deref(), Some("real-name"));
}

#[tokio::test]
async fn inv_10_the_callers_credentials_do_not_reach_a_provider_and_ours_does() {
    let server = ModelServer::start().await;
    server.require_key("sk-ours");
    let mut asked = request(false);
    for (name, value) in [
        ("authorization", "Bearer callers-secret"),
        ("cookie", "session=callers-secret"),
        ("x-api-key", "callers-secret"),
        ("proxy-authorization", "Basic callers-secret"),
        ("mcpctl-agent", "callers-secret"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        asked.headers.insert(name, value.parse().unwrap());
    }
    let with_key = Target { credential: Some("sk-ours".into()), ..target(&server) };
    send(&Client::default(), &with_key, asked.clone()).await.unwrap();
    let seen = &server.inferences()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer sk-ours"));
    assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
    assert!(seen.header("traceparent").is_some());
    assert!(!format!("{:?}", seen.headers).contains("callers-secret"));

    // Without a credential of ours there is none at all.
    let failure = send(&Client::default(), &target(&server), asked).await.unwrap_err();
    assert_eq!(failure.class.as_str(), "upstream_credentials");
    assert_eq!(server.inferences()[1].header("authorization"), None);
}

#[tokio::test]
async fn a_providers_words_in_our_name_and_its_cookies_are_removed_and_mcpds_are_kept() {
    let server = ModelServer::with_default(
        Reply::default()
            .header("mcpctl-served-by", "me")
            .header("mcpctl-failure", "connect")
            .header("set-cookie", "a=b")
            .header("x-kept", "1"),
    )
    .await;
    let provider = whole(&target(&server)).await.unwrap().headers;
    let mut names: Vec<_> = provider.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "date", "x-kept"]);
    let mcpd = whole(&Target { kind: UpstreamKind::Mcpd, ..target(&server) }).await.unwrap().headers;
    assert_eq!(mcpd["mcpctl-served-by"], "me");
}

#[tokio::test]
async fn connections_are_used_again_after_answers_and_after_streams() {
    let server = ModelServer::start().await;
    let client = Client::default();
    for round in 0..6 {
        match send(&client, &target(&server), request(round % 2 == 0)).await.unwrap() {
            Answer::Stream(answer) => drain(answer).await.1.unwrap(),
            Answer::Whole(_) => {}
        }
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_to_stream_gives_a_whole_answer() {
    let server = ModelServer::start().await;
    server.queue(
        Reply::status(200, r#"{"model":"m","choices":[]}"#).header("content-type", "application/json"),
    );
    let answer = send(&Client::default(), &target(&server), request(true)).await.unwrap();
    assert!(matches!(answer, Answer::Whole(_)), "{answer:?}");
}

#[tokio::test]
async fn start_up_events_beyond_the_bound_are_released() {
    let server = ModelServer::start().await;
    // One start-up event is the server's own.
    for (count, size, held_until, held) in [
        (63, 100, Held::Content, 65),
        (64, 100, Held::Overflow, 65),
        (100, 100, Held::Overflow, 65),
        (6, 50 * 1024, Held::Overflow, 7),
    ] {
        server.queue(Reply::text("word").start_up(count, size));
        let answer = stream(&target(&server)).await.unwrap();
        assert_eq!((answer.held_until, answer.held.len()), (held_until, held), "{count} of {size}");
        let (events, end) = drain(answer).await;
        end.unwrap();
        assert_eq!(events.len(), 1 + count + 3);
    }
    // Once released, the stream has begun.
    server.queue(Reply::text("word").start_up(70, 100).cut_after(0));
    let (_, end) = drain(stream(&target(&server)).await.unwrap()).await;
    assert_eq!(end.unwrap_err().class.as_str(), "broken_stream");
    // Signs of life are no events.
    let mut patient = Reply::text("word");
    for _ in 0..100 {
        patient = patient.after(0, Fault::Bytes(": ping\n\n".into()));
    }
    server.queue(patient);
    assert_eq!(stream(&target(&server)).await.unwrap().held_until, Held::Content);
}

#[tokio::test]
async fn a_finish_reason_for_every_choice_completes_a_stream_without_done() {
    let server = ModelServer::start().await;
    let finish = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let unterminated = Reply::text("a").after(1, Fault::Bytes(finish.into())).after(1, Fault::End);
    server.queue(unterminated.clone());
    let (events, end) = drain(stream(&target(&server)).await.unwrap()).await;
    end.unwrap();
    assert_eq!(
        events.last().unwrap().frame.raw,
        finish,
        "the last event has no blank line, and none is added"
    );

    server.queue(unterminated);
    let two = Request { choices: 2, ..request(true) };
    let Answer::Stream(answer) = send(&Client::default(), &target(&server), two).await.unwrap() else {
        panic!("not a stream")
    };
    assert_eq!(drain(answer).await.1.unwrap_err().class.as_str(), "broken_stream");
}
