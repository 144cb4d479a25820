//! An agent for tests: the guardian when it is called as one, else the owner of one engine until it is killed.
//!
//! `agent ENGINE MODEL DIR` prints `ready PID` once the engine is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use mcpctl_engine::{Engine, EngineHost, EngineSpec, ServerKind, guardian};
use tokio::time::Instant;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "engine-guardian") {
        return guardian::run(words);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = PathBuf::from(&args[2]);
    let host = EngineHost::new(std::env::current_exe().unwrap(), dir.clone(), dir);
    let spec = EngineSpec {
        name: "owned".to_owned(),
        server: ServerKind::LLAMA_SERVER,
        model: args[1].clone(),
        command: Some(args[0].clone().into()),
        venv: None,
        context_length: None,
        gpu_memory_utilization: None,
        tensor_parallel_size: None,
        dtype: None,
        quantization: None,
        idle_timeout: Duration::from_secs(600),
        start_timeout: Duration::from_secs(30),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = Engine::new(spec, host);
        let _guard = engine.ensure_ready(Instant::now() + Duration::from_secs(30)).await.unwrap();
        println!("ready {}", engine.status().pid.unwrap());
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
