//! The idle timeout of client connections.

use std::time::Duration;

use mcpctl_testkit::{daemons::Mcplocal, raw::RawConnection};

/// Sleeps, because clients pause that long between two requests on a connection.
#[tokio::test]
async fn connection_survives_fifteen_idle_seconds() {
    let agent = Mcplocal::start("server: http://127.0.0.1:9\n").await;
    let key = agent.local_key();
    let mut client = RawConnection::connect(agent.url()).await;
    for turn in 0..2 {
        client
            .send(format!("GET /status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"))
            .await;
        let head = client.until("\r\n\r\n").await.map(|head| head.to_lowercase());
        let head = head.unwrap_or_else(|| panic!("turn {turn}: the connection is closed"));
        assert!(
            head.starts_with("http/1.1 200") && head.contains("\r\nkeep-alive: timeout=75\r\n"),
            "{head}"
        );
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().unwrap();
        client.skip(length).await;
        if turn == 0 {
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    }
}
