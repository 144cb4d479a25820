//! A thousand cycles of start, request and stop, with kills at random moments: of the engine, of its guardian, of the agent
//! itself. Every request has to get an answer, whatever it is, and at the end nothing may be left.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, eventually, program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;

use crate::Figure;

const CYCLES: usize = 1000;
/// Bound of a request; later answers count as lost.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Tally {
    served: usize,
    refused: usize,
    cut: usize,
    lost: usize,
    engines_killed: usize,
    guardians_killed: usize,
    agents_killed: usize,
}

pub async fn figures() -> Vec<Figure> {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let models = tempfile::Builder::new().prefix("cycles-").tempdir().unwrap();
    let model = models.path().join("model");
    std::fs::write(&model, "load 20\nslow 10").unwrap();
    let config = format!(
        "server: {}\nproviders:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    concurrency: 2\n",
        mcpd.url(),
        program("examples/fake_engine").display(),
        model.display(),
    );
    let mut agent = Mcplocal::start(&config).await;
    agent.sign_in(&mcpd, "alice", &alice);
    let mut tally = Tally::default();
    let begun = Instant::now();
    for _ in 0..CYCLES {
        let key = agent.local_key();
        let requests = (0..random.random_range(1..=3)).map(|_| ask(&agent, &key));
        let requests = futures::future::join_all(requests);
        let moment = Duration::from_millis(random.random_range(0..120));
        let what = random.random_range(0..10);
        let trouble = async {
            tokio::time::sleep(moment).await;
            match what {
                0..=2 => (kill_all(&model, |line| !line.contains("engine-guardian")), 0),
                3 => (0, kill_all(&model, |line| line.contains("engine-guardian"))),
                _ => (0, 0),
            }
        };
        if what == 4 {
            // The agent itself, in the midst of its requests: those are cut, which is an answer of a kind.
            let cut = tokio::select! {
                answers = requests => { answers.iter().for_each(|answer| count(&mut tally, *answer)); 0 }
                () = tokio::time::sleep(moment) => 1,
            };
            tally.cut += cut;
            tally.agents_killed += 1;
            agent.kill();
            agent.restart().await;
        } else {
            let (answers, (engines, guardians)) = futures::join!(requests, trouble);
            tally.engines_killed += engines;
            tally.guardians_killed += guardians;
            answers.iter().for_each(|answer| count(&mut tally, *answer));
            let stop = agent.request(Method::POST, "/api/v1/engines/desk/stop", &agent.local_key());
            let stopped = tokio::time::timeout(REQUEST_TIMEOUT, stop.send()).await;
            assert!(stopped.is_ok_and(|answer| answer.is_ok()), "seed {seed}: stop got no answer");
        }
    }
    assert!(agent.stop().success(), "seed {seed}: the agent did not end well");
    eventually("no process is left", async || processes(&model).is_empty().then_some(())).await;
    let Tally { served, refused, cut, lost, engines_killed, guardians_killed, agents_killed } = tally;
    vec![Figure {
        what: "1,000 cycles of start, request, stop",
        measured: format!(
            "{served} requests served, {refused} refused with an error, {lost} without an answer, {cut} cut with their agent; \
             killed: {engines_killed} engines, {guardians_killed} guardians, {agents_killed} agents; no process left; \
             {:.0} s, seed {seed}",
            begun.elapsed().as_secs_f64()
        ),
        limit: "no request without an answer, no orphan, no deadlock",
        // Where hardly anything is served, nothing was tried.
        kept: lost == 0 && served * 2 > CYCLES,
    }]
}

async fn ask(agent: &Mcplocal, key: &str) -> Option<bool> {
    let body = serde_json::json!({"model": "local/desk", "messages": [{"role": "user", "content": "Hi"}]});
    let request = agent.request(Method::POST, "/v1/chat/completions", key).json(&body).send();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await.ok()?.ok()?;
    Some(answer.status().is_success())
}

fn count(tally: &mut Tally, answer: Option<bool>) {
    match answer {
        Some(true) => tally.served += 1,
        Some(false) => tally.refused += 1,
        None => tally.lost += 1,
    }
}

/// Processes that have this model in their command line: engines and their guardians.
fn processes(model: &Path) -> Vec<(i32, String)> {
    let model = model.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let with_line = all.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    with_line.filter(|(_, line)| line.contains(&model)).collect()
}

fn kill_all(model: &Path, wanted: impl Fn(&str) -> bool) -> usize {
    let found: Vec<_> = processes(model).into_iter().filter(|(_, line)| wanted(line)).collect();
    found.iter().filter(|(pid, _)| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
}
