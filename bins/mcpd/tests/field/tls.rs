//! TLS of mcpd itself: a private authority, files that change, clients that have to present a certificate, and those that do not
//! speak TLS or never finish a handshake.

use std::time::Duration;

use mcpctl_testkit::{
    authority::Authority,
    daemons::{Mcpd, McpdOptions, McpdTls, eventually},
    model_server::{Gate, ModelServer, Reply},
    raw::RawConnection,
};
use reqwest::{Method, StatusCode, Version};
use serde_json::{Value, json};

const REVOKED: &str = "access_revoked";
/// The head of a record with a handshake of 512 bytes, and its first byte: the rest never comes.
const BEGUN_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";

async fn start(tls: &McpdTls, config: &str) -> Mcpd {
    let config = (!config.is_empty()).then(|| config.to_owned());
    Mcpd::start_with(McpdOptions { tls: Some(tls.clone()), config, ..McpdOptions::default() }).await
}

fn chat(stream: bool) -> Value {
    json!({"model": "claude", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
}

async fn is_healthy(tls: &McpdTls, mcpd: &Mcpd) -> Result<(), String> {
    let answer = tls.http_client().get(format!("{}/healthz", mcpd.url())).send().await;
    answer.map(drop).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn both_versions_of_http_are_served_on_both_listeners() {
    let authority = Authority::new();
    let tls = McpdTls::of(&authority);
    let options = McpdOptions { tls: Some(tls.clone()), inference_listener: true, ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    let provider = ModelServer::with_default(Reply::text("one two")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let first = reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([root]).build().unwrap();
    for (http, version) in [(tls.http_client(), Version::HTTP_2), (first, Version::HTTP_11)] {
        // One connection, whose requests are of both workloads.
        for url in [mcpd.inference_url(), mcpd.url()] {
            let answer = http.get(format!("{url}/healthz")).send().await.unwrap();
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        }
        let request = http.post(format!("{}/v1/chat/completions", mcpd.inference_url()));
        let answer = request.bearer_auth(&alice).json(&chat(true)).send().await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version));
        assert!(answer.text().await.unwrap().ends_with("data: [DONE]\n\n"));
        let whoami = http.get(format!("{}/api/v1/auth/whoami", mcpd.url())).bearer_auth(&alice);
        assert_eq!(whoami.send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn inv_06_revoked_streams_end_over_tls_and_http2() {
    let tls = McpdTls::of(&Authority::new());
    let mcpd = start(&tls, "").await;
    let provider = ModelServer::with_default(Reply::text("one two").stall_after(1)).await;
    mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
    let (alice, bob) = (mcpd.user("alice", Some("llm-user")).await, mcpd.user("bob", Some("llm-user")).await);
    // Both streams are on one connection.
    let mut streams = Vec::new();
    for bearer in [&alice, &bob] {
        let answer = mcpd.post("/v1/chat/completions", bearer, &chat(true)).await;
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        streams.push(answer);
    }
    let gone = mcpd.delete("/api/v1/rolebindings/alice-llm-user", &mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let text = streams.remove(0).text().await.unwrap();
    assert!(text.contains(REVOKED) && !text.contains("[DONE]"), "{text}");
    provider.wait_for_disconnects(1).await;
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &bob).await.status(), StatusCode::OK, "the connection lives");
    let gone = mcpd.delete("/api/v1/rolebindings/bob-llm-user", &mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert!(streams.remove(0).text().await.unwrap().contains(REVOKED));
}

#[tokio::test]
async fn changed_certificate_is_used_while_streams_run() {
    let (before, after) = (Authority::new(), Authority::new());
    let tls = McpdTls::of(&before);
    let mcpd = start(&tls, "").await;
    let gate = Gate::new();
    let provider = ModelServer::with_default(Reply::text("one two").gate_after(1, &gate)).await;
    mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let running = mcpd.post("/v1/chat/completions", &alice, &chat(true)).await;
    assert_eq!(running.status(), StatusCode::OK);

    // A file that cannot be used changes nothing, and is reported.
    std::fs::write(&tls.issued.certificate, "no certificate").unwrap();
    let refused = async || mcpd.log().contains("cannot be used; the former certificate stays").then_some(());
    eventually("the log has the bad file", refused).await;
    is_healthy(&tls, &mcpd).await.unwrap();
    let metrics = async || mcpd.get("/metrics", &mcpd.admin()).await.text().await.unwrap();
    assert!(metrics().await.contains("mcpctl_tls_files_refused{} 1"), "{}", metrics().await);

    after.issue("next", &["127.0.0.1"]).replace(&tls.issued);
    let renewed = McpdTls { authority: after.pem(), ..tls.clone() };
    eventually("the new certificate is in use", async || is_healthy(&renewed, &mcpd).await.ok()).await;
    let error = is_healthy(&tls, &mcpd).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    gate.release();
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let metrics = metrics().await;
    assert!(metrics.contains("mcpctl_tls_files_refused{} 0"), "{metrics}");
    assert!(metrics.contains("mcpctl_tls_certificate_valid_until_seconds{} 6"), "the year 4096: {metrics}");
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authority_are_refused() {
    let (authority, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let own = clients.issue("client", &["alice"]);
    let tls = McpdTls { clients: Some((clients.ca_file(), own)), ..McpdTls::of(&authority) };
    let mcpd = start(&tls, "").await;
    is_healthy(&tls, &mcpd).await.unwrap();
    // A certificate admits, and gives no account.
    let request = tls.http_client().get(format!("{}/api/v1/auth/whoami", mcpd.url()));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let with = |issued| McpdTls { clients: issued, ..tls.clone() };
    let none = is_healthy(&with(None), &mcpd).await.unwrap_err();
    assert!(none.contains("CertificateRequired"), "{none}");
    for issued in [other.issue("stranger", &["alice"]), clients.issue_expired("old", &["alice"])] {
        let error = is_healthy(&with(Some((clients.ca_file(), issued))), &mcpd).await.unwrap_err();
        assert!(error.contains("received fatal alert"), "{error}");
    }

    // Once the authority is another one, its former clients are strangers.
    std::fs::copy(other.ca_file(), clients.ca_file()).unwrap();
    let refused = async || is_healthy(&tls, &mcpd).await.err();
    eventually("the former authority is not trusted any more", refused).await;
    let stranger = other.issue("stranger", &["alice"]);
    is_healthy(&with(Some((clients.ca_file(), stranger))), &mcpd).await.unwrap();
}

#[tokio::test]
async fn plain_http_is_answered_with_the_way_out() {
    let tls = McpdTls::of(&Authority::new());
    let mcpd = start(&tls, "").await;
    let mut plain = RawConnection::connect(mcpd.url()).await;
    plain.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let answer = plain.until_closed().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("write https://"), "{answer}");
    is_healthy(&tls, &mcpd).await.unwrap();
}

#[tokio::test]
async fn slow_and_silent_handshakes_hold_nothing_up() {
    let tls = McpdTls::of(&Authority::new());
    let mcpd = start(&tls, "limits: {http: {requestHead: 500ms, connections: 8}}\n").await;
    let own = tls.http_client();
    let answer = own.get(format!("{}/api/v1/auth/whoami", mcpd.url())).bearer_auth(mcpd.admin());
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
    // More than the table has room for; the authenticated connection is not one that makes room.
    let mut crowd = Vec::new();
    for n in 0..20 {
        let mut connection = RawConnection::connect(mcpd.url()).await;
        if n % 2 == 0 {
            connection.send(BEGUN_HELLO).await;
        }
        crowd.push(connection);
    }
    let answer = own.get(format!("{}/api/v1/auth/whoami", mcpd.url())).bearer_auth(mcpd.admin());
    assert_eq!(answer.send().await.unwrap().status(), StatusCode::OK);
    for mut connection in crowd {
        connection.until_closed().await;
    }
    let mut slow = RawConnection::connect(mcpd.url()).await;
    slow.send(BEGUN_HELLO).await;
    slow.trickle(b"\0", Duration::from_millis(50)).await;
    is_healthy(&tls, &mcpd).await.unwrap();
}

#[tokio::test]
async fn handshakes_in_progress_do_not_hold_up_the_end() {
    let tls = McpdTls::of(&Authority::new());
    let mut mcpd = start(&tls, "").await;
    let mut silent = RawConnection::connect(mcpd.url()).await;
    let mut begun = RawConnection::connect(mcpd.url()).await;
    begun.send(BEGUN_HELLO).await;
    let request = mcpd.request(Method::GET, "/healthz", "").send().await.unwrap();
    assert_eq!(request.status(), StatusCode::OK);
    mcpd.terminate();
    // Aside, so that the client can end its own connection.
    let ended = tokio::task::spawn_blocking(move || mcpd.wait()).await.unwrap();
    assert!(ended.success());
    silent.until_closed().await;
    begun.until_closed().await;
}
