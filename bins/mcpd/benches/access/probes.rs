//! Probes while inference is saturated: callers offer twice as many streams as mcpd takes (`limits.inference`), each as fast as its model
//! server sends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::table::Table;

/// Streams that mcpd takes at once.
const CAPACITY: usize = 256;
const DURATION: Duration = Duration::from_secs(20);
const BETWEEN_PROBES: Duration = Duration::from_millis(20);
/// An event of each stream.
const PACE: Duration = Duration::from_millis(50);
/// Wait of a refused caller, shorter than its `Retry-After`.
const RETRY: Duration = Duration::from_millis(200);

pub async fn figures(table: &mut Table) {
    let config = format!("limits: {{inference: {{perPrincipal: {CAPACITY}, total: {CAPACITY}}}}}\n");
    let mcpd =
        Arc::new(Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await);
    let words = "word ".repeat(40);
    let model = ModelServer::with_default(Reply::text(&words).pace(PACE)).await;
    mcpd.llm_with_default_timeouts("claude", &model.base_url()).await;
    let mut bearers = Vec::new();
    for user in 0..8 {
        bearers.push(mcpd.user(&format!("user-{user}"), Some("llm-user")).await);
    }
    let idle = probes(&mcpd, &bearers[0], Duration::from_secs(2)).await;
    table.times("a probe of an idle mcpd", idle, 0.95, Duration::from_millis(10));
    let stop = Arc::new(AtomicBool::new(false));
    let [served, refused] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for at in 0..2 * CAPACITY {
        let (mcpd, stop) = (Arc::clone(&mcpd), Arc::clone(&stop));
        let (served, refused, bearer) =
            (Arc::clone(&served), Arc::clone(&refused), bearers[at % bearers.len()].clone());
        callers.push(tokio::spawn(async move {
            let body =
                json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
            while !stop.load(Ordering::SeqCst) {
                let answer = mcpd.post("/v1/chat/completions", &bearer, &body).await;
                if answer.status() == StatusCode::OK {
                    served.fetch_add(1, Ordering::SeqCst);
                    drop(answer.text().await);
                } else {
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }));
    }
    // Until it is saturated.
    while refused.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
    let busy = probes(&mcpd, &bearers[0], DURATION).await;
    let (served, refused) = (served.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    table.times("a probe while twice the capacity is offered", busy, 0.95, Duration::from_millis(10));
    table.note(&format!(
        "{served} streams served and {refused} requests refused meanwhile, {CAPACITY} at once"
    ));
    stop.store(true, Ordering::SeqCst);
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The times of probes, each on a kept connection.
async fn probes(mcpd: &Mcpd, bearer: &str, during: Duration) -> Vec<Duration> {
    let end = Instant::now() + during;
    let mut samples = Vec::new();
    while Instant::now() < end {
        let probe = mcpd.request(Method::HEAD, "/api/v1/llms/claude", bearer);
        let begun = Instant::now();
        assert_eq!(probe.send().await.unwrap().status(), StatusCode::OK);
        samples.push(begun.elapsed());
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
    samples
}
