//! Requests that are malformed, ambiguous or oversized on the wire.

use mcpctl_testkit::{
    deployment::Deployment,
    exchange::{self, ConnectionEnd},
};

use super::support::{CHAT, bearer, chat_headers, for_each};

#[tokio::test]
async fn credentials_are_accepted_in_one_header_only() {
    let deployment = Deployment::builder().signed_in().start().await;
    let (key, alice) = (&deployment.agent.local_key(), &deployment.alice);
    let other_shapes = [
        key.replace("mcpl_", "mcpd_"),
        alice.replace("mcpd_", "mcpl_"),
        key[..key.len() - 1].to_owned(),
        format!("{key}x"),
    ];
    let mut headers = vec![
        format!("X-Api-Key: {key}"),
        format!("Cookie: key={key}"),
        format!("Proxy-Authorization: Bearer {key}"),
        format!("X-Forwarded-Authorization: Bearer {key}"),
        format!("Authorization: {key}"),
        format!("Authorization: Basic {key}"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}"),
        format!("Authorization: Bearer {alice}\r\nAuthorization: Bearer {key}"),
        format!("Authorization: Bearer {key}, Bearer {alice}"),
        format!("Authorization: Bearer {key} {alice}"),
        format!("Authorization : Bearer {key}"),
        format!("Authorization: Bearer\r\n {key}"),
        format!("X: a\r\n Authorization: Bearer {key}"),
        "X-Forwarded-For: 127.0.0.1".to_owned(),
        "X-Real-IP: 127.0.0.1".to_owned(),
    ];
    headers.extend(other_shapes.iter().map(|token| format!("Authorization: Bearer {token}")));
    let lines = [
        "GET /status HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "GET /api/v1/engines HTTP/1.1",
        "POST /api/v1/engines/desk/stop HTTP/1.1",
        "GET /api/v1/engines/desk/logs HTTP/1.1",
        "GET /v1/models HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
    ];
    let rows = headers.iter().flat_map(|header| lines.map(|line| (line, header)));
    for_each(rows, async |(line, header)| {
        let answer = deployment
            .send_raw(deployment.raw_request(line, &chat_headers(&format!("{header}\r\n")), CHAT))
            .await;
        assert!(!answer.succeeded(), "{line} {header:?}: {}", answer.text());
    })
    .await;
    // A bearer of mcpd is valid for inference only.
    for line in &lines[..5] {
        let answer =
            deployment.send_raw(deployment.raw_request(line, &chat_headers(&bearer(alice)), CHAT)).await;
        assert!(!answer.succeeded(), "{line} with a bearer of mcpd: {}", answer.text());
    }
    assert_eq!(deployment.inferences(), 0);
    for line in ["GET /status HTTP/1.1", "GET /v1/models HTTP/1.1"] {
        assert!(
            deployment.send_raw_and_wait(deployment.raw_request(line, &bearer(key), "")).await.succeeded(),
            "{line}"
        );
    }
    assert!(
        !deployment.agent.log().contains(key.as_str()) && !deployment.agent.log().contains(alice.as_str())
    );
}

/// A header of Anthropic's, and what it comes with.
const VERSION: &str = "anthropic-version: 2023-06-01\r\n";

#[tokio::test]
async fn inv_10_api_key_counts_on_anthropics_routes_alone() {
    let deployment = Deployment::builder().signed_in().start().await;
    let (key, alice) = (&deployment.agent.local_key(), &deployment.alice);
    let send = async |line: &str, headers: &str| {
        deployment.send_raw_and_wait(deployment.raw_request(line, headers, "")).await
    };
    let models = "GET /v1/models HTTP/1.1";
    for accepted in [
        format!("X-Api-Key: {key}\r\n"),
        format!("X-Api-Key: {alice}\r\n"),
        format!("X-Api-Key: {key}\r\n{}", bearer(key)),
        format!("X-Api-Key: \r\n{}", bearer(key)),
        format!("X-Api-Key: {key}\r\nAuthorization: Bearer \r\n"),
    ] {
        let answer = send(models, &format!("{VERSION}{accepted}")).await;
        assert!(answer.succeeded(), "{accepted:?}: {}", answer.text());
        assert!(answer.text().contains(r#""type":"model""#), "{}", answer.text());
    }
    for (line, headers, reason) in [
        (models, format!("{VERSION}X-Api-Key: {key}\r\n{}", bearer(alice)), "hold different credentials"),
        (models, format!("{VERSION}X-Api-Key: {key}\r\nX-Api-Key: {key}\r\n"), "is not valid"),
        (models, format!("{VERSION}X-Api-Key: {key}\r\nAuthorization: Basic {key}\r\n"), "is not valid"),
        (models, format!("{VERSION}X-Api-Key: {key}x\r\n"), "is not valid"),
        (models, format!("{VERSION}X-Api-Key: \r\n"), "no credential"),
        (models, format!("X-Api-Key: {key}\r\n"), "no credential"),
        ("GET /status HTTP/1.1", format!("{VERSION}X-Api-Key: {key}\r\n"), "no credential"),
        ("GET /api/v1/engines HTTP/1.1", format!("{VERSION}X-Api-Key: {key}\r\n"), "no credential"),
    ] {
        let answer = send(line, &headers).await;
        assert_eq!(answer.statuses(), [401], "{line} {headers:?}: {}", answer.text());
        assert!(answer.text().contains(reason), "{headers:?}: {}", answer.text());
        let is_anthropic =
            answer.text().contains(r#"{"type":"error","error":{"type":"authentication_error""#);
        assert_eq!(is_anthropic, line == models && headers.contains(VERSION), "{}", answer.text());
    }
    let log = deployment.agent.log() + &deployment.mcpd.log();
    assert!(!log.contains(key.as_str()) && !log.contains(alice.as_str()));
}

#[tokio::test]
async fn unusual_paths_reach_no_route() {
    let deployment = Deployment::builder().signed_in().start().await;
    let paths = [
        "//status",
        "/status/",
        "/./status",
        "/v1/../status",
        "/v1/%2e%2e/status",
        "/v1%2f..%2fstatus",
        "/STATUS",
        "/%73tatus",
        "/status%00",
        "/status;x",
        "/status%20",
        "/healthz/../status",
        "/healthz%2f..%2fstatus",
        "/healthz/..;/metrics",
        "/api/v1//engines",
        "/api/v1/engines/",
        "/api/v1/engines/desk/../desk/stop",
        "/api/v1/engines/%64esk/stop",
        "/api/v1/engines/desk%2fstop",
        "/api/v1/engines/desk/stop/",
        "/api/v1/engines/../engines",
        "/metrics/",
        "\\status",
    ];
    let rows = paths
        .iter()
        .flat_map(|path| ["GET", "POST", "HEAD", "PUT"].map(|method| format!("{method} {path} HTTP/1.1")));
    for_each(rows, async |line| {
        for credential in ["", &bearer(&deployment.alice)] {
            let answer = deployment
                .send_raw(deployment.raw_request(&line, &format!("{credential}Content-Length: 0\r\n"), ""))
                .await;
            assert!(!answer.succeeded(), "{line}: {}", answer.text());
        }
    })
    .await;
}

#[tokio::test]
async fn ambiguous_framing_hides_no_second_request() {
    let deployment = Deployment::builder().signed_in().start().await;
    let address = deployment.address();
    let inner = r#"{"model":"claude","messages":[{"role":"user","content":"hidden"}]}"#;
    let hidden = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\n{}Content-Length: {}\r\n\r\n{inner}",
        bearer(&deployment.agent.local_key()),
        inner.len()
    );
    let outer = |headers: &str, body: &str| {
        format!(
            "POST /api/v1/engines/none/stop HTTP/1.1\r\nHost: {address}\r\n{}{headers}\r\n{body}",
            bearer(&deployment.agent.local_key())
        )
    };
    let last_chunk = format!("0\r\n\r\n{hidden}");
    let (all, chunked) = (hidden.len(), last_chunk.len());
    let mut rows = Vec::new();
    for coding in [
        "chunked",
        "CHUNKED",
        "\x0bchunked",
        "xchunked",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "",
    ] {
        let (length, coding) =
            (format!("Content-Length: {chunked}\r\n"), format!("Transfer-Encoding: {coding}\r\n"));
        rows.push(outer(&format!("{length}{coding}"), &last_chunk));
        rows.push(outer(&format!("{coding}{length}"), &last_chunk));
        rows.push(
            outer(&format!("{length}{coding}"), &last_chunk).replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
        );
    }
    for length in [
        format!("0\r\nContent-Length: {all}"),
        format!("{all}\r\nContent-Length: 0"),
        format!("0, {all}"),
        "+0".into(),
        "-0".into(),
        "0x0".into(),
        "0 0".into(),
        String::new(),
        "18446744073709551616".into(),
    ] {
        rows.push(outer(&format!("Content-Length: {length}\r\n"), &hidden));
    }
    for header in [
        format!("Content-Length : {all}"),
        format!("X: a\r\n Content-Length: {all}"),
        format!("X: a\rContent-Length: {all}"),
    ] {
        rows.push(outer(&format!("{header}\r\n"), &hidden));
    }
    for size in ["10000000000000000", "FFFFFFFFFFFFFFFFF", "-0", "+0", "0x0", "", "g"] {
        rows.push(outer("Transfer-Encoding: chunked\r\n", &format!("{size}\r\n\r\n{hidden}")));
    }
    rows.push(outer(&format!("Content-Length: {all}\r\n"), &hidden));
    rows.push(outer("Transfer-Encoding: chunked\r\n", &format!("{all:x}\r\n{hidden}\r\n0\r\n\r\n")));
    for_each(&rows, async |row| {
        let answer = deployment.send_raw(row).await;
        assert!(answer.statuses().len() <= 1, "a hidden request was answered: {row:?}: {}", answer.text());
    })
    .await;
    assert!(deployment.provider.inferences().is_empty(), "a hidden request was executed");
    let honest = format!("{}{hidden}", outer("Content-Length: 0\r\n", ""));
    let answer = exchange::send_and_wait(deployment.agent.url(), honest, 2).await;
    assert_eq!(answer.statuses(), [404, 200], "an honest second request is executed");
}

#[tokio::test]
async fn forwarded_requests_keep_their_path() {
    let deployment = Deployment::builder().signed_in().start().await;
    let before = deployment.mcpd.log();
    let names = [
        "..%2f..%2fusers",
        "%2e%2e",
        "..",
        "a%2f..%2f..%2fapply",
        "claude%00",
        "claude%0d%0aX:%20y",
        "claude%3fx",
        "claude%23x",
        "claude%2finfer",
        "%2f%2fevil.example",
        "http:%2f%2fevil.example",
        "%ff",
        "claude%252f",
    ];
    for_each(names, async |name| {
        let line = format!("POST /api/v1/llms/{name}/infer HTTP/1.1");
        let answer = deployment
            .send_raw(deployment.raw_request(
                &line,
                &chat_headers(&bearer(&deployment.agent.local_key())),
                CHAT,
            ))
            .await;
        assert!(!answer.succeeded(), "{name}: {}", answer.text());
    })
    .await;
    assert_eq!(deployment.inferences(), 0);
    let log = deployment.mcpd.log();
    let mut lists = 0;
    for line in log[before.len()..].lines().filter(|line| line.contains("answered")) {
        let inference = line.contains("route=\"/v1/chat/completions\"");
        let probe = line.contains("method=HEAD") && line.contains("route=\"/api/v1/{kind}/{idOrName}\"");
        // At its start, the agent compares the names in `failoverFor` with mcpd's Llms.
        let list = line.contains("method=GET") && line.contains("route=\"/api/v1/{kind}\"");
        lists += usize::from(list);
        assert!(inference || probe || list, "the agent sent another request: {line}");
    }
    assert!(lists <= 1, "the agent listed Llms more than once: {log}");
}

#[tokio::test]
async fn oversized_heads_are_rejected() {
    let deployment = Deployment::builder().signed_in().start().await;
    let long = "a".repeat(1 << 20);
    let rows = [
        ("1,000 headers", deployment.raw_request("GET /healthz HTTP/1.1", &"X: a\r\n".repeat(1000), "")),
        ("a header of 1 MiB", deployment.raw_request("GET /healthz HTTP/1.1", &format!("X: {long}\r\n"), "")),
        ("an address of 1 MiB", deployment.raw_request(&format!("GET /healthz?{long} HTTP/1.1"), "", "")),
        ("a method of 1 MiB", deployment.raw_request(&format!("{long} /healthz HTTP/1.1"), "", "")),
        ("no version", "GET /healthz\r\n\r\n".to_owned()),
        (
            "HTTP/2 in a request line",
            deployment.raw_request("GET /status HTTP/2.0", &bearer(&deployment.agent.local_key()), ""),
        ),
    ];
    for_each(&rows, async |(what, row)| {
        let answer = exchange::send_and_wait(deployment.agent.url(), row, usize::MAX).await;
        assert!(!answer.succeeded(), "{what}: {:.200}", answer.text());
        assert_ne!(answer.end, ConnectionEnd::Silent, "{what}: the connection stays open");
    })
    .await;
    let healthy = deployment.send_raw_and_wait(deployment.raw_request("GET /healthz HTTP/1.1", "", "")).await;
    assert!(healthy.succeeded(), "{}", healthy.text());
}
