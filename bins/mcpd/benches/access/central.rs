//! Notices between replicas, and streams that end at mcpd: connected, and at replicas that have lost their store.

use std::time::{Duration, Instant};

use mcpctl_testkit::{
    daemons::{Mcpd, UNBOUNDED_WRITES},
    model_server::{ModelServer, Reply},
    replicas::Replicas,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use crate::table::Table;

const WRITES: usize = 200;
const STREAMS: usize = 200;

async fn world() -> (Replicas, ModelServer) {
    let replicas = Replicas::start_with(UNBOUNDED_WRITES).await;
    let model = ModelServer::with_default(Reply::text("one two three").stall_after(1)).await;
    let url = model.base_url();
    let forever = json!({"answer": "1h", "idle": "1h", "firstToken": "1h"});
    let llm = json!({"kind": "Llm", "name": "claude", "type": "openai", "url": url, "model": "m", "timeouts": forever});
    replicas.one.apply(json!([llm])).await;
    (replicas, model)
}

/// A stream whose first content has come.
async fn stream(mcpd: &Mcpd, bearer: &str) -> Response {
    let body =
        json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Count."}]});
    let mut answer = mcpd.post("/v1/chat/completions", bearer, &body).await;
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

/// From the sending of a write to its event in a watch at the other replica.
pub async fn notice(table: &mut Table) {
    let (replicas, _model) = world().await;
    let admin = replicas.one.admin();
    let mut watch = replicas.two.get("/api/v1/watch?kinds=llms", &admin).await;
    let mut samples = Vec::new();
    for round in 0..WRITES {
        let label = format!("round-{round}.");
        let change = json!({"description": label});
        let patch = replicas.one.request(Method::PATCH, "/api/v1/llms/claude", &admin).json(&change);
        let sent = Instant::now();
        let acknowledged = tokio::spawn(patch.send());
        let mut seen = String::new();
        while !seen.contains(&label) {
            seen.push_str(&String::from_utf8_lossy(&watch.chunk().await.unwrap().unwrap()));
        }
        samples.push(sent.elapsed());
        assert_eq!(acknowledged.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    table.times("a write shows at the other replica", samples, 0.99, Duration::from_millis(250));
}

/// From the sending of a revocation to the end of the stream; each stream has a user of its own.
pub async fn streams(table: &mut Table) {
    let (replicas, _model) = world().await;
    for (at, mcpd) in [("own", &replicas.one), ("other", &replicas.two)] {
        let mut running = Vec::new();
        for user in 0..STREAMS {
            let user = format!("{at}-{user}");
            let token = replicas.one.user(&user, Some("llm-user")).await;
            running.push((user, stream(mcpd, &token).await));
        }
        let mut samples = Vec::new();
        for (user, answer) in running {
            let ended = tokio::spawn(end(answer, "access_revoked"));
            let path = format!("/api/v1/rolebindings/{user}-llm-user");
            let sent = Instant::now();
            let gone = replicas.one.delete(&path, &replicas.one.admin()).await;
            assert_eq!(gone.status(), StatusCode::NO_CONTENT);
            samples.push(ended.await.unwrap().duration_since(sent));
        }
        let what = format!("a stream ends at the {at} replica");
        table.times(&what, samples, 0.99, Duration::from_secs(1));
    }
}

/// From the loss of the database to the end of the streams at both replicas.
pub async fn partition(table: &mut Table) {
    let (mut replicas, _model) = world().await;
    let token = replicas.one.user("alice", Some("llm-user")).await;
    let mut running = Vec::new();
    for _ in 0..STREAMS / 2 {
        for mcpd in [&replicas.one, &replicas.two] {
            running.push(stream(mcpd, &token).await);
        }
    }
    let running: Vec<_> =
        running.into_iter().map(|answer| tokio::spawn(end(answer, "access_unconfirmed"))).collect();
    let lost = Instant::now();
    replicas.postgres.stop();
    let mut samples = Vec::new();
    for ended in running {
        samples.push(ended.await.unwrap().duration_since(lost));
    }
    table.times("a stream ends without the store", samples, 1.0, Duration::from_secs(15));
}
