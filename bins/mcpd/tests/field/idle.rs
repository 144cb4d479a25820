//! How long a connection without a request is kept: longer than people think, for those who have a credential.

use std::time::Duration;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    raw::RawConnection,
};

/// Asks, and returns the head of the answer.
async fn ask(client: &mut RawConnection, path: &str, token: &str, more: &str) -> Option<String> {
    let bearer = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    client.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{bearer}{more}\r\n")).await;
    client.until("\r\n\r\n").await.map(|head| head.to_lowercase())
}

/// The one test here that waits for real: the pause is what it is about.
#[tokio::test]
async fn answer_fifteen_seconds_and_another_answer() {
    let mcpd = Mcpd::start().await;
    let mut client = RawConnection::connect(mcpd.url()).await;
    for turn in 0..2 {
        let head = ask(&mut client, "/api/v1/auth/whoami", &mcpd.admin(), "").await;
        let head = head.unwrap_or_else(|| panic!("turn {turn}: the connection is closed"));
        assert!(
            head.starts_with("http/1.1 200") && head.contains("\r\nkeep-alive: timeout=75\r\n"),
            "{head}"
        );
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        client.skip(length.expect("a length").parse().unwrap()).await;
        if turn == 0 {
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    }
}

#[tokio::test]
async fn what_is_announced_is_what_holds() {
    let mcpd = Mcpd::start().await;
    // Less without a credential, and nothing where the client ends the connection.
    for (token, more, announced) in [
        ("", "", Some("timeout=30\r")),
        ("", "connection: close\r\n", None),
        ("mcpd_none", "connection: Close, x\r\n", None),
    ] {
        let mut client = RawConnection::connect(mcpd.url()).await;
        let head = ask(&mut client, "/healthz", token, more).await.unwrap();
        let line = head.lines().find_map(|line| line.strip_prefix("keep-alive: "));
        assert_eq!(line, announced.map(|text| text.trim_end()), "{head}");
    }
    let mut old = RawConnection::connect(mcpd.url()).await;
    old.send("GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    assert!(!old.until_closed().await.to_lowercase().contains("keep-alive:"));

    let config = Some("limits: {http: {idle: 1s}}\n".to_owned());
    let mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    let mut client = RawConnection::connect(mcpd.url()).await;
    let head = ask(&mut client, "/api/v1/auth/whoami", &mcpd.admin(), "").await.unwrap();
    assert!(head.contains("\r\nkeep-alive: timeout=1\r\n"), "{head}");
    client.until_closed().await;
}
