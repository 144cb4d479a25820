//! Requests that are malformed, ambiguous or oversized on the wire.

use mcpctl_testkit::exchange::ConnectionEnd;
use reqwest::StatusCode;
use serde_json::json;

use super::support::{World, bearer, for_each};

#[tokio::test]
async fn ambiguous_framing_hides_no_second_request() {
    let world = World::new().await;
    world.mcpd.apply(json!([{"kind": "User", "name": "canary"}, {"kind": "User", "name": "control"}])).await;
    let host = world.mcpd.url().trim_start_matches("http://");
    let delete = |user: &str| {
        format!("DELETE /api/v1/users/{user} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", bearer(&world.admin))
    };
    let outer = |headers: &str, body: &str| {
        let credential = bearer(&world.alice);
        format!("POST /api/v1/auth/can-i HTTP/1.1\r\nHost: {host}\r\n{credential}{headers}\r\n{body}")
    };
    let hidden = delete("canary");
    let last_chunk = format!("0\r\n\r\n{hidden}");
    let (all, chunked) = (hidden.len(), last_chunk.len());

    // Both lengths: the chunks end before the hidden request, the declared length behind it.
    let codings = [
        "chunked",
        "Chunked",
        "\tchunked",
        "chunked ",
        "\x0bchunked",
        "xchunked",
        "chunked-x",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
    ];
    let mut rows = Vec::new();
    for coding in codings {
        let (length, coding) =
            (format!("Content-Length: {chunked}\r\n"), format!("Transfer-Encoding: {coding}\r\n"));
        rows.push(outer(&format!("{length}{coding}"), &last_chunk));
        rows.push(outer(&format!("{coding}{length}"), &last_chunk));
        rows.push(outer(&format!("{coding}Transfer-Encoding: identity\r\n{length}"), &last_chunk));
        rows.push(outer(&format!("{length}X: a\n{coding}"), &last_chunk));
        rows.push(
            outer(&format!("{length}{coding}"), &last_chunk).replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"),
        );
    }
    // Two lengths, and lengths that are no number: with 0 the hidden request would be the next one.
    for length in [
        format!("0\r\nContent-Length: {all}"),
        format!("{all}\r\nContent-Length: 0"),
        format!("0, {all}"),
        format!("{all}, 0"),
        "+0".into(),
        "-0".into(),
        "0x0".into(),
        "0 0".into(),
        "".into(),
        "0_0".into(),
        "0.0".into(),
        "0e0".into(),
        "18446744073709551616".into(),
        "340282366920938463463374607431768211456".into(),
        "\x0b0".into(),
    ] {
        rows.push(outer(&format!("Content-Length: {length}\r\n"), &hidden));
    }
    // The name of the length is not quite a header name, or its line is a continuation.
    for header in [
        format!("Content-Length : {all}"),
        format!("X: a\r\n Content-Length: {all}"),
        format!("X: a\r\n\tContent-Length: {all}"),
        format!("Content-Length\0: {all}"),
        format!("Content-Length\t: {all}"),
        format!(" Content-Length: {all}"),
        format!("X: a\rContent-Length: {all}"),
        format!(": {all}"),
        format!("Content-Length: 0\r\n {all}"),
    ] {
        rows.push(outer(&format!("{header}\r\n"), &hidden));
    }
    // Chunk sizes that wrap to 0 or read as 0, and line ends that are none.
    for size in [
        "10000000000000000",
        "FFFFFFFFFFFFFFFFF",
        "100000000000000000000000000000000",
        "-0",
        "+0",
        "0x0",
        "0_0",
        "",
        " 0",
        "0\u{b}",
        "g",
        "0.0",
    ] {
        rows.push(outer("Transfer-Encoding: chunked\r\n", &format!("{size}\r\n\r\n{hidden}")));
    }
    for end in [
        "0\n\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\r",
        "1\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
    ] {
        rows.push(outer("Transfer-Encoding: chunked\r\n", &format!("{end}{hidden}")));
    }
    // Plain bodies that hold a request.
    rows.push(outer(&format!("Content-Length: {all}\r\n"), &hidden));
    rows.push(outer("Transfer-Encoding: chunked\r\n", &format!("{all:x}\r\n{hidden}\r\n0\r\n\r\n")));
    rows.push(
        outer(&format!("Content-Length: {all}\r\n"), &hidden)
            .replace("POST /api/v1/auth/can-i", "GET /healthz"),
    );
    rows.push(outer(&format!("Content-Length: {all}\r\n"), &hidden).replace("POST ", "HEAD "));

    let rows: Vec<_> = rows.into_iter().map(|row| format!("{row}\r\n")).collect();
    for_each(&rows, async |row| {
        let answer = world.send(row).await;
        assert!(
            !answer.statuses().contains(&204),
            "a hidden request was executed: {row:?}: {}",
            answer.text()
        );
    })
    .await;
    // A request that was executed without an answer is seen here.
    let canary = world.mcpd.get("/api/v1/users/canary", &world.admin).await;
    assert_eq!(canary.status(), StatusCode::OK, "a hidden request was executed");
    let pipelined = outer("Content-Length: 2\r\n", &format!("{{}}{}", delete("control")));
    assert_eq!(world.send(pipelined).await.statuses(), [400, 204], "an honest second request is executed");
}

#[tokio::test]
async fn credentials_hold_for_one_request_of_a_connection() {
    let world = World::new().await;
    let host = world.mcpd.url().trim_start_matches("http://");
    let get =
        |path: &str, credential: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n");
    let (admin, alice) = (bearer(&world.admin), bearer(&world.alice));
    let pipelined = [
        get("/api/v1/llms/closed", &admin),
        get("/api/v1/llms/closed", ""),
        get("/api/v1/llms/closed", &alice),
        get("/api/v1/llms/open", &alice),
        get("/api/v1/llms/open", ""),
    ];
    assert_eq!(world.send(pipelined.concat()).await.statuses(), [200, 401, 403, 200, 401]);
}

#[tokio::test]
async fn malformed_heads_do_not_authenticate() {
    let world = World::new().await;
    let admin = &world.admin;
    let get = "GET /api/v1/auth/whoami HTTP/1.1";
    let heads = [
        format!("Authorization : Bearer {admin}\r\n"),
        format!("Authorization\t: Bearer {admin}\r\n"),
        format!("Authorization:\r\n Bearer {admin}\r\n"),
        format!("Authorization: Bearer\r\n {admin}\r\n"),
        format!("X: a\r\n Authorization: Bearer {admin}\r\n"),
        format!("X: a\rAuthorization: Bearer {admin}\r\n"),
        format!("X: a\0\r\nAuthorization: Bearer {admin}\r\n"),
        format!("Author\0ization: Bearer {admin}\r\n"),
        format!("Authorization\u{a0}: Bearer {admin}\r\n"),
        format!("A uthorization: Bearer {admin}\r\n"),
        format!("Authorization; Bearer {admin}\r\n"),
        format!("Authorization Bearer {admin}\r\n"),
        format!(": Bearer {admin}\r\n"),
        format!("Authorization: Bearer {admin}\0\r\n"),
        format!("Authorization: Bearer {admin}\r\nAuthorization: Bearer {admin}\r\n"),
    ];
    for_each(&heads, async |head| {
        let answer = world.send(world.request(get, head, "")).await;
        assert!(!answer.succeeded(), "{head:?}: {}", answer.text());
    })
    .await;
    let chunked = "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n";
    let trailers = format!("2\r\n{{}}\r\n0\r\n{}\r\n", bearer(admin));
    for line in ["POST /api/v1/auth/can-i HTTP/1.1", "POST /v1/chat/completions HTTP/1.1", get] {
        let answer = world.send(world.request(line, chunked, &trailers)).await;
        assert!(!answer.succeeded(), "credentials in trailers, {line}: {}", answer.text());
    }
    let good = world.request(get, &bearer(admin), "");
    assert!(world.send(good).await.succeeded());
}

#[tokio::test]
async fn other_protocols_and_versions_get_nothing() {
    let world = World::new().await;
    let credential = bearer(&world.admin);
    let rows = [
        "GET /api/v1/llms\r\n\r\n".to_owned(),
        "GET /healthz\r\n\r\n".to_owned(),
        world.request("GET /api/v1/auth/whoami HTTP/0.9", &credential, ""),
        world.request("GET /api/v1/auth/whoami HTTP/2.0", &credential, ""),
        world.request("GET /api/v1/auth/whoami HTTP/3", &credential, ""),
        world.request("GET /api/v1/auth/whoami HTTP/1.10", &credential, ""),
        world.request("GET /api/v1/auth/whoami http/1.1", &credential, ""),
        world.request("GET /api/v1/auth/whoami  HTTP/1.1", &credential, ""),
        world.request("GET  /api/v1/auth/whoami HTTP/1.1", &credential, ""),
        world.request("GET /api/v1/auth /whoami HTTP/1.1", &credential, ""),
        world.request(" GET /api/v1/auth/whoami HTTP/1.1", &credential, ""),
        format!(
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{}",
            world.request("GET /api/v1/auth/whoami HTTP/1.1", &credential, "")
        ),
        "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
        "HELO localhost\r\n\r\n".to_owned(),
    ];
    for_each(&rows, async |row| {
        let answer = world.send(row).await;
        // HTTP/2 frames are no answer to a request: nothing was asked over HTTP/2.
        let frames_only = row.starts_with("PRI") && !answer.text().contains("admin");
        assert!(!answer.succeeded() || frames_only, "{row:?}: {}", answer.text());
        assert!(!answer.text().contains("\"subject\""), "{row:?}: {}", answer.text());
    })
    .await;
    let upgrades = [
        "h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "TLS/1.0",
        "connect-udp",
    ];
    let paths = ["/healthz", "/api/v1/watch", "/v1/chat/completions"];
    let rows = upgrades.iter().flat_map(|upgrade| paths.map(|path| (path, upgrade)));
    for_each(rows, async |(path, upgrade)| {
        let row = world.request(&format!("GET {path} HTTP/1.1"), &format!("Upgrade: {upgrade}\r\n"), "");
        let answer =
            world.send(row.replace("Connection: close", "Connection: Upgrade, HTTP2-Settings")).await;
        assert!(!answer.statuses().contains(&101), "`{upgrade}` at {path}: {}", answer.text());
    })
    .await;
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let world = World::new().await;
    let many = |count: usize| "X: a\r\n".repeat(count);
    let long = "a".repeat(1 << 20);
    let rows = [
        ("1,000 headers", world.request("GET /healthz HTTP/1.1", &many(1000), "")),
        ("a header of 1 MiB", world.request("GET /healthz HTTP/1.1", &format!("X: {long}\r\n"), "")),
        ("a header name of 1 MiB", world.request("GET /healthz HTTP/1.1", &format!("{long}: a\r\n"), "")),
        ("an address of 1 MiB", world.request(&format!("GET /healthz?{long} HTTP/1.1"), "", "")),
        ("a method of 1 MiB", world.request(&format!("{long} /healthz HTTP/1.1"), "", "")),
        (
            "a chunk extension of 1 MiB",
            world.request(
                "POST /api/v1/auth/can-i HTTP/1.1",
                &format!("{}Transfer-Encoding: chunked\r\n", bearer(&world.alice)),
                &format!("2;{long}\r\n{{}}\r\n0\r\n\r\n"),
            ),
        ),
        (
            "trailers of 1 MiB",
            world.request(
                "POST /api/v1/auth/can-i HTTP/1.1",
                &format!("{}Transfer-Encoding: chunked\r\n", bearer(&world.alice)),
                &format!("0\r\nX: {long}\r\n\r\n"),
            ),
        ),
        ("empty lines without end", "\r\n".repeat(1 << 20)),
    ];
    for_each(&rows, async |(what, row)| {
        let answer = world.send(row).await;
        assert!(!answer.succeeded(), "{what}: {:.200}", answer.text());
        assert_ne!(answer.end, ConnectionEnd::Silent, "{what}: the connection stays open");
    })
    .await;
    assert!(world.send(world.request("GET /healthz HTTP/1.1", &many(50), "")).await.succeeded());
}
