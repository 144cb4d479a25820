//! What a web page may do: foreign hosts and origins, forms, scripts.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, program},
    raw::RawConnection,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn status_of(mcpd: &Mcpd, path: &str, host: &str) -> Option<u16> {
    let mut client = RawConnection::connect(mcpd.url()).await;
    let bearer = mcpd.admin();
    client
        .send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {bearer}\r\n\r\n"))
        .await;
    client.status().await
}

#[tokio::test]
async fn a_loopback_listener_refuses_foreign_hosts() {
    let mcpd = Mcpd::start().await;
    for path in ["/healthz", "/openapi.json", "/api/v1/users", "/v1/models", "/nothing"] {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "localhost\r\nhost: evil.example",
        ] {
            assert_eq!(status_of(&mcpd, path, host).await, Some(403), "{path} of {host}");
        }
    }
    for host in ["localhost", "127.0.0.1:3100", "[::1]:3100"] {
        assert_eq!(status_of(&mcpd, "/v1/models", host).await, Some(200), "{host}");
    }
    let mut client = RawConnection::connect(mcpd.url()).await;
    client
        .send("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await;
    let refusal = client.until_closed().await;
    assert!(refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("`publicHost`"), "{refusal}");
}

#[tokio::test]
async fn only_public_hosts_are_accepted() {
    let config = |text: &str| McpdOptions { config: Some(text.to_owned()), ..McpdOptions::default() };
    let behind_proxy = Mcpd::start_with(config("publicHost: mcpd.example.com\n")).await;
    assert_eq!(status_of(&behind_proxy, "/v1/models", "mcpd.example.com").await, Some(200));
    assert_eq!(status_of(&behind_proxy, "/v1/models", "localhost").await, Some(200));
    assert_eq!(status_of(&behind_proxy, "/v1/models", "evil.example").await, Some(403));

    let allowed = ("MCPD_ALLOW_PLAIN_HTTP", "true".to_owned());
    let everywhere =
        McpdOptions { listen: Some("0.0.0.0:0"), env: vec![allowed.clone()], ..McpdOptions::default() };
    let unnamed = Mcpd::start_with(everywhere.clone()).await;
    assert_eq!(status_of(&unnamed, "/v1/models", "any.example").await, Some(200));
    let env = vec![("MCPD_PUBLIC_HOST", "mcpd.example.com".to_owned()), allowed];
    let named = Mcpd::start_with(McpdOptions { env, ..everywhere }).await;
    assert_eq!(status_of(&named, "/v1/models", "mcpd.example.com:443").await, Some(200));
    assert_eq!(status_of(&named, "/v1/models", "evil.example").await, Some(403));
    assert_eq!(
        status_of(&named, "/readyz", "10.0.0.7:3100").await,
        Some(200),
        "health checks come by address"
    );
}

#[tokio::test]
async fn foreign_origins_are_refused_unless_listed() {
    let config = Some("allowedOrigins: [https://console.example.com]\n".to_owned());
    let mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    let status = async |origins: &[&str]| {
        let mut request = mcpd.request(Method::GET, "/v1/models", &mcpd.admin());
        for origin in origins {
            request = request.header("origin", *origin);
        }
        request.send().await.unwrap().status()
    };
    assert_eq!(status(&["https://console.example.com"]).await, StatusCode::OK);
    for origin in
        ["null", "https://evil.example", "http://console.example.com", "https://console.example.com:444"]
    {
        assert_eq!(status(&[origin]).await, StatusCode::FORBIDDEN, "{origin}");
    }
    let both = ["https://console.example.com", "https://evil.example"];
    assert_eq!(status(&both).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_login_is_json_alone() {
    let mcpd = Mcpd::start().await;
    let body = json!({"user": "admin", "password": "wrong"}).to_string();
    let login = async |kind: Option<&str>| {
        let mut request = mcpd.request(Method::POST, "/api/v1/auth/login", "").body(body.clone());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        request.send().await.unwrap().status()
    };
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
    {
        assert_eq!(login(kind).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
    }
    assert_eq!(login(Some("application/json; charset=utf-8")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn listening_for_other_machines_without_tls_has_to_be_allowed() {
    let env = vec![("MCPD_ALLOW_PLAIN_HTTP", "true".to_owned())];
    let everywhere = McpdOptions { listen: Some("0.0.0.0:0"), env, ..McpdOptions::default() };
    let log = Mcpd::start_with(everywhere).await.log();
    assert!(log.contains("WARN") && log.contains("plain http") && log.contains("0.0.0.0:0"), "{log}");
    let dir = tempfile::tempdir().unwrap();
    let refused = std::process::Command::new(program("mcpd"))
        .args(["serve", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("other machines reach `0.0.0.0:0`"), "{error}");
    assert!(error.contains("--allow-plain-http"), "{error}");
    let log = Mcpd::start().await.log();
    assert!(!log.contains("TLS"), "{log}");
}
