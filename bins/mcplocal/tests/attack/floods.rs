//! 10,000 idle connections, and bodies of a gigabyte.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    process::resident_bytes,
    raw::RawConnection,
};

/// What the daemon may hold more than before.
const MAX_GROWTH: u64 = 256 << 20;
const IDLE: usize = 10_000;
const GIGABYTE: usize = 1 << 30;

async fn both() -> (Mcpd, Mcplocal) {
    let mcpd = Mcpd::start().await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    (mcpd, agent)
}

async fn is_healthy(url: &str) -> bool {
    let Some(mut client) = RawConnection::try_connect(url).await else { return false };
    client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    client.status().await == Some(200)
}

#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    mcpctl_server::raise_descriptor_limit().unwrap();
    let (mcpd, agent) = both().await;
    for (url, pid) in [(mcpd.url(), mcpd.pid()), (agent.url(), agent.pid())] {
        let before = resident_bytes(pid);
        let mut idle = Vec::new();
        for at in 0..IDLE {
            idle.push(RawConnection::try_connect(url).await.expect("a connection"));
            if at % 2000 == 1999 {
                assert!(is_healthy(url).await, "after {} connections", at + 1);
            }
        }
        let grown = resident_bytes(pid).saturating_sub(before);
        assert!(grown < MAX_GROWTH, "{} MiB for idle connections", grown >> 20);
    }
}

#[tokio::test]
async fn bodies_of_a_gigabyte_are_refused_early() {
    let (mcpd, agent) = both().await;
    let piece = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    for (url, pid, bearer) in
        [(mcpd.url(), mcpd.pid(), mcpd.admin()), (agent.url(), agent.pid(), mcpd.admin())]
    {
        let before = resident_bytes(pid);
        let head = |framing: &str| {
            format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n\
                 content-type: application/json\r\n{framing}\r\n\r\n"
            )
        };
        // Declared: refused without a byte of it.
        let mut client = RawConnection::connect(url).await;
        client.send(head(&format!("content-length: {GIGABYTE}"))).await;
        assert_eq!(client.status().await, Some(413), "{url}");
        // Not declared: refused where the limit is passed. What follows is read and dropped for a second at most, so that the
        // answer is not overtaken by a reset.
        let mut client = RawConnection::connect(url).await;
        client.send(head("transfer-encoding: chunked")).await;
        for _ in 0..40 {
            client.send(&piece).await;
        }
        assert_eq!(client.status().await, Some(413), "{url}");
        let mut sent = 40 << 20;
        while sent < GIGABYTE && client.send(&piece).await {
            sent += 1 << 20;
        }
        let grown = resident_bytes(pid).saturating_sub(before);
        assert!(grown < MAX_GROWTH, "{url} grew by {} MiB", grown >> 20);
        assert!(is_healthy(url).await);
    }
}
