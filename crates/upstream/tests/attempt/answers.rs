//! Answers, whole and streamed, and which parts of requests and answers are forwarded.

use mcpctl_dialect::EventMeaning;
use mcpctl_testkit::model_server::{Fault, Reply};

use super::*;

/// The kind of the event that ended the holding: start-up where the limits of what is held were exceeded.
fn last_held(answer: &StreamAnswer) -> EventMeaning {
    answer.held.last().unwrap().event.meaning.clone()
}

#[tokio::test]
async fn whole_answer_keeps_its_bytes_and_has_model_and_usage() {
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
async fn stream_is_held_until_content_and_forwarded_byte_for_byte() {
    let server = ModelServer::with_default(Reply::text("one two three").start_up(2, 100)).await;
    let expected = reqwest::Client::builder().no_proxy().build().unwrap();
    let expected = expected.post(format!("{}/chat/completions", server.base_url())).body(request(true).body);
    let expected = expected.send().await.unwrap().text().await.unwrap();

    let answer = stream(&target(&server)).await.unwrap();
    let kinds: Vec<_> = answer.held.iter().map(|event| event.event.meaning.clone()).collect();
    assert_eq!(
        kinds,
        [EventMeaning::StartUp, EventMeaning::StartUp, EventMeaning::StartUp, EventMeaning::Content]
    );
    let (events, end) = drain(answer).await;
    end.unwrap();
    assert_eq!(raw(&events), expected);
    assert_eq!(events.last().unwrap().event.meaning, EventMeaning::Done);
}

#[tokio::test]
async fn events_of_one_piece_have_arrived_together() {
    let server = ModelServer::start().await;
    let piece = "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n".repeat(3);
    server.queue(Reply::text("a").after(1, Fault::Bytes((piece + "data: [DONE]\n\n").into())));
    let mut answer = stream(&target(&server)).await.unwrap();
    assert!(answer.rest.next().await.unwrap().is_ok());
    let arrived: Vec<_> = std::iter::from_fn(|| answer.rest.arrived()).collect::<Result<_, _>>().unwrap();
    let meanings: Vec<_> = arrived.iter().map(|event| &event.event.meaning).collect();
    assert_eq!(meanings, [&EventMeaning::Content, &EventMeaning::Content, &EventMeaning::Done]);
    assert!(answer.rest.next().await.is_none());
}

#[tokio::test]
async fn reasoning_tool_calls_and_an_immediate_end_are_content() {
    let server = ModelServer::start().await;
    server.queue(Reply::text("b").reasoning("a"));
    assert!(raw(&stream(&target(&server)).await.unwrap().held).contains("reasoning_content"));
    server.queue(Reply::tool_call("look", "{}"));
    assert!(raw(&stream(&target(&server)).await.unwrap().held).contains("tool_calls"));
    server.queue(Reply::text(""));
    let empty = stream(&target(&server)).await.unwrap();
    assert_eq!((last_held(&empty), empty.held.last().unwrap().event.finished), (EventMeaning::Content, 1));
    drain(empty).await.1.unwrap();
    // Complete without as much as a finish reason.
    server.queue(Reply::text("").after(0, Fault::Bytes("data: [DONE]\n\n".into())).after(0, Fault::End));
    let done = stream(&target(&server)).await.unwrap();
    assert_eq!(last_held(&done), EventMeaning::Done);
    drain(done).await.1.unwrap();
}

#[tokio::test]
async fn completions_and_embeddings_go_to_their_routes() {
    let server = ModelServer::start().await;
    for (operation, stream, body, path) in [
        (Operation::Completions, true, r#"{"model":"m","prompt":"x","stream":true}"#, "/v1/completions"),
        (Operation::Completions, false, r#"{"model":"m","prompt":"x"}"#, "/v1/completions"),
        // Embeddings do not stream, whatever the body requests.
        (Operation::Embeddings, true, r#"{"model":"m","input":["x"],"stream":true}"#, "/v1/embeddings"),
    ] {
        let request = Request { operation, stream, body: body.into(), ..request(stream) };
        match send(&Client::default(), &target(&server), &request).await.unwrap() {
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
async fn only_the_model_of_a_body_is_rewritten() {
    let server = ModelServer::start().await;
    let target = target(&server).with(|target| target.model = Some("real-name".into()));
    let asked = mcpctl_dialect::Request::read(Operation::Chat, request(false).body).unwrap();
    let sent = Request::untouched(&asked, &target, false, &HeaderMap::new());
    let Answer::Whole(answer) = send(&Client::default(), &target, &sent).await.unwrap() else { panic!() };
    let expected = String::from_utf8(request(false).body.to_vec()).unwrap().replace("asked-for", "real-name");
    assert_eq!(server.inferences()[0].body, expected);
    assert_eq!(answer.model.as_deref(), Some("real-name"));
}

#[tokio::test]
async fn inv_10_provider_gets_our_key_and_not_the_callers_credentials() {
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
    let with_key = target(&server).with(|target| target.credential = Some("sk-ours".into()));
    send(&Client::default(), &with_key, &asked.clone()).await.unwrap();
    let seen = &server.inferences()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer sk-ours"));
    assert_eq!(seen.headers.get_all("authorization").iter().count(), 1);
    assert!(seen.header("traceparent").is_some());
    assert!(!format!("{:?}", seen.headers).contains("callers-secret"));

    // Without a credential of ours there is none at all.
    let failure = send(&Client::default(), &target(&server), &asked).await.unwrap_err();
    assert_eq!(failure.class.as_str(), "upstream_credentials");
    assert_eq!(server.inferences()[1].header("authorization"), None);
}

#[tokio::test]
async fn mcpctl_headers_and_cookies_pass_from_mcpd_only() {
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
    let mcpd = whole(&target(&server).with(|target| target.kind = UpstreamKind::Mcpd)).await.unwrap().headers;
    assert_eq!(mcpd["mcpctl-served-by"], "me");
}

#[tokio::test]
async fn connections_are_reused_after_answers_and_streams() {
    let server = ModelServer::start().await;
    let client = Client::default();
    for round in 0..6 {
        match send(&client, &target(&server), &request(round % 2 == 0)).await.unwrap() {
            Answer::Stream(answer) => drain(answer).await.1.unwrap(),
            Answer::Whole(_) => {}
        }
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn server_that_does_not_stream_gives_a_whole_answer() {
    let server = ModelServer::start().await;
    server.queue(
        Reply::status(200, r#"{"model":"m","choices":[]}"#).header("content-type", "application/json"),
    );
    let answer = send(&Client::default(), &target(&server), &request(true)).await.unwrap();
    assert!(matches!(answer, Answer::Whole(_)), "{answer:?}");
}

#[tokio::test]
async fn start_up_events_beyond_the_limit_are_released() {
    let server = ModelServer::start().await;
    // One start-up event is the server's own.
    for (count, size, last, held) in [
        (63, 100, EventMeaning::Content, 65),
        (64, 100, EventMeaning::StartUp, 65),
        (100, 100, EventMeaning::StartUp, 65),
        (6, 50 * 1024, EventMeaning::StartUp, 7),
    ] {
        server.queue(Reply::text("word").start_up(count, size));
        let answer = stream(&target(&server)).await.unwrap();
        assert_eq!((last_held(&answer), answer.held.len()), (last, held), "{count} of {size}");
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
    assert_eq!(last_held(&stream(&target(&server)).await.unwrap()), EventMeaning::Content);
}

#[tokio::test]
async fn finish_reasons_complete_a_stream_without_done() {
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
    let Answer::Stream(answer) = send(&Client::default(), &target(&server), &two).await.unwrap() else {
        panic!("not a stream")
    };
    assert_eq!(drain(answer).await.1.unwrap_err().class.as_str(), "broken_stream");
}
