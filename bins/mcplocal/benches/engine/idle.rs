//! The cost of an idle agent that has served a request: memory, and how often its threads wake up.
//!
//! Timers that are left, by name: the look at the configuration every 30 s (`config/watch.rs`), and 60 s after the last
//! request the end of connections that are kept.

use std::time::Duration;

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, program},
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;

use crate::Figure;

const LIMIT_MIB: f64 = 25.0;
/// Until the connections of the last request are closed.
const SETTLE: Duration = Duration::from_secs(95);
const WATCHED: Duration = Duration::from_secs(60);
/// Two looks at the configuration: each wakes the timer, and a thread that reads the file.
const NAMED: u64 = 12;

pub async fn figures() -> Vec<Figure> {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::error(503, "overloaded", "overloaded")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    std::fs::write(&model, "").unwrap();
    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    idleTimeout: 1s\n    failoverFor: claude\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    ))
    .await;
    let answer = agent.chat("claude", &alice, false).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.unwrap();
    tokio::time::sleep(SETTLE).await;
    let before = wake_ups(agent.pid());
    tokio::time::sleep(WATCHED).await;
    let woken = wake_ups(agent.pid()).saturating_sub(before);
    let resident = resident_mib(agent.pid());
    vec![
        Figure {
            what: "agent idle, resident",
            measured: format!("{resident:.1} MiB"),
            limit: "25 MiB",
            kept: resident <= LIMIT_MIB,
        },
        Figure {
            what: "agent idle, wake-ups of all threads",
            measured: format!("{woken} within {} s", WATCHED.as_secs()),
            limit: "the looks at the configuration every 30 s, 12 in all",
            kept: woken <= NAMED,
        },
    ]
}

fn wake_ups(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .flatten()
        .filter_map(|thread| number(&thread.path().join("status"), "voluntary_ctxt_switches:"))
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes of one process")]
fn resident_mib(pid: u32) -> f64 {
    number(std::path::Path::new(&format!("/proc/{pid}/status")), "VmRSS:").unwrap() as f64 / 1024.0
}

fn number(file: &std::path::Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}
