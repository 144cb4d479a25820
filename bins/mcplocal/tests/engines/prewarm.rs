//! Engines that start ahead of need: `prewarm: onTrouble` and `prewarm: always`.

use mcpctl_testkit::{
    daemons::eventually,
    deployment::Deployment,
    model_server::{Gate, Reply},
    response::header,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::StatusCode;
use serde_json::json;

async fn on_trouble(config: &str) -> Deployment {
    Deployment::builder()
        .config(config)
        .engine("desk", "", &["failoverFor: claude", "prewarm: onTrouble"])
        .signed_in()
        .start()
        .await
}

#[tokio::test]
async fn broken_stream_prewarms_for_an_allowed_caller_only() {
    let deployment = on_trouble("").await;
    deployment.provider.set_default(Reply::text("one two three four").cut_after(2));
    let bob = deployment.mcpd.user("bob", None).await;
    let denied = deployment.agent.chat("claude", &bob, true).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN, "a denied caller triggers nothing");

    let carol = deployment.mcpd.user("carol", Some("llm-user")).await;
    let mut stream = deployment.agent.chat("claude", &carol, true).await;
    assert!(stream.chunk().await.unwrap().is_some());
    drop(stream);
    assert_eq!(deployment.starts("desk"), 0, "a caller who leaves triggers nothing");

    let broken = deployment.chat_streamed().await.text().await.unwrap();
    assert!(broken.contains("\"error\"") && !broken.contains("[DONE]"), "{broken}");
    deployment.engine_is("desk", "ready").await;
    // The next failure finds the engine ready.
    deployment.overload_provider();
    let answer = deployment.chat().await;
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("desk"));
    assert_eq!(deployment.starts("desk"), 1);
}

/// The trigger is a quarter of the primary's response timeout; the primary may still answer after it.
#[tokio::test]
async fn slow_primary_prewarms_and_may_still_answer() {
    let deployment = on_trouble("primary: {timeouts: {response: 16s}}").await;
    // mcpd waits longer than the agent.
    let slow = json!({
        "kind": "Llm", "name": "claude", "type": "openai", "url": deployment.provider.base_url(), "model": "m",
        "timeouts": {"response": "30s", "firstToken": "30s"},
    });
    deployment.mcpd.apply(json!([slow])).await;
    let gate = Gate::new();
    deployment.provider.set_default(Reply::text("from the primary").gate_after(0, &gate));
    let warmed = async {
        deployment.engine_is("desk", "ready").await;
        gate.release();
    };
    let (answer, ()) = futures::join!(deployment.chat_streamed(), warmed);
    assert_eq!(header(&answer, "mcpctl-served-by"), Some("claude"));
    assert!(answer.text().await.unwrap().trim_end().ends_with("data: [DONE]"));
    let log = deployment.agent.log();
    assert!(log.contains("it is slow to answer"), "{log}");
}

#[tokio::test]
async fn broken_stream_of_a_revoked_caller_prewarms_nothing() {
    let deployment = on_trouble("").await;
    let gate = Gate::new();
    deployment.provider.set_default(Reply::text("one two three four").gate_after(2, &gate).cut_after(3));
    let mut stream = deployment.chat_streamed().await;
    assert!(stream.chunk().await.unwrap().is_some());
    deployment.revoke().await;
    gate.release();
    stream.text().await.unwrap();
    eventually("the agent probes mcpd", async || {
        deployment.agent.log().contains("prewarm triggered by the primary").then_some(())
    })
    .await;
    let log = deployment.agent.log();
    assert!(log.contains("access=\"forbidden\""), "{log}");
    let state = deployment.engine("desk").await["state"].clone();
    assert_eq!((deployment.starts("desk"), state), (0, json!("stopped")));
}

#[tokio::test]
async fn always_restarts_after_a_crash_and_not_after_a_users_stop() {
    let deployment = Deployment::builder().engine("desk", "", &["prewarm: always"]).signed_in().start().await;
    deployment.engine_is("desk", "ready").await;
    let pid = deployment.engine("desk").await["pid"].as_u64().unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    eventually("the engine runs again", async || {
        let engine = deployment.engine("desk").await;
        (engine["state"] == "ready" && engine["starts"] == 2).then_some(())
    })
    .await;
    assert_eq!(deployment.control("desk", "stop").await.status(), StatusCode::OK);
    // A prewarm that ignores the user's stop would start it between two of these polls.
    for _ in 0..20 {
        assert_eq!(deployment.engine("desk").await["state"], "stopped");
    }
    // A request starts it, and from then on it is kept again.
    assert_eq!(deployment.chat_locally("desk").await.status(), StatusCode::OK);
    assert_eq!(deployment.starts("desk"), 3, "only the request started it");
}
