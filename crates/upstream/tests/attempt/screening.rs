//! Refused addresses, answers of other services, and our own key never reach a caller.

use std::sync::Arc;

use mcpctl_failover::FailureClass::{Connect, Rejected, ServerError};
use mcpctl_testkit::model_server::{Fault, Reply};
use mcpctl_upstream::{AddressPolicy, ClientConfig};

use super::*;

const KEY: &str = "sk-0123456789-abcdefghijklmnop";

fn with_key(server: &ModelServer) -> Target {
    target(server).with(|target| target.credential = Some(KEY.into()))
}

#[tokio::test]
async fn refused_addresses_fail_like_closed_ports() {
    let server = ModelServer::start().await;
    let port = server.address().port();
    let addresses = Some(Arc::new(AddressPolicy { loopback: false, ..AddressPolicy::default() }));
    let client = Client::new(ClientConfig { addresses, ..ClientConfig::default() });
    for url in [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")] {
        let failure = send(&client, &target_of(&url), &request(false)).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (Connect, None), "{url}");
        assert!(failure.detail().contains("`upstreamAddresses.loopback` is false"), "{}", failure.detail());
    }
    assert_eq!(server.connections(), 0);
    let own = AddressPolicy { loopback: true, own: vec![server.address()], ..AddressPolicy::default() };
    let client = Client::new(ClientConfig { addresses: Some(Arc::new(own)), ..ClientConfig::default() });
    let url = format!("http://localhost:{port}");
    let failure = send(&client, &target_of(&url), &request(false)).await.unwrap_err();
    assert!(failure.detail().contains("this process itself listens"), "{}", failure.detail());
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn errors_of_other_services_are_replaced() {
    let server = ModelServer::start().await;
    for (status, body) in [
        (404, "internal service: user=root PASSWORD"),
        (500, "<html>PASSWORD</html>"),
        (400, r#"{"db":"PASSWORD"}"#),
        (403, r#""PASSWORD""#),
        (503, r#"{"message":"gone","secret":"PASSWORD"}"#),
    ] {
        server.queue(Reply::status(status, body).header("content-type", "text/html"));
        let failure = whole(&target(&server)).await.unwrap_err();
        assert_eq!(failure.status.unwrap().as_u16(), status);
        let shown = String::from_utf8(failure.body.to_vec()).unwrap();
        assert!(shown.starts_with(r#"{"error":{"message":""#) && !shown.contains("PASSWORD"), "{shown}");
        assert_eq!(failure.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn answers_of_other_services_do_not_pass() {
    let server = ModelServer::start().await;
    server.queue(Reply::status(200, r#"{"AccessKeyId":"AKIA","SecretAccessKey":"s"}"#));
    assert_eq!(whole(&target(&server)).await.unwrap_err().class, ServerError);

    let stream_of = |text: &'static str| Reply::text("a b").after(1, Fault::Bytes(text.into()));
    server.queue(stream_of("data: {\"AccessKeyId\":\"AKIA\"}\n\n"));
    let (events, end) = drain(stream(&target(&server)).await.unwrap()).await;
    end.unwrap();
    assert!(!raw(&events).contains("AKIA") && raw(&events).contains("[DONE]"));

    server.queue(
        Reply::status(200, "data: {\"AccessKeyId\":\"AKIA\"}\n\n")
            .header("content-type", "text/event-stream"),
    );
    assert_eq!(stream(&target(&server)).await.unwrap_err().class, ServerError);

    server.queue(stream_of(": PASSWORD\nid: PASSWORD\n\n"));
    let (events, end) = drain(stream(&target(&server)).await.unwrap()).await;
    end.unwrap();
    assert!(!raw(&events).contains("PASSWORD") && raw(&events).contains(":\n\n"));
}

#[tokio::test]
async fn echoed_key_never_passes() {
    let server = ModelServer::start().await;
    server.queue(Reply::error(400, &format!("bad key {KEY}!"), "x").header("x-echo", KEY));
    let failure = whole(&with_key(&server)).await.unwrap_err();
    assert_eq!(failure.class, Rejected);
    let shown = String::from_utf8(failure.body.to_vec()).unwrap();
    assert!(shown.contains("bad key [redacted]!"), "{shown}");
    assert!(!failure.headers.contains_key("x-echo"));

    server.queue(Reply::text(&format!("you sent {KEY} to me")).model(KEY));
    let answer = whole(&with_key(&server)).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.body).contains("you sent [redacted] to me"));
    assert_eq!(answer.model.as_deref(), Some("[redacted]"));

    server.queue(Reply::text(&format!("you sent {KEY} to me")).model(KEY));
    let (events, end) = drain(stream(&with_key(&server)).await.unwrap()).await;
    end.unwrap();
    assert!(!raw(&events).contains(KEY) && raw(&events).contains("[redacted]"), "{}", raw(&events));
    assert!(events.iter().all(|event| event.event.model.as_deref() != Some(KEY)));
}

#[tokio::test]
async fn key_spelled_out_over_several_events_breaks_the_stream() {
    let server = ModelServer::start().await;
    let spelt: String = KEY.chars().map(|c| format!("{c} ")).collect();
    server.queue(Reply::text(&spelt));
    let (events, end) = drain(stream(&with_key(&server)).await.unwrap()).await;
    end.unwrap();
    assert!(raw(&events).contains("[DONE]"), "spaces are between");

    let event = |c: char| {
        Fault::Bytes(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{c}\"}}}}]}}\n\n").into())
    };
    let reply = KEY.chars().fold(Reply::text("a b"), |reply, c| reply.after(1, event(c)));
    server.queue(reply);
    let (events, end) = drain(stream(&with_key(&server)).await.unwrap()).await;
    assert_eq!(end.unwrap_err().detail(), "the stream spells out the credential that was sent");
    assert!(events.len() < KEY.len(), "{}", events.len());
}

#[tokio::test]
async fn every_request_lists_the_daemons_it_passed() {
    let server = ModelServer::start().await;
    let client = Client::default();
    for kind in [UpstreamKind::Provider, UpstreamKind::Mcpd] {
        let mut asked = request(false);
        asked.headers.insert(mcpctl_api::header::HOPS, "0123456789abcdef".parse().unwrap());
        send(&client, &target(&server).with(|target| target.kind = kind), &asked).await.unwrap();
        let seen = server.inferences().pop().unwrap();
        let expected = format!("0123456789abcdef,{}", client.instance());
        assert_eq!(seen.header("mcpctl-hops"), Some(expected.as_str()));
        assert_eq!(seen.headers.get_all("mcpctl-hops").iter().count(), 1);
    }
}
