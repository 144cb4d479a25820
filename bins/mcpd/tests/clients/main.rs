//! Programs that people use, from their own registries, against a whole mcpd and against an agent in failover, over scripted
//! model servers of each dialect and over a real llama-server: they are large, so `cargo xtask test clients` runs them and no
//! other run does. The official clients of OpenAI and Anthropic run in every test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod codex;
mod operations;
mod script;
mod stage;

use mcpctl_testkit::client_table::{Cells, Outcome};

use crate::{
    operations::Operation,
    script::{Client, Script},
    stage::{Daemon, Stage, Upstream},
};

/// Runs a client's operations at one daemon over one upstream.
async fn check(client: &Client, daemon: Daemon, upstream: Upstream) {
    let stage = Stage::new("claude", daemon, upstream).await;
    let mut script = Script::start(client, &stage).await;
    let mut cells = Cells::new(&client.title(), daemon.name(), upstream.name());
    for operation in client.operations {
        let Some(task) = Operation::named(operation, upstream) else { continue };
        cells.add(operation, run(&mut script, operation, &task, &stage).await);
    }
    cells.finish();
}

async fn run(script: &mut Script, name: &str, task: &Operation, stage: &Stage) -> Outcome {
    let before = stage.requests().len();
    stage.script(task.replies());
    let answer = script.run(name).await;
    task.judge(&answer, &stage.requests()[before..])
}

macro_rules! clients {
    ($($client:ident: $constant:ident;)*) => {$(
        mod $client {
            use super::*;

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn mcpd_over_openai() {
                check(&script::$constant, Daemon::Mcpd, Upstream::OpenAi).await;
            }

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn mcpd_over_anthropic() {
                check(&script::$constant, Daemon::Mcpd, Upstream::Anthropic).await;
            }

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn agent_falls_back_to_openai() {
                check(&script::$constant, Daemon::Agent, Upstream::OpenAi).await;
            }

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn agent_falls_back_to_anthropic() {
                check(&script::$constant, Daemon::Agent, Upstream::Anthropic).await;
            }
        }
    )*};
}

clients! {
    langchain: LANGCHAIN;
    litellm: LITELLM;
    llm: LLM;
    vercel: VERCEL;
    aider: AIDER;
}

/// aider's edits are beyond a small model.
macro_rules! clients_of_llama_server {
    ($($client:ident: $constant:ident;)*) => {$(
        mod $client {
            use super::super::*;

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn mcpd_over_it() {
                check(&script::$constant, Daemon::Mcpd, Upstream::LlamaServer).await;
            }

            #[tokio::test]
            #[ignore = "packages of clients: cargo xtask test clients"]
            async fn agent_falls_back_to_it() {
                check(&script::$constant, Daemon::Agent, Upstream::LlamaServer).await;
            }
        }
    )*};
}

mod llama_server {
    clients_of_llama_server! {
        langchain: LANGCHAIN;
        litellm: LITELLM;
        llm: LLM;
        vercel: VERCEL;
    }
}
