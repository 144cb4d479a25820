//! Responses to the probe that are not mcpd's, and addresses to which no probe may go.

use mcpctl_testkit::{
    daemons::{eventually, program},
    deployment::Deployment,
    model_server::{ModelServer, Reply},
    response::{content, header},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::fake_mcpd::{ALLOWED, FakeMcpd, OVERLOADED, agent_of, unknown_bearer};

#[tokio::test]
async fn malformed_responses_do_not_allow() {
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    let mcpd = FakeMcpd::responding(ALLOWED, OVERLOADED).await;
    let agent = agent_of(&mcpd, &desk).await;
    let bearer = unknown_bearer();
    let answer = agent.chat("claude", &bearer, false).await;
    assert_eq!(content(answer).await, "from the desk", "the control");
    let before = desk.inferences().len();

    let with = |more: &str| ALLOWED.replace("content-length: 300\r\n", more);
    for (what, probe) in [
        ("two lengths", with("content-length: 300\r\ncontent-length: 0\r\n")),
        ("length and coding", with("content-length: 300\r\ntransfer-encoding: chunked\r\n")),
        ("HTTP/1.0", ALLOWED.replace("HTTP/1.1", "HTTP/1.0")),
        ("an interim response", format!("HTTP/1.1 103 Early Hints\r\n\r\n{ALLOWED}")),
        ("a body", format!("{ALLOWED}<html>")),
        ("an absurd length", with("content-length: 99999999999999999999999\r\n")),
        ("HTTP/0.9", "<html>".to_owned()),
        ("a head without end", ALLOWED.trim_end().to_owned()),
        ("a long head", with(&format!("x-long: {}\r\n", "a".repeat(20_000)))),
        (
            "a redirect",
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned(),
        ),
        ("nothing", String::new()),
    ] {
        mcpd.set(&probe, OVERLOADED);
        let answer = agent.chat("claude", &bearer, false).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}");
        assert_eq!(header(&answer, "mcpctl-failover"), None, "{what}");
        let last = agent.journal().pop().unwrap();
        assert_eq!(
            (&last["outcome"], &last["access"]),
            (&json!("refused"), &json!(["unreachable"])),
            "{what}"
        );
    }
    assert_eq!(desk.inferences().len(), before, "the local model was called");
}

#[tokio::test]
async fn portal_that_answers_200_does_not_allow() {
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    let page = "<html><body>Please log in to the WiFi</body></html>";
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", page.len());
    let json = head.replace("text/html", "application/json");
    for portal in [&head, &json] {
        let mcpd = FakeMcpd::responding(portal, &format!("{portal}{page}")).await;
        let agent = agent_of(&mcpd, &desk).await;
        for stream in [false, true] {
            let answer = agent.chat("claude", &unknown_bearer(), stream).await;
            assert_eq!(header(&answer, "mcpctl-failover"), None, "{portal} {stream}");
        }
    }
    assert!(desk.inferences().is_empty(), "the local model was called");
}

#[tokio::test]
async fn unknown_bearers_do_not_open_a_breaker() {
    let breaker = "primary: {breaker: {failures: 2, open: 1h}}";
    let deployment = Deployment::builder().unreachable_inference().config(breaker).start().await;
    for _ in 0..10 {
        assert_eq!(
            deployment.agent.chat("claude", &unknown_bearer(), false).await.status(),
            StatusCode::BAD_GATEWAY
        );
    }
    assert_eq!(deployment.agent.status().await["breakers"], json!([]));
    // Callers whom mcpd knows do.
    for _ in 0..2 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
    assert_eq!(deployment.agent.status().await["breakers"][0]["llm"], "claude");
}

#[tokio::test]
async fn unencrypted_mcpd_off_loopback_is_rejected() {
    let rejected = |address: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mcplocal.yaml");
        std::fs::write(&file, format!("server: {address}\n")).unwrap();
        let server = !check(&file);
        std::fs::write(&file, format!("server: https://mcpd.example.com\ninference: {address}\n")).unwrap();
        let inference = !check(&file);
        assert_eq!(server, inference, "{address}");
        server
    };
    for address in [
        "http://mcpd.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0:3100",
        "http://[::]:3100",
        "http://[::ffff:127.0.0.1]:3100",
        "http://[::ffff:10.0.0.1]:3100",
        "http://mcpd.localhost:3100",
        "http://localhost.:3100",
        "http://localhost.example.com",
        "http://127.0.0.1.nip.io",
        "http://localhost@evil.example",
        "http://169.254.169.254",
        "http://128.0.0.1",
        "ftp://127.0.0.1",
        "https://a:b@mcpd.example.com",
    ] {
        assert!(rejected(address), "{address}");
    }
    // Other spellings that the parser reads as loopback addresses.
    for address in [
        "http://127.0.0.1:3100",
        "http://127.1:3100",
        "http://2130706433:3100",
        "http://0x7f.1:3100",
        "http://LOCALHOST:3100",
        "http://[::1]:3100",
        "https://mcpd.example.com",
    ] {
        assert!(!rejected(address), "{address}");
    }
}

/// Whether the agent accepts a configuration.
fn check(file: &std::path::Path) -> bool {
    let output = std::process::Command::new(program("mcplocal"))
        .arg("--check")
        .arg("--config")
        .arg(file)
        .output()
        .unwrap();
    output.status.success()
}

#[tokio::test]
async fn reload_does_not_accept_an_unencrypted_mcpd() {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    let file = deployment.agent.config_file();
    let good = std::fs::read_to_string(&file).unwrap();
    for line in ["server", "inference"] {
        let value = good.lines().find_map(|text| text.strip_prefix(&format!("{line}: "))).unwrap();
        let bad = good.replace(&format!("{line}: {value}"), &format!("{line}: http://10.255.255.1"));
        std::fs::write(&file, bad).unwrap();
        let error = "`http://10.255.255.1/` is not encrypted";
        let errors = deployment.agent.log().matches(error).count();
        eventually("the error is logged", async || {
            (deployment.agent.log().matches(error).count() > errors).then_some(())
        })
        .await;
        assert_eq!(content(deployment.chat().await).await, "from the desk", "the old address is kept");
        std::fs::write(&file, &good).unwrap();
    }
}
