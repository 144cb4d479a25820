//! The time from a caller's disconnect to the moment when the model server sees its request closed.

use std::time::{Duration, Instant};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{Gate, ModelServer, Reply},
};

use crate::{Figure, millis, percentile, sorted};

const ROUNDS: usize = 200;
const LIMIT_MS: f64 = 100.0;

pub async fn figures() -> Vec<Figure> {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let desk = ModelServer::start().await;
    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: '{}', model: m}}\n",
        mcpd.url(),
        desk.base_url()
    ))
    .await;
    agent.sign_in(&mcpd, "alice", &alice);
    let key = agent.local_key();

    let gate = Gate::new();
    let mut streaming = Vec::new();
    for round in 1..=ROUNDS {
        desk.queue(Reply::text("one two three").gate_after(1, &gate));
        let mut answer = agent.chat("local/desk", &key, true).await;
        assert!(answer.chunk().await.unwrap().is_some());
        let left = Instant::now();
        drop(answer);
        desk.wait_for_disconnects(round).await;
        streaming.push(millis(left.elapsed()));
    }
    let mut waiting = Vec::new();
    for round in ROUNDS + 1..=2 * ROUNDS {
        desk.queue(Reply::hang());
        let asked = desk.inferences().len();
        let request = agent.chat("local/desk", &key, false);
        {
            tokio::pin!(request);
            while desk.inferences().len() == asked {
                let _ = tokio::time::timeout(Duration::from_millis(1), &mut request).await;
            }
            // Dropped at the end of this block, before the answer began.
        }
        let left = Instant::now();
        desk.wait_for_disconnects(round).await;
        waiting.push(millis(left.elapsed()));
    }
    let figure = |what, samples: Vec<f64>| {
        let samples = sorted(samples);
        let most = percentile(&samples, 1.0);
        Figure {
            what,
            measured: format!("p50 {:.2} ms, most {most:.2} ms; {ROUNDS} rounds", percentile(&samples, 0.5)),
            limit: "100 ms",
            kept: most <= LIMIT_MS,
        }
    };
    vec![
        figure("cancel within a stream to the engine's request gone", streaming),
        figure("cancel before the first byte to the engine's request gone", waiting),
    ]
}
