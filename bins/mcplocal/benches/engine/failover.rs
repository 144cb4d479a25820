//! From the primary's failure to the first local byte, the engine ready.
//!
//! Three requests by turns: one that fails over, one to an Llm without a local provider that fails in the same way, and the probe
//! by itself. What the first takes longer than the second is the time from the failure to the first local byte; of that,
//! the third is the probe's round trip.

use std::time::Instant;

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, program},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};

use crate::{Figure, millis, percentile, sorted};

const ROUNDS: usize = 500;
const WARM_UP: usize = 50;
const LIMIT_MS: f64 = 2.0;

pub async fn figures() -> Vec<Figure> {
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", "http://127.0.0.1:9/v1").await;
    mcpd.llm("plain", "http://127.0.0.1:9/v1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    // The primary as the agent sees it: a scripted server that responds as mcpd does when a provider failed.
    let failing = Reply::error(503, "overloaded", "overloaded")
        .header("mcpctl-error-source", "upstream")
        .header("mcpctl-failure", "server_error");
    let primary = ModelServer::with_default(failing).await;
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    std::fs::write(&model, "").unwrap();
    let agent = Mcplocal::start(&format!(
        "server: {}\ninference: {}\nprimary: {{breaker: {{failures: 4000000000, open: 1s}}}}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: claude\n    concurrency: 4\n",
        mcpd.url(),
        primary.base_url().trim_end_matches("/v1"),
        program("examples/fake_engine").display(),
        model.display(),
    ))
    .await;

    let first_local_byte = async || {
        let begun = Instant::now();
        let mut answer = agent.chat("claude", &alice, true).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.chunk().await.unwrap().is_some());
        let took = millis(begun.elapsed());
        while answer.chunk().await.unwrap().is_some() {}
        took
    };
    let failure = async || {
        let begun = Instant::now();
        let answer = agent.chat("plain", &alice, true).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let took = millis(begun.elapsed());
        answer.bytes().await.unwrap();
        took
    };
    let probe = async || {
        let begun = Instant::now();
        let answer = mcpd.request(Method::HEAD, "/api/v1/llms/claude", &alice).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        millis(begun.elapsed())
    };
    let (mut local, mut probes, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let (whole, failed, probed) = (first_local_byte().await, failure().await, probe().await);
        if round >= WARM_UP {
            local.push(whole - failed);
            probes.push(probed);
            beyond.push(whole - failed - probed);
        }
    }
    let (local, probes, beyond) = (sorted(local), sorted(probes), sorted(beyond));
    let half = |samples: &[f64]| percentile(samples, 0.5);
    let most = |samples: &[f64]| percentile(samples, 0.99);
    vec![Figure {
        what: "primary's failure to first local byte, beyond the probe",
        measured: format!(
            "p50 {:.2} ms, p99 {:.2} ms; with the probe p50 {:.2} ms, p99 {:.2} ms; the probe p50 {:.2} ms; {ROUNDS} rounds",
            half(&beyond),
            most(&beyond),
            half(&local),
            most(&local),
            half(&probes),
        ),
        limit: "2 ms at p99",
        kept: most(&beyond) <= LIMIT_MS,
    }]
}
