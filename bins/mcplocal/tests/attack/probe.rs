//! What may pass for the centre's answer to the probe.

use mcpctl_testkit::{
    daemons::Mcplocal,
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::centre::{ALLOWED, Centre, OVERLOADED, World, agent_of, header, made_up, text};

#[tokio::test]
async fn malformed_answers_do_not_allow() {
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    let centre = Centre::answering(ALLOWED, OVERLOADED).await;
    let agent = agent_of(&centre, &desk).await;
    let bearer = made_up();
    let answer = agent.chat("claude", &bearer, false).await;
    assert_eq!(text(answer).await, "from the desk", "the control");
    let before = desk.inferences().len();

    let with = |more: &str| ALLOWED.replace("content-length: 300\r\n", more);
    for (what, probe) in [
        ("two lengths", with("content-length: 300\r\ncontent-length: 0\r\n")),
        ("length and coding", with("content-length: 300\r\ntransfer-encoding: chunked\r\n")),
        ("HTTP/1.0", ALLOWED.replace("HTTP/1.1", "HTTP/1.0")),
        ("an interim answer", format!("HTTP/1.1 103 Early Hints\r\n\r\n{ALLOWED}")),
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
        centre.set(&probe, OVERLOADED);
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
async fn portal_that_answers_200_to_everything_allows_nothing() {
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    let page = "<html><body>Please log in to the WiFi</body></html>";
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", page.len());
    let json = head.replace("text/html", "application/json");
    for portal in [&head, &json] {
        let centre = Centre::answering(portal, &format!("{portal}{page}")).await;
        let agent = agent_of(&centre, &desk).await;
        for stream in [false, true] {
            let answer = agent.chat("claude", &made_up(), stream).await;
            assert_eq!(header(&answer, "mcpctl-failover"), None, "{portal} {stream}");
        }
    }
    assert!(desk.inferences().is_empty(), "the local model was called");
}

#[tokio::test]
async fn made_up_bearers_do_not_open_a_breaker() {
    let world = World::cut("primary: {breaker: {failures: 2, open: 1h}}").await;
    for _ in 0..10 {
        assert_eq!(world.agent.chat("claude", &made_up(), false).await.status(), StatusCode::BAD_GATEWAY);
    }
    assert_eq!(world.agent.status().await["breakers"], json!([]));
    // Those whom the centre accepts do.
    for _ in 0..2 {
        assert_eq!(text(world.chat().await).await, "from the desk");
    }
    assert_eq!(world.agent.status().await["breakers"][0]["llm"], "claude");
}

#[tokio::test]
async fn an_unencrypted_centre_off_loopback_is_refused() {
    let refused = |address: &str| {
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
        assert!(refused(address), "{address}");
    }
    // What the parser reads as loopback is loopback, whatever it looks like.
    for address in [
        "http://127.0.0.1:3100",
        "http://127.1:3100",
        "http://2130706433:3100",
        "http://0x7f.1:3100",
        "http://LOCALHOST:3100",
        "http://[::1]:3100",
        "https://mcpd.example.com",
    ] {
        assert!(!refused(address), "{address}");
    }
}

fn check(file: &std::path::Path) -> bool {
    let program = mcpctl_testkit::daemons::program("mcplocal");
    let output =
        std::process::Command::new(program).arg("--check").arg("--config").arg(file).output().unwrap();
    output.status.success()
}

#[tokio::test]
async fn a_reload_does_not_take_an_unencrypted_centre() {
    let world = World::cut("").await;
    let file = world.agent.config_file();
    let good = std::fs::read_to_string(&file).unwrap();
    for line in ["server", "inference"] {
        let value = good.lines().find_map(|text| text.strip_prefix(&format!("{line}: "))).unwrap();
        let bad = good.replace(&format!("{line}: {value}"), &format!("{line}: http://10.255.255.1"));
        std::fs::write(&file, bad).unwrap();
        let complaint = "`http://10.255.255.1/` is not encrypted";
        let complaints = world.agent.log().matches(complaint).count();
        mcpctl_testkit::daemons::eventually("the complaint", async || {
            (world.agent.log().matches(complaint).count() > complaints).then_some(())
        })
        .await;
        assert_eq!(text(world.chat().await).await, "from the desk", "the old one stays");
        std::fs::write(&file, &good).unwrap();
    }
    drop::<Mcplocal>(world.agent);
}
