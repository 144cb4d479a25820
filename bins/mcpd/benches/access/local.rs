//! Local streams of an agent that end when mcpd takes access away, and when mcpd cannot be reached any more.

use std::time::{Duration, Instant};

use mcpctl_testkit::{deployment::Deployment, model_server::Reply};
use reqwest::{Response, StatusCode};

use crate::table::Table;

const STREAMS: usize = 200;
/// Longer than any bound: a stream that goes on so long does not end.
const LONGEST: Duration = Duration::from_secs(60);

/// A deployment whose primary fails, and a local stream of each of some users, whose first content has come.
async fn running(count: usize) -> (Deployment, Vec<(String, Response)>) {
    let deployment = Deployment::builder().unreachable_inference().start().await;
    deployment.desk.set_default(Reply::text("one two three").stall_after(1));
    let mut running = Vec::new();
    for user in 0..count {
        let user = format!("user-{user}");
        let token = deployment.mcpd.user(&user, Some("llm-user")).await;
        let mut answer = deployment.agent.chat("claude", &token, true).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut text = String::new();
        while !text.contains("one") {
            text.push_str(&String::from_utf8_lossy(
                &answer.chunk().await.unwrap().expect("the first content"),
            ));
        }
        running.push((user, answer));
    }
    (deployment, running)
}

/// When a stream ended, without the end of a whole answer.
async fn end(answer: Response) -> Instant {
    if let Ok(rest) = tokio::time::timeout(LONGEST, answer.text()).await {
        assert!(!rest.unwrap_or_default().contains("[DONE]"), "it looks complete");
    }
    Instant::now()
}

/// From a revocation's acknowledgement to the end of the local stream; each stream has a user of its own.
pub async fn streams(table: &mut Table) {
    let (deployment, running) = running(STREAMS).await;
    let mut samples = Vec::new();
    for (user, answer) in running {
        let ended = tokio::spawn(end(answer));
        let path = format!("/api/v1/rolebindings/{user}-llm-user");
        let gone = deployment.mcpd.delete(&path, &deployment.mcpd.admin()).await;
        assert_eq!(gone.status(), StatusCode::NO_CONTENT);
        let acknowledged = Instant::now();
        samples.push(ended.await.unwrap().saturating_duration_since(acknowledged));
    }
    table.times("a local stream ends", samples, 0.99, Duration::from_secs(1));
}

/// From the loss of mcpd to the end of the local streams.
pub async fn partition(table: &mut Table) {
    let (mut deployment, running) = running(STREAMS).await;
    let running: Vec<_> = running.into_iter().map(|(_, answer)| tokio::spawn(end(answer))).collect();
    deployment.mcpd.kill();
    let lost = Instant::now();
    let mut samples = Vec::new();
    for ended in running {
        samples.push(ended.await.unwrap().saturating_duration_since(lost));
    }
    table.times("a local stream ends without mcpd", samples, 1.0, Duration::from_secs(15));
}
