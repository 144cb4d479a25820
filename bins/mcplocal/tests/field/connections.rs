//! Connections that broke in the agent's pools, and the caller's error where mcpd does not respond.

use futures::future::join_all;
use mcpctl_testkit::{
    caller::Caller,
    daemons::{Mcpd, Mcplocal, closed_address, eventually},
    deployment::openai_item,
    link::Link,
    model_server::{Gate, ModelServer, Pause, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn chat(agent: &Mcplocal, bearer: &str, model: &str) -> Response {
    agent.chat(model, bearer, false).await
}

/// Fills the connection pools on the way to a model server with `count` connections, all idle in the end.
async fn fill(agent: &Mcplocal, bearer: &str, model: &str, server: &ModelServer, count: usize) {
    let gate = Gate::new();
    server.set_default(Reply::default().before_head(Pause::Gate(gate.clone())));
    let before = server.inferences().len();
    let chats = join_all((0..count).map(|_| chat(agent, bearer, model)));
    let release = async {
        eventually("the model server has every request", async || {
            (server.inferences().len() >= before + count).then_some(())
        })
        .await;
        gate.release();
    };
    let (answers, ()) = tokio::join!(chats, release);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    join_all(answers.into_iter().map(Response::bytes)).await;
    server.set_default(Reply::default());
}

/// A well-formed token that no mcpd issued.
fn unknown_token() -> String {
    mcpctl_secret::token::mint(mcpctl_secret::token::Prefix::Mcpd).unwrap().expose().to_owned()
}

/// An agent that reaches mcpd at `server`, signed in as alice.
async fn agent(mcpd: &Mcpd, server: &str, alice: &str, desk: &str) -> Mcplocal {
    let providers = openai_item("desk", desk, &["failoverFor: gone"]);
    let agent = Mcplocal::start(&format!("server: {server}\nproviders:\n{providers}")).await;
    agent.sign_in(mcpd, "alice", alice);
    agent
}

#[tokio::test]
async fn one_broken_connection_to_mcpd_discards_the_whole_pool() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    for count in [1, 2, 8, 64] {
        let link = Link::to(mcpd.url()).await;
        let agent = agent(&mcpd, &link.url(), &alice, "http://127.0.0.1:9/v1").await;
        fill(&agent, &alice, "claude", &provider, count).await;
        let sent = provider.inferences().len();
        link.reset_all();
        assert_eq!(chat(&agent, &alice, "claude").await.status(), StatusCode::OK, "{count} broken");
        assert_eq!((link.broken_uses(), provider.inferences().len()), (1, sent + 1), "{count}");
        // On a loaded machine, the agent does not find the owner of the other end in time for more new connections at once.
        let at_once = count.min(8);
        fill(&agent, &alice, "claude", &provider, at_once).await;
        link.reset_all();
        let answers = join_all((0..at_once).map(|_| chat(&agent, &alice, "claude"))).await;
        for answer in answers {
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::OK, "{at_once} at once: {text}");
        }
    }
}

#[tokio::test]
async fn one_broken_connection_to_a_provider_discards_the_whole_pool() {
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
        link.reset_all();
        assert_eq!(chat(&agent, &key, "local/desk").await.status(), StatusCode::OK, "{count} broken");
        fill(&agent, &key, "local/desk", &desk, count).await;
        link.reset_all();
        let failed_over = chat(&agent, &alice, "gone").await;
        assert_eq!(failed_over.status(), StatusCode::OK, "{count} broken");
        assert_eq!(failed_over.headers()["mcpctl-served-by"], "desk");
    }
}

#[tokio::test]
async fn unreachable_mcpd_is_reported_with_the_reason() {
    let nowhere = closed_address();
    for (server, reason) in [
        (format!("http://{nowhere}"), format!("`{nowhere}`: connection refused")),
        (
            "https://no-such-host.invalid".to_owned(),
            "`no-such-host.invalid:443`: DNS lookup failed".to_owned(),
        ),
    ] {
        let agent = Mcplocal::start(&format!("server: {server}\n")).await;
        let answer = chat(&agent, &unknown_token(), "claude").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let body: Value = answer.json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("mcpd cannot be reached: ") && message.contains(&reason), "{message}");
        assert!(agent.log().contains(&reason), "{}", agent.log());
    }
}

#[tokio::test]
async fn redirect_from_mcpds_address_is_reported_with_the_key() {
    let portal = ModelServer::start().await;
    let agent = Mcplocal::start(&format!("server: http://{}\n", portal.address())).await;
    for status in [301, 302, 303, 307, 308] {
        portal.queue(Reply::status(status, "").header("location", "https://mcpd.example.com/login?token=x"));
        let answer = chat(&agent, &unknown_token(), "claude").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let text = answer.text().await.unwrap();
        assert!(text.contains(&format!("status {status}")) && text.contains("`server`"), "{text}");
    }
    let log = agent.log();
    assert!(
        log.contains("redirects to `https://mcpd.example.com/login`") && !log.contains("token=x"),
        "{log}"
    );
    assert_eq!(portal.inferences().len(), 5, "a request was sent twice");
}

/// In every dialect, whole and streamed, and after the first content too.
#[tokio::test]
async fn expired_timeout_is_reported_with_its_key() {
    for (key, reply, stream) in [
        ("response", Reply::hang(), true),
        ("answer", Reply::hang(), false),
        ("firstToken", Reply::default().stall_after(0), true),
        ("idle", Reply::text("a b c").stall_after(1), true),
    ] {
        let mcpd = ModelServer::with_default(reply).await;
        let timeouts = format!("primary: {{timeouts: {{{key}: 300ms}}}}");
        let agent = Mcplocal::start(&format!("server: http://{}\n{timeouts}\n", mcpd.address())).await;
        for caller in Caller::ALL {
            let request = agent.request(Method::POST, caller.path(), &unknown_token());
            let answer = request.json(&caller.body("claude", stream, "Hi")).send().await.unwrap();
            let expected = if key == "idle" { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, expected, "{key} {caller:?}: {text}");
            let named = format!("`primary.timeouts.{key}` (300ms) in mcplocal.yaml");
            assert!(text.contains(&named), "{key} {caller:?}: {text}");
        }
    }
}

#[tokio::test]
async fn provider_that_rejects_stream_options_streams_without_them() {
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
    let sent: Vec<bool> =
        desk.inferences().iter().map(|sent| sent.json().get("stream_options").is_some()).collect();
    assert_eq!(sent, [true, false, false], "the agent tries them once");

    // A caller who requests usage gets the rejection.
    desk.queue(Reply::error(400, "Unknown parameter: 'stream_options'.", "unknown_parameter"));
    let body = json!({"model": "local/desk", "messages": [], "stream": true, "stream_options": {"include_usage": true}});
    let request = agent.request(Method::POST, "/v1/chat/completions", &agent.local_key()).json(&body);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::BAD_REQUEST);

    // `streamUsage: false` never sends them.
    let config = std::fs::read_to_string(agent.config_file()).unwrap();
    let quiet = config.replace("model: m", "model: m\n    streamUsage: false");
    let agent = Mcplocal::start(quiet.trim_end_matches("listen: 127.0.0.1:0\n")).await;
    let before = desk.inferences().len();
    agent.chat("gone", &alice, true).await.text().await.unwrap();
    assert_eq!(desk.inferences()[before].json().get("stream_options"), None);
}
