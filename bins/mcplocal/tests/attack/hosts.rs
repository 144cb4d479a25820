//! Requests from web pages and from other machines: `Host`, `Origin`, preflights, forms, upgrades.

use mcpctl_testkit::deployment::Deployment;

use super::support::{CHAT, bearer, chat_headers, for_each};

/// A request with a valid credential and other `Host` lines.
fn with_host(deployment: &Deployment, line: &str, host_lines: &str) -> String {
    let body = if line.starts_with("POST") { CHAT } else { "" };
    let headers = if body.is_empty() {
        bearer(&deployment.agent.local_key())
    } else {
        chat_headers(&bearer(&deployment.agent.local_key()))
    };
    format!("{line}\r\n{host_lines}Connection: close\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn foreign_hosts_reach_no_route() {
    let deployment = Deployment::builder().signed_in().start().await;
    let port = deployment.address().rsplit(':').next().unwrap().to_owned();
    let hosts = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("127.0.0.1.nip.io:{port}"),
        format!("evil-localhost:{port}"),
        format!("localhost-evil:{port}"),
        format!("localhost@evil.example:{port}"),
        format!("evil.example@localhost:{port}"),
        format!("evil.example#localhost:{port}"),
        format!("evil.example?localhost:{port}"),
        format!("evil.example/localhost:{port}"),
        format!("localhost,evil.example:{port}"),
        format!("localhost evil.example:{port}"),
        format!("localhost\tevil.example:{port}"),
        format!("localhost%2eevil.example:{port}"),
        format!("localhost\0.evil.example:{port}"),
        format!("l\u{f6}calhost:{port}"),
        format!("192.168.1.5:{port}"),
        format!("10.0.0.1:{port}"),
        format!("169.254.169.254:{port}"),
        format!("8.8.8.8:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::]:{port}"),
        format!("[fe80::1]:{port}"),
        format!("[::1:{port}"),
        format!("::1:{port}:x"),
        format!("2130706433.example:{port}"),
        String::new(),
        format!(":{port}"),
    ];
    let lines = [
        "GET /healthz HTTP/1.1",
        "GET /status HTTP/1.1",
        "GET /v1/models HTTP/1.1",
        "GET /api/v1/engines HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
    ];
    let mut rows: Vec<_> = hosts
        .iter()
        .flat_map(|host| lines.map(|line| with_host(&deployment, line, &format!("Host: {host}\r\n"))))
        .collect();
    for line in lines {
        let good = format!("Host: {}\r\n", deployment.address());
        let evil = format!("Host: evil.example:{port}\r\n");
        rows.push(with_host(&deployment, line, ""));
        rows.push(with_host(&deployment, line, &format!("{good}{evil}")));
        rows.push(with_host(&deployment, line, &format!("{evil}{good}")));
        rows.push(with_host(
            &deployment,
            line,
            &format!("{evil}X-Forwarded-Host: {}\r\n", deployment.address()),
        ));
        rows.push(with_host(&deployment, line, &format!("Host : {}\r\n", deployment.address())));
        rows.push(with_host(
            &deployment,
            &line.replace(" /", &format!(" http://evil.example:{port}/")),
            &good,
        ));
        rows.push(with_host(
            &deployment,
            &line.replace(" /", &format!(" http://x@{}/", deployment.address())),
            &good,
        ));
    }
    for_each(&rows, async |row| {
        let answer = deployment.send_raw(row).await;
        assert!(!answer.succeeded(), "{row:?}: {}", answer.text());
    })
    .await;
    assert_eq!(deployment.inferences(), 0);
    for host in [
        deployment.address().to_owned(),
        format!("localhost:{port}"),
        format!("LocalHost:{port}"),
        format!("[::1]:{port}"),
    ] {
        for line in lines {
            let answer = deployment
                .send_raw_and_wait(with_host(&deployment, line, &format!("Host: {host}\r\n")))
                .await;
            assert!(answer.succeeded(), "{host}: {line}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn web_pages_reach_no_route() {
    let origins = "allowedOrigins: ['http://localhost:5173']";
    let deployment = Deployment::builder().config(origins).signed_in().start().await;
    let port = deployment.address().rsplit(':').next().unwrap().to_owned();
    let origins = [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        "NULL".to_owned(),
        "file://".to_owned(),
        "chrome-extension://abcdefghijklmnop".to_owned(),
        "http://localhost".to_owned(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}"),
        "http://localhost:51730".to_owned(),
        "http://localhost:5173.evil.example".to_owned(),
        "http://localhost:5173/".to_owned(),
        "https://localhost:5173".to_owned(),
        "http://LOCALHOST:5173".to_owned(),
        "http://evil.example/http://localhost:5173".to_owned(),
        "http://localhost:5173 https://evil.example".to_owned(),
        "http://localhost:5173, https://evil.example".to_owned(),
        "http://localhost:5173\r\nOrigin: https://evil.example".to_owned(),
        "https://evil.example\r\nOrigin: http://localhost:5173".to_owned(),
        String::new(),
    ];
    // Headers that a browser adds give no access.
    let fetch = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n";
    let rows = origins.iter().flat_map(|origin| {
        [
            "GET /healthz",
            "GET /status",
            "GET /v1/models",
            "POST /v1/chat/completions",
            "POST /api/v1/engines/desk/stop",
        ]
        .map(|line| (format!("{line} HTTP/1.1"), format!("Origin: {origin}\r\n{fetch}")))
    });
    for_each(rows, async |(line, headers)| {
        let headers = format!("{}{headers}", chat_headers(&bearer(&deployment.agent.local_key())));
        let answer = deployment.send_raw(deployment.raw_request(&line, &headers, CHAT)).await;
        assert!(!answer.succeeded(), "{line} {headers:?}: {}", answer.text());
        assert!(
            !answer.text().to_lowercase().contains("access-control-"),
            "{line} {headers:?}: {}",
            answer.text()
        );
    })
    .await;
    assert_eq!(deployment.inferences(), 0);
    let headers =
        format!("{}Origin: http://localhost:5173\r\n", chat_headers(&bearer(&deployment.agent.local_key())));
    let listed = deployment
        .send_raw_and_wait(deployment.raw_request("POST /v1/chat/completions HTTP/1.1", &headers, CHAT))
        .await;
    assert!(listed.succeeded(), "the listed origin may call: {}", listed.text());
}

#[tokio::test]
async fn preflights_forms_and_upgrades_have_no_effect() {
    let deployment = Deployment::builder().signed_in().start().await;
    let paths = ["/v1/chat/completions", "/v1/models", "/status", "/api/v1/engines/desk/start", "/healthz"];
    let requested = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\nAccess-Control-Request-Private-Network: true\r\n";
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let h2c = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let mut rows = Vec::new();
    for path in paths {
        for origin in ["", "Origin: https://evil.example\r\n", "Origin: null\r\n"] {
            rows.push((
                deployment.raw_request(
                    &format!("OPTIONS {path} HTTP/1.1"),
                    &format!("{origin}{requested}"),
                    "",
                ),
                "preflight",
            ));
            for upgrade in [upgrade, h2c] {
                let row = deployment.raw_request(
                    &format!("GET {path} HTTP/1.1"),
                    &format!("{origin}{upgrade}{}", bearer(&deployment.agent.local_key())),
                    "",
                );
                rows.push((
                    row.replace("Connection: close", "Connection: Upgrade, HTTP2-Settings"),
                    "upgrade",
                ));
            }
            // As a form or an image of a page sends them: without a preflight and without a credential.
            for kind in [
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "application/json",
            ] {
                let headers = format!(
                    "{origin}Content-Type: {kind}\r\nContent-Length: {}\r\nSec-Fetch-Mode: no-cors\r\nCookie: local-key={}\r\n",
                    CHAT.len(),
                    deployment.agent.local_key()
                );
                rows.push((deployment.raw_request(&format!("POST {path} HTTP/1.1"), &headers, CHAT), "form"));
            }
        }
    }
    for_each(&rows, async |(row, what)| {
        let answer = deployment.send_raw(row).await;
        let statuses = answer.statuses();
        assert!(!statuses.contains(&101), "{what}: {row:?}: {}", answer.text());
        assert!(
            !answer.text().to_lowercase().contains("access-control-"),
            "{what}: {row:?}: {}",
            answer.text()
        );
        assert!(*what == "upgrade" || !answer.succeeded(), "{what}: {row:?}: {}", answer.text());
    })
    .await;
    assert_eq!(deployment.inferences(), 0);
}
