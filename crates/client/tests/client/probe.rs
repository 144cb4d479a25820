//! The probe sends one request and returns one answer; a response that is not clearly mcpd's is an error, which counts as
//! `unreachable`.

use std::time::Instant;

use mcpctl_client::Probe;
use mcpctl_failover::{AccessProbe as _, Allowance, Bearer, Denial, ProbeAnswer, ProbeError, ProbeRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::server::{Server, closed_port};

/// What mcpd's answers have, beside the status and the length.
const MARKS: &str = "content-type: application/json\r\netag: \"7\"\r\nmcpctl-request-id: 0197\r\n";

fn question(llm: &str) -> ProbeRequest {
    ProbeRequest { llm: llm.to_owned(), bearer: Bearer::new("mcpd_the-callers-own") }
}

async fn ask(server: Url, llm: &str) -> Result<ProbeAnswer, ProbeError> {
    Probe::new(server).unwrap().probe(&question(llm)).await
}

/// What a success without a proof allows.
fn allowed() -> Result<ProbeAnswer, ProbeError> {
    Ok(ProbeAnswer::Allowed { allowance: Allowance::of_status(None), lease: None })
}

/// What a denial without a proof denies.
fn forbidden() -> Result<ProbeAnswer, ProbeError> {
    Ok(ProbeAnswer::Forbidden(Denial::UNSIGNED))
}

#[tokio::test]
async fn the_probe_is_a_head_of_the_llm_with_the_callers_own_bearer() {
    let server = Server::answering("200 OK", MARKS, "").await;
    assert_eq!(ask(server.url(), "claude").await, allowed());
    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let mut lines = request.lines();
    assert_eq!(lines.next(), Some("HEAD /api/v1/llms/claude HTTP/1.1"));
    assert_eq!(lines.filter(|line| *line == "authorization: Bearer mcpd_the-callers-own").count(), 1);
    assert!(!request.lines().next().unwrap().contains("mcpd_"), "a bearer is never in an address");
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let nothing = |status: &str| Err(ProbeError(format!("mcpd answered with status {status}")));
    for (status, expected) in [
        ("200 OK", allowed()),
        ("204 No Content", allowed()),
        ("401 Unauthorized", forbidden()),
        ("403 Forbidden", forbidden()),
        ("404 Not Found", nothing("404")),
        ("500 Internal Server Error", nothing("500")),
    ] {
        let server = Server::sending(format!("HTTP/1.1 {status}\r\n{MARKS}connection: close\r\n\r\n")).await;
        assert_eq!(ask(server.url(), "claude").await, expected, "{status}");
    }
}

#[tokio::test]
async fn every_probe_asks_anew() {
    let server = Server::answering("200 OK", &format!("cache-control: max-age=3600\r\n{MARKS}"), "").await;
    let probe = Probe::new(server.url()).unwrap();
    for _ in 0..3 {
        assert_eq!(probe.probe(&question("claude")).await, allowed());
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::answering("200 OK", MARKS, "").await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: {}api/v1/llms/claude\r\n", elsewhere.url());
        let server = Server::answering(status, &location, "").await;
        let error = ask(server.url(), "claude").await.unwrap_err();
        assert!(error.to_string().ends_with(&status[..3]), "{error}");
    }
    assert!(elsewhere.requests().is_empty(), "the bearer went to another server");
}

#[tokio::test]
async fn silent_server_is_given_up_after_the_timeout() {
    let server = Server::hanging().await;
    let begun = Instant::now();
    let error = ask(server.url(), "claude").await.unwrap_err();
    assert_eq!(error.to_string(), "no answer in time");
    let took = begun.elapsed();
    assert!(took >= Probe::TIMEOUT && took < 3 * Probe::TIMEOUT, "{took:?}");
}

#[tokio::test]
async fn closed_port_is_an_error() {
    assert_eq!(ask(closed_port(), "claude").await.unwrap_err().to_string(), "connection refused");
}

#[tokio::test]
async fn head_that_is_too_long_is_an_error() {
    let head = |size: usize| format!("{MARKS}x-padding: {}\r\n", "a".repeat(size));
    let server = Server::answering("200 OK", &head(Probe::MAX_HEAD_BYTES - 400), "").await;
    assert_eq!(ask(server.url(), "claude").await, allowed(), "up to the bound it is fine");
    let server = Server::answering("200 OK", &head(Probe::MAX_HEAD_BYTES), "").await;
    ask(server.url(), "claude").await.unwrap_err();
    // A head that does not end is not read to its end.
    let server = Server::answering("200 OK", &head(1 << 20), "").await;
    ask(server.url(), "claude").await.unwrap_err();
    let server = Server::answering("200 OK", &format!("{MARKS}{}", "x-many: a\r\n".repeat(500)), "").await;
    ask(server.url(), "claude").await.unwrap_err();
}

#[tokio::test]
async fn response_that_is_not_http_is_an_error() {
    for nonsense in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\n"] {
        let server = Server::sending(nonsense).await;
        ask(server.url(), "claude").await.unwrap_err();
    }
}

#[tokio::test]
async fn malformed_response_with_status_200_is_an_error() {
    let good = format!("HTTP/1.1 200 OK\r\n{MARKS}content-length: 2\r\n\r\n");
    assert_eq!(ask(Server::sending(good.clone()).await.url(), "claude").await, allowed(), "the control");
    let with = |more: &str| good.replace("content-length: 2\r\n", more);
    for (what, answer) in [
        ("two lengths", with("content-length: 2\r\ncontent-length: 3\r\n")),
        ("the same length twice", with("content-length: 2\r\ncontent-length: 2\r\n")),
        ("a list of lengths", with("content-length: 2, 2\r\n")),
        ("a signed length", with("content-length: +2\r\n")),
        ("a negative length", with("content-length: -1\r\n")),
        ("an absurd length", with("content-length: 99999999999999999999999999\r\n")),
        ("a huge length", with("content-length: 9223372036854775807\r\n")),
        ("no digits", with("content-length: 0x2\r\n")),
        ("length and coding", with("content-length: 2\r\ntransfer-encoding: chunked\r\n")),
        ("coding and length", with("transfer-encoding: chunked\r\ncontent-length: 2\r\n")),
        ("chunked twice", with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n")),
        ("an unknown coding", with("transfer-encoding: xchunked\r\n")),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0")),
        ("HTTP/0.9", "ok".to_owned()),
        ("HTTP/2.0 in clear", good.replace("HTTP/1.1", "HTTP/2.0")),
        ("an interim answer", format!("HTTP/1.1 100 Continue\r\n\r\n{good}")),
        ("early hints", format!("HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n{good}")),
        ("a switch of protocols", format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n{good}")),
        ("a body", format!("{good}{{}}")),
        ("another answer", format!("{good}{good}")),
        ("a folded header", with("x-folded: a\r\n b\r\n")),
        ("a blank before the colon", with("content-length : 2\r\n")),
        ("a header without a name", with(": 2\r\n")),
        ("a NUL in the head", with("x-nul: a\0b\r\n")),
        ("an unfinished head", good.trim_end().to_owned()),
        ("a status of four digits", good.replace("200 OK", "2000 OK")),
        ("a signed status", good.replace("200 OK", "+200 OK")),
    ] {
        let server = Server::sending(answer.clone()).await;
        let answered = ask(server.url(), "claude").await;
        assert!(answered.is_err(), "{what}: {answered:?}\n{answer}");
    }
}

#[tokio::test]
async fn success_without_marks_of_mcpd_is_an_error() {
    let json = "content-type: application/json\r\n";
    let (etag, id) = ("etag: \"7\"\r\n", "mcpctl-request-id: 0197\r\n");
    for good in [
        format!("{json}{etag}{id}"),
        format!("content-type: Application/JSON; charset=utf-8\r\n{id}etag: W/\"18446744073709551615\"\r\n"),
    ] {
        let server = Server::answering("200 OK", &good, "").await;
        assert_eq!(ask(server.url(), "claude").await, allowed(), "{good}");
    }
    for bad in [
        String::new(),
        format!("{etag}{id}"),
        format!("{json}{id}"),
        format!("{json}{etag}"),
        format!("content-type: text/html\r\n{etag}{id}"),
        format!("content-type: application/jsonx\r\n{etag}{id}"),
        format!("{json}content-type: text/html\r\n{etag}{id}"),
        format!("{json}{etag}etag: \"8\"\r\n{id}"),
        format!("{json}etag: \"33a64df5\"\r\n{id}"),
        format!("{json}etag: 7\r\n{id}"),
        format!("{json}etag: \"\"\r\n{id}"),
        format!("{json}etag: \"+7\"\r\n{id}"),
        format!("{json}etag: \"99999999999999999999\"\r\n{id}"),
        format!("{json}{etag}mcpctl-request-id: \r\n"),
    ] {
        for status in ["200 OK", "204 No Content"] {
            if status.starts_with("204") && bad.contains(etag) && bad.ends_with(id) {
                continue;
            }
            let server = Server::answering(status, &bad, "").await;
            let answered = ask(server.url(), "claude").await;
            assert!(answered.is_err(), "{status} {bad}: {answered:?}");
        }
    }
    // A denial needs no marks: believing it is safe.
    let server = Server::answering("403 Forbidden", "", "").await;
    assert_eq!(ask(server.url(), "claude").await, forbidden());
}

#[tokio::test]
async fn late_body_is_detected() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let _ = connection.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\n{MARKS}content-length: 2\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let _ = connection.write_all(b"{}").await;
        std::future::pending::<()>().await;
    });
    ask(url, "claude").await.unwrap_err();
    server.abort();
}

#[tokio::test]
async fn name_never_reaches_into_another_path() {
    let server = Server::answering("403 Forbidden", "", "").await;
    for name in ["a/b", "..", ".", "../users/alice", "a?b", "a#b", "%2e%2e", "a\\b", "a b", ""] {
        ask(server.url(), name).await.unwrap();
    }
    for request in server.requests() {
        let path = request.split(' ').nth(1).unwrap();
        let segment = path.strip_prefix("/api/v1/llms/").unwrap_or_else(|| panic!("{path}"));
        assert!(!segment.contains(['/', '?', '#']) && segment != "." && segment != "..", "{path}");
    }
}

#[tokio::test]
async fn a_base_path_is_kept() {
    let server = Server::answering("200 OK", MARKS, "").await;
    for base in ["mcpd", "mcpd/"] {
        ask(server.url().join(base).unwrap(), "claude").await.unwrap();
    }
    for request in server.requests() {
        assert!(request.starts_with("HEAD /mcpd/api/v1/llms/claude HTTP/1.1\r\n"), "{request}");
    }
}

#[test]
fn address_with_a_query_is_rejected() {
    // `https://host/?x/api/v1/llms/claude` asks for the root, which answers 200 to every caller.
    for bad in ["https://host/?x", "https://host/#x", "https://a:b@host", "ftp://host", "unix:/run/mcpd.sock"]
    {
        let error = Probe::new(bad.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("is not the address of a server"), "{error}");
    }
}

#[tokio::test]
async fn unsendable_bearer_is_an_error_that_hides_it() {
    let server = Server::answering("200 OK", MARKS, "").await;
    let request = ProbeRequest { llm: "claude".to_owned(), bearer: Bearer::new("hunter2\r\nx: y") };
    let error = Probe::new(server.url()).unwrap().probe(&request).await.unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(server.requests().is_empty());
}
