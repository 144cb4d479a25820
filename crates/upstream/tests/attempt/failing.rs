//! Each fault in the table of `docs/reference/contract.md`, and its class.

use std::{error::Error, net::Ipv4Addr};

use http::StatusCode;
use mcpctl_failover::FailureClass::{self, *};
use mcpctl_testkit::model_server::{Fault, Pause, Reply};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;

/// The class of a stream's failure before content.
async fn class_of(reply: Reply, bend: impl FnOnce(&mut TargetConfig)) -> FailureClass {
    let server = ModelServer::with_default(reply).await;
    let target = target(&server).with(bend);
    let failure = stream(&target).await.unwrap_err();
    assert_eq!(server.inferences().len(), 1, "one attempt is one request");
    failure.class
}

#[tokio::test]
async fn unreachable_or_resetting_server_is_connect() {
    let mut server = ModelServer::start().await;
    let target = target(&server);
    server.queue(Reply::reset());
    let reset = whole(&target).await.unwrap_err();
    assert_eq!((reset.class, reset.status), (Connect, None));
    assert!(reset.source().is_some());

    server.refuse().await;
    let refused = whole(&target).await.unwrap_err();
    assert_eq!(refused.class, Connect);

    server.listen();
    let tls = target_of(&format!("https://{}", server.address()));
    assert_eq!(whole(&tls).await.unwrap_err().class, Connect);
    assert_eq!(whole(&target_of("http://name.invalid/v1")).await.unwrap_err().class, Connect);
}

#[tokio::test]
async fn server_that_does_not_accept_is_connect_after_its_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Fill the queue of connections that wait to be accepted; the next one gets no answer at all.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let target = target_of(&format!("http://{address}")).with(|target| target.timeouts.connect = SHORT);
    let failure = whole(&target).await.unwrap_err();
    assert_eq!(failure.class, Connect);
    assert_eq!(failure.detail(), format!("no connection to `{address}` within 400ms (connect)"));
}

#[tokio::test]
async fn missing_head_is_no_response_after_the_timeout_of_its_kind() {
    let response = |target: &mut TargetConfig| target.timeouts.response = SHORT;
    assert_eq!(class_of(Reply::hang(), response).await, NoResponse);

    let server = ModelServer::with_default(Reply::hang()).await;
    let target = target(&server).with(|target| target.timeouts.answer = SHORT);
    assert_eq!(whole(&target).await.unwrap_err().class, NoResponse);

    // An answer that is not streamed may take longer than `response`.
    let slow = Reply::default().before_head(Pause::For(SHORT * 2));
    let server = ModelServer::with_default(slow).await;
    let target = super::target(&server).with(|target| target.timeouts.response = SHORT);
    whole(&target).await.unwrap();
}

#[tokio::test]
async fn head_that_is_not_http_is_server_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = target_of(&format!("http://{}", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await.unwrap();
        // Held until the client has read it.
        let _ = stream.read(&mut [0; 4096]).await;
    });
    assert_eq!(whole(&target).await.unwrap_err().class, ServerError);
    server.await.unwrap();
}

#[tokio::test]
async fn silence_before_content_is_no_first_token() {
    let first_token = |target: &mut TargetConfig| target.timeouts.first_token = SHORT * 2;
    assert_eq!(class_of(Reply::default().stall_after(0), first_token).await, NoFirstToken);
    let empty = r#"data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}"#;
    for sign in [": ping", empty] {
        let mut thinking = Reply::default();
        for _ in 0..12 {
            thinking = thinking
                .after(0, Fault::Bytes(format!("{sign}\n\n").into()))
                .after(0, Fault::Pause(Pause::For(SHORT / 2)));
        }
        // Three times as long as `first_token`, and no silence of that length in it.
        let server = ModelServer::with_default(thinking.clone()).await;
        let target = target(&server).with(first_token);
        drain(stream(&target).await.unwrap()).await.1.unwrap();

        let server = ModelServer::with_default(thinking).await;
        let target = super::target(&server).with(|target| target.timeouts.answer = SHORT * 2);
        let failure = stream(&target).await.unwrap_err();
        assert_eq!(failure.class, NoFirstToken, "{sign}");
        assert_eq!(failure.detail(), "no content within 800ms (answer)");
    }
}

#[tokio::test]
async fn keep_alives_alone_do_not_keep_a_stream_open() {
    let mut dripping = Reply::text("a b");
    for _ in 0..60 {
        dripping = dripping
            .after(1, Fault::Bytes(": ping\n\n".into()))
            .after(1, Fault::Pause(Pause::For(SHORT / 4)));
    }
    let server = ModelServer::with_default(dripping).await;
    let target = target(&server).with(|target| target.timeouts.answer = SHORT * 4);
    let (_, end) = drain(stream(&target).await.unwrap()).await;
    let failure = end.unwrap_err();
    assert_eq!(failure.class, BrokenStream);
    assert_eq!(failure.detail(), "no more content within 1s600ms (answer)");

    // Content that goes on for longer is whole.
    let server = ModelServer::with_default(Reply::text("a b c d e f g h").pace(SHORT / 2)).await;
    let target = super::target(&server).with(|target| target.timeouts.answer = SHORT * 2);
    drain(stream(&target).await.unwrap()).await.1.unwrap();
}

#[tokio::test]
async fn redirects_are_named_without_secrets() {
    let server = ModelServer::start().await;
    let target = target(&server).with(|target| target.credential = Some("sk-the-key-of-a-provider".into()));
    for (location, shown) in [
        ("https://u:p@other.example/v1/chat?token=x#y", Some("https://other.example/v1/chat")),
        ("/v1/chat/completions/", Some("/v1/chat/completions/")),
        ("https://other.example/sk-the-key-of-a-provider", Some("https://other.example/")),
        ("https://", None),
    ] {
        server.queue(Reply::status(307, "").header("location", location));
        let failure = whole(&target).await.unwrap_err();
        assert_eq!((failure.class, failure.headers.len()), (Rejected, 0));
        let named = failure.redirect.as_deref();
        assert!(
            named.is_some() == shown.is_some() && named.unwrap_or("").contains(shown.unwrap_or("")),
            "{location}: {named:?}"
        );
        assert!(!named.unwrap_or("").contains("sk-the-key") && !named.unwrap_or("").contains("token"));
    }
    server.queue(Reply::status(304, ""));
    assert_eq!(whole(&target).await.unwrap_err().redirect, None);
}

#[tokio::test]
async fn error_answers_keep_status_headers_body_and_retry_after() {
    let server = ModelServer::start().await;
    for (reply, class, status) in [
        (Reply::error(500, "x", "y"), ServerError, 500),
        (Reply::error(529, "x", "y"), ServerError, 529),
        (Reply::rate_limited("3"), RateLimited, 429),
        (Reply::error(401, "x", "invalid_api_key"), UpstreamCredentials, 401),
        (Reply::context_length(), ContextLength, 400),
        (Reply::error(404, "x", "model_not_found"), ModelUnavailable, 404),
        (Reply::error(404, "x", "y"), Rejected, 404),
        (Reply::error(403, "x", "content_filter"), Rejected, 403),
        (Reply::error(501, "x", "y"), ServerError, 501),
    ] {
        server.queue(reply.header("x-kept", "1").header("mcpctl-failure", "cancelled"));
        let failure = whole(&target(&server)).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (class, StatusCode::from_u16(status).ok()));
        assert_eq!(failure.headers["x-kept"], "1");
        assert!(!failure.headers.contains_key("mcpctl-failure"));
        assert!(failure.body.starts_with(br#"{"error":{"#));
        assert_eq!(failure.retry_after, (class == RateLimited).then_some(Duration::from_secs(3)));
    }
}

#[tokio::test]
async fn huge_and_endless_error_bodies_are_cut() {
    let server = ModelServer::start().await;
    server.queue(Reply::status(503, vec![b'x'; 3 * 1024 * 1024]));
    let mcpd = target(&server).with(|target| target.kind = UpstreamKind::Mcpd);
    let failure = whole(&mcpd).await.unwrap_err();
    assert_eq!((failure.class, failure.body.len()), (ServerError, Failure::MAX_BODY));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = target_of(&format!("http://{}", listener.local_addr().unwrap()))
        .with(|target| target.timeouts.idle = SHORT);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let failure = whole(&target).await.unwrap_err();
    assert_eq!(failure.class, ServerError);
    assert!(!failure.body.starts_with(b"half"), "half an error is none");
    server.await.unwrap();
}

#[tokio::test]
async fn stream_that_breaks_before_content_can_fail_over() {
    let any = |_: &mut TargetConfig| {};
    assert_eq!(class_of(Reply::default().cut_after(0), any).await, ServerError);
    assert_eq!(class_of(Reply::default().after(0, Fault::End), any).await, ServerError);
    let garbage =
        Reply::status(200, "data: {\"choices\":[{\"del\n\n").header("content-type", "text/event-stream");
    assert_eq!(class_of(garbage, any).await, ServerError);
    assert_eq!(class_of(Reply::default().error_after(0, "boom"), any).await, ServerError);
    let in_band = |error: &str| {
        Reply::default().after(0, Fault::Bytes(format!("data: {{\"error\":{error}}}\n\n").into()))
    };
    assert_eq!(class_of(in_band(r#"{"code":429,"message":"x"}"#), any).await, RateLimited);
    assert_eq!(class_of(in_band(r#"{"code":400,"message":"x"}"#), any).await, Rejected);
    assert_eq!(class_of(in_band(r#"{"code":"context_length_exceeded"}"#), any).await, ContextLength);
    let huge = Reply::default().after(0, Fault::Bytes(vec![b'x'; 9 * 1024 * 1024].into()));
    assert_eq!(class_of(huge, any).await, ServerError);
}

#[tokio::test]
async fn inv_13_stream_that_breaks_after_content_is_broken() {
    for (reply, detail) in [
        (Reply::text("a b c").cut_after(2), "the stream was cut"),
        (Reply::text("a b c").after(2, Fault::End), "the stream ended before it was complete"),
        (Reply::text("a b c").stall_after(2), "the stream stalled: nothing came within 400ms (idle)"),
        (Reply::text("a b c").error_after(2, "boom"), "the upstream reported an error inside the stream"),
        (
            Reply::text("a b c").after(2, Fault::Bytes("data: {\"cho".into())).cut_after(2),
            "the stream was cut",
        ),
        (
            Reply::text("a b c").after(2, Fault::Bytes(vec![b'x'; 9 * 1024 * 1024].into())),
            "a stream event is larger than 8388608 bytes",
        ),
    ] {
        let server = ModelServer::with_default(reply).await;
        let target = target(&server).with(|target| target.timeouts.idle = SHORT);
        let (events, end) = drain(stream(&target).await.unwrap()).await;
        let failure = end.unwrap_err();
        assert_eq!((failure.class, failure.detail()), (BrokenStream, detail));
        assert_eq!(events.len(), 3, "role, a, b: {detail}");
        assert!(!raw(&events).contains("[DONE]"));
        if detail.contains("reported") {
            assert!(failure.body.starts_with(br#"{"error":"#));
        }
    }
}

#[tokio::test]
async fn slow_tokens_and_keep_alives_keep_a_stream_open() {
    let mut thinking = Reply::text("a b");
    for _ in 0..12 {
        thinking = thinking
            .after(1, Fault::Pause(Pause::For(SHORT / 2)))
            .after(1, Fault::Bytes(": ping\n\n".into()));
    }
    let server = ModelServer::start().await;
    // Eight times what passes between two arrivals, less than all of them together.
    let target = target(&server).with(|target| {
        target.timeouts.idle = SHORT * 4;
        target.timeouts.first_token = SHORT * 4;
    });
    server.queue(thinking);
    drain(stream(&target).await.unwrap()).await.1.unwrap();
    server.queue(Reply::text("a b c d e f g h i j k l").pace(SHORT / 2));
    drain(stream(&target).await.unwrap()).await.1.unwrap();
}

#[tokio::test]
async fn whole_answers_that_are_cut_late_or_unreadable_fail() {
    let server = ModelServer::start().await;
    server.queue(Reply::default().cut_after(0));
    assert_eq!(whole(&target(&server)).await.unwrap_err().class, ServerError);

    server.queue(Reply::default().stall_after(0));
    let hurried = target(&server).with(|target| target.timeouts.answer = SHORT);
    assert_eq!(whole(&hurried).await.unwrap_err().class, NoResponse);

    server.queue(Reply::status(200, "<html>sign in</html>"));
    assert_eq!(whole(&target(&server)).await.unwrap_err().class, ServerError);

    server.queue(Reply::status(200, r#"{"error":{"message":"x","code":429}}"#));
    let hidden = whole(&target(&server)).await.unwrap_err();
    assert_eq!((hidden.class, hidden.body.is_empty()), (RateLimited, false));

    server.queue(Reply::status(200, vec![b' '; WholeAnswer::MAX_BODY + 1]));
    assert_eq!(whole(&target(&server)).await.unwrap_err().class, Rejected);
}

#[tokio::test]
async fn redirects_are_not_followed_and_do_not_fail_over() {
    let elsewhere = ModelServer::start().await;
    let server = ModelServer::start().await;
    let location = format!("{}/chat/completions", elsewhere.base_url());
    server.queue(Reply::status(307, "").header("location", &location));
    let target = target(&server).with(|target| target.credential = Some("sk-ours".into()));
    assert_eq!(whole(&target).await.unwrap_err().class, Rejected);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn mcpd_names_the_class_and_gets_the_callers_bearer() {
    let server = ModelServer::start().await;
    let target = target_of(&format!("http://{}", server.address())).with(|target| {
        target.kind = UpstreamKind::Mcpd;
        target.credential = Some("callers-bearer".into());
    });
    for (reply, class) in [
        (Reply::error(502, "x", "y").header("mcpctl-failure", "upstream_credentials"), UpstreamCredentials),
        (Reply::error(502, "x", "y").header("mcpctl-failure", "no_first_token"), NoFirstToken),
        (Reply::error(403, "x", "y").header("mcpctl-error-source", "mcpd"), Denied),
        (Reply::error(429, "x", "y").header("mcpctl-error-source", "mcpd"), Quota),
    ] {
        server.queue(reply);
        let failure = whole(&target).await.unwrap_err();
        assert_eq!(failure.class, class);
        assert!(failure.headers.keys().any(|name| name.as_str().starts_with("mcpctl-")), "shown unchanged");
    }
    let seen = &server.inferences()[0];
    assert_eq!(
        (seen.path.as_str(), seen.header("authorization")),
        ("/v1/chat/completions", Some("Bearer callers-bearer"))
    );
}

#[tokio::test]
async fn logged_failure_has_no_body_key_or_url() {
    let server = ModelServer::start().await;
    server.queue(Reply::error(400, "you asked: secret-prompt", "y").header("x-secret", "secret-header"));
    server.queue(Reply::reset());
    for class in [Rejected, Connect] {
        let target = target_of(&format!("{}?api-key=secret-query", server.base_url()))
            .with(|target| target.credential = Some("secret-key".into()));
        let failure = whole(&target).await.unwrap_err();
        let mut shown = format!("{failure} {failure:?}");
        let mut source = failure.source();
        while let Some(error) = source {
            shown.push_str(&format!(" {error} {error:?}"));
            source = error.source();
        }
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(failure.class, class);
        assert!(shown.starts_with(class.as_str()));
    }
}

#[tokio::test]
async fn credential_that_is_not_a_header_value_is_not_sent() {
    let server = ModelServer::start().await;
    for key in ["line\nbreak", "a\r\nx-injected: 1", "nul\0", "bell\u{7}"] {
        let target = target(&server).with(|target| target.credential = Some(key.into()));
        assert_eq!(whole(&target).await.unwrap_err().class, UpstreamCredentials);
    }
    assert!(server.requests().is_empty());
    // The line end of the file that it was read from is no part of it.
    let target = target(&server).with(|target| target.credential = Some("sk-ours\r\n".into()));
    whole(&target).await.unwrap();
    assert_eq!(server.inferences()[0].header("authorization"), Some("Bearer sk-ours"));
}
