//! Web pages: requests with a foreign host or origin.

use mcpctl_testkit::{daemons::Mcplocal, raw::RawConnection};

#[tokio::test]
async fn foreign_hosts_and_origins_need_to_be_listed() {
    let config = "server: http://127.0.0.1:9\nallowedOrigins: [http://localhost:5173]\n";
    let agent = Mcplocal::start(config).await;
    let status = async |path: &str, fields: &str| {
        let mut client = RawConnection::connect(agent.url()).await;
        let bearer = agent.local_key();
        client
            .send(format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {bearer}\r\n{fields}\r\n\r\n"))
            .await;
        client.status().await
    };
    for path in ["/status", "/healthz", "/v1/models", "/nothing"] {
        for fields in [
            "host: evil.example",
            "host: 127.0.0.1.evil.example",
            "host: localhost\r\nhost: evil.example",
            "x: no host",
            "host: localhost\r\norigin: null",
            "host: localhost\r\norigin: https://evil.example",
            "host: localhost\r\norigin: http://localhost:5174",
            "host: localhost\r\norigin: http://localhost:5173\r\norigin: https://evil.example",
        ] {
            assert_eq!(status(path, fields).await, Some(403), "{path}: {fields}");
        }
    }
    assert_eq!(status("/status", "host: localhost\r\norigin: http://localhost:5173").await, Some(200));
}
