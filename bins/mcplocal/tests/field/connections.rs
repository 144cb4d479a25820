//! Connections of the agent that died in its pools, and what a caller learns where mcpd gives no answer.

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, eventually},
    link::Link,
    model_server::{Gate, ModelServer, Pause, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn ask(agent: &Mcplocal, bearer: &str, model: &str) -> Response {
    agent.chat(model, bearer, false).await
}

/// Fills the pools that lead to this model server with so many connections, all idle in the end.
async fn fill(agent: &Mcplocal, bearer: &str, model: &str, server: &ModelServer, count: usize) {
    let gate = Gate::new();
    server.set_default(Reply::default().before_head(Pause::Gate(gate.clone())));
    let before = server.inferences().len();
    let asking = join_all((0..count).map(|_| ask(agent, bearer, model)));
    let release = async {
        eventually("all are under way", async || (server.inferences().len() >= before + count).then_some(()))
            .await;
        gate.release();
    };
    let (answers, ()) = tokio::join!(asking, release);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    join_all(answers.into_iter().map(Response::bytes)).await;
    server.set_default(Reply::default());
}

/// A token that mcpd never made.
fn token() -> String {
    mcpctl_secret::token::mint(mcpctl_secret::token::Prefix::Mcpd).unwrap().expose().to_owned()
}

/// An agent that reaches mcpd at `server`, signed in as alice.
async fn agent(mcpd: &Mcpd, server: &str, alice: &str, desk: &str) -> Mcplocal {
    let agent = Mcplocal::start(&format!(
        "server: {server}\nproviders:\n  - name: desk\n    type: openai\n    url: {desk}\n    model: m\n    failoverFor: gone\n",
    ))
    .await;
    agent.sign_in(mcpd, "alice", alice);
    agent
}

#[tokio::test]
async fn one_dead_connection_to_mcpd_teaches_about_all_beside_it() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    for count in [1, 2, 8, 64] {
        let link = Link::to(mcpd.url()).await;
        let agent = agent(&mcpd, &link.url(), &alice, "http://127.0.0.1:9/v1").await;
        fill(&agent, &alice, "claude", &provider, count).await;
        let asked = provider.inferences().len();
        link.kill();
        assert_eq!(ask(&agent, &alice, "claude").await.status(), StatusCode::OK, "{count} dead");
        assert_eq!((link.met_failed(), provider.inferences().len()), (1, asked + 1), "{count}");
        // Of more new connections at once the owner of the other end is not found in time on a loaded machine.
        let at_once = count.min(8);
        fill(&agent, &alice, "claude", &provider, at_once).await;
        link.kill();
        let answers = join_all((0..at_once).map(|_| ask(&agent, &alice, "claude"))).await;
        for answer in answers {
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::OK, "{at_once} at once: {text}");
        }
    }
}

#[tokio::test]
async fn one_dead_connection_to_a_local_provider_teaches_about_all_beside_it() {
    let (mcpd, desk) = (Mcpd::start().await, ModelServer::start().await);
    let mut gone = ModelServer::start().await;
    mcpd.llm("gone", &gone.base_url()).await;
    gone.refuse().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    for count in [1, 2, 8, 64] {
        let link = Link::to(&desk.base_url()).await;
        let agent = agent(&mcpd, mcpd.url(), &alice, &format!("{}/v1", link.url())).await;
        let key = agent.local_key();
        fill(&agent, &key, "local/desk", &desk, count).await;
        link.kill();
        assert_eq!(ask(&agent, &key, "local/desk").await.status(), StatusCode::OK, "{count} dead");
        fill(&agent, &key, "local/desk", &desk, count).await;
        link.kill();
        let failed_over = ask(&agent, &alice, "gone").await;
        assert_eq!(failed_over.status(), StatusCode::OK, "{count} dead");
        assert_eq!(failed_over.headers()["mcpctl-served-by"], "desk");
    }
}

#[tokio::test]
async fn mcpd_that_cannot_be_reached_is_named_with_the_reason() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (server, reason) in [
        (format!("http://{nowhere}"), format!("`{nowhere}`: connection refused")),
        (
            "https://no-such-host.invalid".to_owned(),
            "`no-such-host.invalid:443`: DNS lookup failed".to_owned(),
        ),
    ] {
        let agent = Mcplocal::start(&format!("server: {server}\n")).await;
        let answer = ask(&agent, &token(), "claude").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body: Value = answer.json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("mcpd cannot be reached: ") && message.contains(&reason), "{message}");
        assert!(agent.log().contains(&reason), "{}", agent.log());
    }
}

#[tokio::test]
async fn redirect_in_mcpds_place_names_the_key_and_in_the_log_where_it_points() {
    let portal = ModelServer::start().await;
    let agent = Mcplocal::start(&format!("server: http://{}\n", portal.address())).await;
    for status in [301, 302, 303, 307, 308] {
        portal.queue(Reply::status(status, "").header("location", "https://mcpd.example.com/login?token=x"));
        let answer = ask(&agent, &token(), "claude").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let text = answer.text().await.unwrap();
        assert!(text.contains(&format!("status {status}")) && text.contains("`server`"), "{text}");
    }
    let log = agent.log();
    assert!(
        log.contains("redirects to `https://mcpd.example.com/login`") && !log.contains("token=x"),
        "{log}"
    );
    assert_eq!(portal.inferences().len(), 5, "none is sent twice");
}

#[tokio::test]
async fn limit_that_passed_is_named_with_its_key() {
    for (key, reply, stream) in [
        ("response", Reply::hang(), true),
        ("answer", Reply::hang(), false),
        ("firstToken", Reply::default().stall_after(0), true),
    ] {
        let centre = ModelServer::with_default(reply).await;
        let agent = Mcplocal::start(&format!(
            "server: http://{}\nprimary: {{timeouts: {{{key}: 300ms}}}}\n",
            centre.address()
        ))
        .await;
        let answer = agent.chat("claude", &token(), stream).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{key}: {text}");
        assert!(text.contains(&format!("`primary.timeouts.{key}` (300ms)")), "{text}");
    }
}

#[tokio::test]
async fn local_provider_that_refuses_stream_options_streams_without() {
    let (mcpd, desk) = (Mcpd::start().await, ModelServer::start().await);
    let mut gone = ModelServer::start().await;
    mcpd.llm("gone", &gone.base_url()).await;
    gone.refuse().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let agent = agent(&mcpd, mcpd.url(), &alice, &desk.base_url()).await;
    desk.queue(Reply::error(400, "Unknown parameter: 'stream_options'.", "unknown_parameter"));
    for _ in 0..2 {
        let answer = agent.chat("gone", &alice, true).await;
        assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
        assert!(answer.text().await.unwrap().trim_end().ends_with("data: [DONE]"));
    }
    let asked: Vec<bool> =
        desk.inferences().iter().map(|sent| sent.json().get("stream_options").is_some()).collect();
    assert_eq!(asked, [true, false, false], "it is asked once");

    // A caller who asks gets the refusal.
    desk.queue(Reply::error(400, "Unknown parameter: 'stream_options'.", "unknown_parameter"));
    let body = json!({"model": "local/desk", "messages": [], "stream": true, "stream_options": {"include_usage": true}});
    let own = agent.request(Method::POST, "/v1/chat/completions", &agent.local_key()).json(&body);
    assert_eq!(own.send().await.unwrap().status(), StatusCode::BAD_REQUEST);

    // And the switch keeps it out.
    let config = std::fs::read_to_string(agent.config_file()).unwrap();
    let quiet = config.replace("model: m", "model: m\n    streamUsage: false");
    let agent = Mcplocal::start(quiet.trim_end_matches("listen: 127.0.0.1:0\n")).await;
    let before = desk.inferences().len();
    agent.chat("gone", &alice, true).await.text().await.unwrap();
    assert_eq!(desk.inferences()[before].json().get("stream_options"), None);
}
