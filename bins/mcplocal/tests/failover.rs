//! The behaviours that started the project, on whole daemons over HTTP: real `mcpd`, real `mcplocal`, scripted models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, Mcplocal, eventually},
    model_server::{Gate, ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// Centre, provider, local model, agent, and a user who may run `claude`.
struct World {
    mcpd: Mcpd,
    provider: ModelServer,
    desk: ModelServer,
    agent: Mcplocal,
    alice: String,
}

impl World {
    async fn new() -> Self {
        Self::with("", "failoverFor: claude").await
    }

    /// `more` goes to the top of the agent's configuration, `stands_in` to its provider.
    async fn with(more: &str, stands_in: &str) -> Self {
        let mcpd = Mcpd::start_with(McpdOptions { inference_listener: true, ..McpdOptions::default() }).await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\ninference: {}\n{more}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    {stands_in}\n",
            mcpd.url(),
            mcpd.inference_url(),
            desk.base_url(),
        ))
        .await;
        Self { mcpd, provider, desk, agent, alice }
    }

    /// As [`World::new`], with an agent whose path to inference leads nowhere.
    async fn cut() -> Self {
        let mut world = Self::new().await;
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        world.agent = Mcplocal::start(&format!(
            "server: {}\ninference: http://{nowhere}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n",
            world.mcpd.url(),
            world.desk.base_url(),
        ))
        .await;
        world
    }

    async fn chat(&self) -> Response {
        self.agent.chat("claude", &self.alice, false).await
    }

    async fn revoke(&self) {
        let gone = self.mcpd.delete("/api/v1/rolebindings/alice-llm-user", &self.mcpd.admin()).await;
        assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    }

    fn probes(&self) -> usize {
        self.mcpd.log().lines().filter(|line| line.contains("method=HEAD")).count()
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn text(answer: Response) -> String {
    let body: Value = answer.json().await.unwrap();
    body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_primary_succeeds_no_failover_and_no_probe() {
    let world = World::new().await;
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("claude"));
    assert_eq!(text(answer).await, "from the centre");
    assert_eq!(world.probes(), 0);
    assert!(world.desk.inferences().is_empty());
    assert!(world.agent.journal().is_empty());
}

#[tokio::test]
async fn the_primary_fails_and_the_probe_allows_the_local_result_with_its_name() {
    let mut world = World::new().await;
    world.provider.refuse().await;
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "mcpctl-failover"), Some("connect"));
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    assert_eq!(text(answer).await, "from the desk");
    // The probe was a HEAD of this Llm with alice's own bearer: mcpd says who asked.
    let probe = world.mcpd.log().lines().find(|line| line.contains("method=HEAD")).unwrap().to_owned();
    assert!(probe.contains("status=200") && probe.contains("/api/v1/{kind}/{idOrName}"), "{probe}");
    assert!(probe.contains("User alice"), "{probe}");
    let journal = world.agent.journal();
    assert_eq!(journal[0]["outcome"], "served");
    assert_eq!(journal[0]["access"], json!(["allowed"]));
    assert_eq!(journal[1]["event"], "ended");
}

#[tokio::test]
async fn inv_10_a_callers_bearer_reaches_mcpd_and_nothing_else() {
    let mut world = World::new().await;
    world.chat().await;
    world.provider.refuse().await;
    world.chat().await;
    for request in world.provider.requests().iter().chain(&world.desk.requests()) {
        assert!(!format!("{request:?}").contains(&world.alice));
    }
    assert!(!world.agent.log().contains(&world.alice));
    assert!(!world.mcpd.log().contains(&world.alice));
    assert!(!world.agent.journal().iter().any(|line| line.to_string().contains(&world.alice)));
}

#[tokio::test]
async fn the_primary_fails_and_no_local_failover_is_registered_the_primarys_error() {
    let mut world = World::with("", "failoverFor: other").await;
    world.provider.refuse().await;
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    assert!(world.desk.inferences().is_empty());
    assert_eq!(world.probes(), 0);
}

#[tokio::test]
async fn inv_03_the_primary_fails_and_the_probe_forbids_the_primarys_error_and_no_local_call() {
    let world = World::cut().await;
    assert_eq!(text(world.chat().await).await, "from the desk");
    let before = world.desk.inferences().len();
    world.revoke().await;
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&answer, "mcpctl-failure"), Some("connect"));
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "connect");
    assert_eq!(world.desk.inferences().len(), before, "the local model was called");
    let last = world.agent.journal().pop().unwrap();
    assert_eq!((&last["outcome"], &last["access"]), (&json!("refused"), &json!(["forbidden"])));
}

#[tokio::test]
async fn inv_03_the_primary_fails_and_mcpd_is_unreachable_the_primarys_error_and_no_local_call() {
    let mut world = World::new().await;
    world.mcpd.kill();
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(world.desk.inferences().is_empty());
    let last = world.agent.journal().pop().unwrap();
    assert_eq!((&last["outcome"], &last["access"]), (&json!("refused"), &json!(["unreachable"])));
}

#[tokio::test]
async fn inv_03_the_primarys_error_comes_back_unchanged() {
    let world = World::new().await;
    // Refused by the provider for what the caller wrote: no failover, and the very same words.
    let said = r#"{"error":{"message":"too many images","type":"invalid_request_error","code":"x","param":"messages"}}"#;
    world.provider.queue(Reply::status(422, said).header("content-type", "application/json; v=1"));
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(header(&answer, "content-type"), Some("application/json; v=1"));
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("upstream"));
    assert_eq!(answer.text().await.unwrap(), said);
    assert!(world.desk.inferences().is_empty());
    assert_eq!(world.probes(), 0);
}

#[tokio::test]
async fn inv_02_what_mcpd_denies_never_fails_over() {
    let world = World::new().await;
    world.revoke().await;
    let answer = world.chat().await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(&answer, "mcpctl-error-source"), Some("mcpd"));
    let unknown = world.agent.chat("claude", "mcpd_not-a-token", false).await;
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    assert!(world.desk.inferences().is_empty());
    assert_eq!(world.probes(), 0);
}

#[tokio::test]
async fn a_stream_fails_over_before_its_first_event_and_not_after() {
    let world = World::new().await;
    world.provider.set_default(Reply::error(503, "overloaded", "overloaded"));
    let answer = world.agent.chat("claude", &world.alice, true).await;
    assert_eq!(header(&answer, "mcpctl-failover"), Some("server_error"));
    let body = answer.text().await.unwrap();
    assert!(body.contains("desk") && body.trim_end().ends_with("data: [DONE]"), "{body}");
    assert!(!body.contains("\"usage\""), "usage was not asked for: {body}");

    world.provider.set_default(Reply::text("one two three four").cut_after(2));
    let answer = world.agent.chat("claude", &world.alice, true).await;
    assert_eq!(header(&answer, "mcpctl-failover"), None);
    let body = answer.text().await.unwrap();
    assert!(body.contains("\"error\"") && !body.contains("[DONE]"), "inv 13: {body}");
    assert!(!body.contains("finish_reason\":\"stop"), "inv 13: {body}");
}

#[tokio::test]
async fn the_breaker_skips_the_primary_but_asks_the_centre_every_time() {
    let mut world = World::with("primary: {breaker: {failures: 2, open: 1s}}", "failoverFor: claude").await;
    world.provider.refuse().await;
    for _ in 0..2 {
        assert_eq!(text(world.chat().await).await, "from the desk");
    }
    let posts = |world: &World| world.mcpd.log().matches("route=\"/v1/chat/completions\"").count();
    let (asked, probed) = (posts(&world), world.probes());
    assert_eq!(text(world.chat().await).await, "from the desk");
    assert_eq!(posts(&world), asked, "the primary rests");
    assert_eq!(world.probes(), probed + 1, "the centre is asked all the same");
    let status = world.agent.status().await;
    assert_eq!(status["breakers"][0]["llm"], "claude");
    assert_eq!(format!("http://{}", status["listen"].as_str().unwrap()), world.agent.url());

    world.provider.listen();
    eventually("the traffic returns", async || {
        let served = text(world.chat().await).await;
        (served == "from the centre").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_work_behind_both_daemons() {
    let world = World::new().await;
    let gate = Gate::new();
    world.provider.queue(Reply::text("one two three").gate_after(1, &gate));
    let mut answer = world.agent.chat("claude", &world.alice, true).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    world.provider.wait_for_disconnects(1).await;
    gate.release();
}

#[tokio::test]
async fn no_credential_a_foreign_host_or_an_origin_no_answer() {
    let world = World::new().await;
    let url = format!("{}/v1/chat/completions", world.agent.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"model": "claude", "messages": []});
    let none = http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let request = http.post(&url).bearer_auth(&world.alice).header(name, value).json(&body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{name}");
    }
    let status = http.get(format!("{}/status", world.agent.url())).bearer_auth(&world.alice);
    assert_eq!(
        status.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED,
        "the status is for the local key"
    );
    assert!(world.provider.requests().is_empty() && world.desk.inferences().is_empty());
}

#[tokio::test]
async fn ones_own_provider_needs_the_local_key_and_no_centre() {
    let mut world = World::new().await;
    let refused = world.agent.chat("local/desk", &world.alice, false).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    world.mcpd.kill();
    // The key stands for whoever is signed in, so somebody has to be.
    world.agent.sign_in(&world.mcpd, "alice", &world.alice);
    let answer = world.agent.chat("local/desk", &world.agent.local_key(), false).await;
    assert_eq!(text(answer).await, "from the desk");
    let models =
        world.agent.request(Method::GET, "/v1/models", &world.agent.local_key()).send().await.unwrap();
    let models: Value = models.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "local/desk");
}

#[tokio::test]
async fn a_changed_configuration_is_taken_over_and_a_broken_one_is_not() {
    let mut world = World::with("", "failoverFor: other").await;
    world.provider.refuse().await;
    assert_eq!(world.chat().await.status(), StatusCode::BAD_GATEWAY);
    let begun = std::time::Instant::now();
    let file = world.agent.config_file();
    let other = std::fs::read_to_string(&file).unwrap();
    let good = other.replace("failoverFor: other", "failoverFor: claude");
    let becomes = async |status| {
        eventually("the new configuration", async || (world.chat().await.status() == status).then_some(()))
            .await;
    };
    // Written into, replaced as editors do, and as a link whose target is replaced.
    std::fs::write(&file, &good).unwrap();
    becomes(StatusCode::OK).await;
    let draft = file.with_extension("draft");
    std::fs::write(&draft, &other).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    becomes(StatusCode::BAD_GATEWAY).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("mcplocal.yaml");
    std::fs::write(&target, &good).unwrap();
    std::os::unix::fs::symlink(&target, &draft).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    becomes(StatusCode::OK).await;
    std::fs::write(elsewhere.path().join("draft"), &other).unwrap();
    std::fs::rename(elsewhere.path().join("draft"), &target).unwrap();
    becomes(StatusCode::BAD_GATEWAY).await;
    std::fs::write(&target, &good).unwrap();
    becomes(StatusCode::OK).await;

    std::fs::write(&target, format!("{good}\nunknownKey: 1\n")).unwrap();
    eventually("the complaint", async || {
        world.agent.log().contains("unknown field `unknownKey`").then_some(())
    })
    .await;
    assert_eq!(world.chat().await.status(), StatusCode::OK);
    assert!(begun.elapsed().as_secs() < 30, "the system told of it, not the look every 30 s");
}
