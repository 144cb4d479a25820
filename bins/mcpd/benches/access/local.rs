//! Local streams of an agent that end when mcpd takes access away, and when mcpd does not answer any more.

use std::time::{Duration, Instant};

use mcpctl_testkit::{
    daemons::{McpdOptions, UNBOUNDED_WRITES},
    deployment::Deployment,
    model_server::Reply,
    process::Paused,
};
use reqwest::{Response, StatusCode};

use crate::table::Table;

const STREAMS: usize = 200;
/// Callers at a time: an agent follows the feeds of 64 (docs/reference/limits.md).
const CALLERS: usize = 50;

/// A deployment whose primary fails.
async fn world() -> Deployment {
    let config = Some(UNBOUNDED_WRITES.to_owned());
    let mcpd = McpdOptions { config, ..McpdOptions::default() };
    let deployment = Deployment::builder().mcpd(mcpd).unreachable_inference().start().await;
    deployment.desk.set_default(Reply::text("one two three").stall_after(1));
    deployment
}

/// A local stream whose first content has come.
async fn stream(deployment: &Deployment, bearer: &str) -> Response {
    let mut answer = deployment.agent.chat("claude", bearer, true).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut text = String::new();
    while !text.contains("one") {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().expect("the first content")));
    }
    answer
}

/// When a stream ended, with the error of this code.
async fn end(answer: Response, code: &str) -> Instant {
    let rest = answer.text().await.unwrap();
    assert!(rest.contains(code) && !rest.contains("[DONE]"), "{rest}");
    Instant::now()
}

/// From the sending of a revocation to the end of the local stream; each stream has a user of its own.
pub async fn streams(table: &mut Table) {
    let mut samples = Vec::new();
    for _ in 0..STREAMS / CALLERS {
        // A new agent: one keeps a caller's feed for half a minute, for the next request.
        let deployment = world().await;
        let mut running = Vec::new();
        for user in 0..CALLERS {
            let user = format!("user-{user}");
            let token = deployment.mcpd.user(&user, Some("llm-user")).await;
            running.push((user, stream(&deployment, &token).await));
        }
        for (user, answer) in running {
            let ended = tokio::spawn(end(answer, "access_revoked"));
            let path = format!("/api/v1/rolebindings/{user}-llm-user");
            let sent = Instant::now();
            let gone = deployment.mcpd.delete(&path, &deployment.mcpd.admin()).await;
            assert_eq!(gone.status(), StatusCode::NO_CONTENT);
            samples.push(ended.await.unwrap().duration_since(sent));
        }
    }
    table.times("a local stream ends", samples, 0.99, Duration::from_secs(1));
}

/// From the moment at which mcpd falls silent, with its connections open, to the end of the local streams.
pub async fn partition(table: &mut Table) {
    let deployment = world().await;
    let mut running = Vec::new();
    for user in 0..CALLERS {
        let token = deployment.mcpd.user(&format!("user-{user}"), Some("llm-user")).await;
        for _ in 0..STREAMS / CALLERS {
            running.push(stream(&deployment, &token).await);
        }
    }
    let running: Vec<_> =
        running.into_iter().map(|answer| tokio::spawn(end(answer, "access_unconfirmed"))).collect();
    let lost = Instant::now();
    let paused = Paused::process(deployment.mcpd.pid());
    let mut samples = Vec::new();
    for ended in running {
        samples.push(ended.await.unwrap().duration_since(lost));
    }
    drop(paused);
    table.times("a local stream ends without mcpd", samples, 1.0, Duration::from_secs(15));
}
