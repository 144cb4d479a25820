//! Probes while inference is saturated: callers offer twice as many streams as mcpd takes (`limits.inference`). Once as models write
//! them, and once without a pause between events.

use std::time::{Duration, Instant};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    process::processor_seconds,
};
use reqwest::{Method, StatusCode};

use crate::{
    load::{Load, Orders},
    table::Table,
};

/// Streams that mcpd takes at once.
const CAPACITY: usize = 256;
const DURATION: Duration = Duration::from_secs(20);
const BETWEEN_PROBES: Duration = Duration::from_millis(20);
const TARGET: Duration = Duration::from_millis(5);
/// Between events of a stream, as a quick model writes them.
const PACE: Duration = Duration::from_millis(50);

pub async fn figures(table: &mut Table) {
    let config = format!("limits: {{inference: {{perPrincipal: {CAPACITY}, total: {CAPACITY}}}}}\n");
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let mut bearers = Vec::new();
    for user in 0..8 {
        bearers.push(mcpd.user(&format!("user-{user}"), Some("llm-user")).await);
    }
    mcpd.llm_with_default_timeouts("claude", "http://127.0.0.1:9/v1").await;
    let idle = probes(&mcpd, &bearers[0], Duration::from_secs(2)).await;
    table.times("a probe of an idle mcpd", idle, 0.95, TARGET);
    for (what, pace) in
        [("a probe, twice the streams", PACE), ("a probe, twice the streams, no pauses", Duration::ZERO)]
    {
        let mut load = Load::start(pace).await;
        mcpd.llm_with_default_timeouts("claude", &load.model).await;
        let orders = Orders { mcpd: mcpd.url().to_owned(), bearers: bearers.clone(), callers: 2 * CAPACITY };
        load.saturate(&orders).await;
        let (cpu, begun) = (processor_seconds(mcpd.pid()), Instant::now());
        let busy = probes(&mcpd, &bearers[0], DURATION).await;
        let cores = (processor_seconds(mcpd.pid()) - cpu) / begun.elapsed().as_secs_f64();
        let done = load.end().await;
        table.times(what, busy, 0.95, TARGET);
        table.note(&format!(
            "{} streams served, {} requests refused, {CAPACITY} streams at once; mcpd took {cores:.2} cores",
            done.served, done.refused
        ));
    }
}

/// The times of probes, one after the other on a kept connection.
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
