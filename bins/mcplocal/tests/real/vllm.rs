//! `vllm serve`, on the processor. Each start takes about half a minute.

use std::{fs, path::Path, time::Duration};

use mcpctl_testkit::daemons::within;
use reqwest::StatusCode;

use crate::{
    family,
    setup::{Real, Setup, gone, path},
    stories,
};

fn real() -> Real {
    with_environment("")
}

/// As [`real`], with more variables, each after a comma.
fn with_environment(more: &str) -> Real {
    // Without the variable, vLLM takes most of the machine's memory.
    let keys = format!(
        "maxModelLen: 2048\n    env: {{VLLM_CPU_KVCACHE_SPACE: \"1\"{more}}}\n    extraArgs: [--enforce-eager]"
    );
    Real {
        kind: "vllm-managed",
        program: path("MCPCTL_VLLM_VENV"),
        program_key: "venv",
        model: path("MCPCTL_VLLM_MODEL"),
        keys,
        gauge: "vllm:num_requests_running{",
        start_timeout: Duration::from_secs(240),
    }
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn starts_streams_cancels_and_stops_when_idle() {
    stories::starts_serves_and_idles(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_ends_with_a_killed_agent() {
    stories::the_agent_is_killed(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_ends_with_an_agent_killed_during_the_start() {
    let real = real();
    let mut setup = Setup::new(&real, "").await;
    let family = {
        // The core process imports modules for seconds and ignores SIGTERM meanwhile.
        let importing = async {
            let family = setup.family().await;
            within(real.start_timeout, "the core process runs", async || {
                (family.members().len() >= 3).then_some(())
            })
            .await;
            family
        };
        let start = setup.control("start");
        tokio::pin!(start);
        tokio::select! {
            family = importing => family,
            answer = &mut start => panic!("ready before it could be killed: {}", answer.status()),
        }
    };
    setup.deployment.agent.kill();
    gone(&family).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn finishes_its_stream_when_the_agent_stops() {
    stories::the_agent_stops(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn taken_port_is_replaced_by_another() {
    stories::the_port_is_taken(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn directory_that_is_no_model_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    stories::the_model_is_broken(&real(), dir.path(), "model_type").await;
}

/// When its core process dies, vLLM ends with exit code 0.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn killed_core_is_a_failure_and_a_request_restarts() {
    let real = real();
    let setup = Setup::new(&real, "").await;
    let family = setup.start().await;
    let names = family.names();
    let (core, _) = names.iter().find(|(_, name)| name.contains("VLLM::EngineCor")).expect("its core");
    family::kill_process(*core);
    within(Duration::from_secs(60), "the agent notices", async || {
        (setup.engine().await["state"] == "failed").then_some(())
    })
    .await;
    gone(&family).await;
    let error = setup.engine().await["lastError"].as_str().unwrap().to_owned();
    assert!(error.contains("ended by itself (exit code 0)"), "{error}");
    assert_eq!(setup.chat(false, 4).await.status(), StatusCode::OK);
    assert_eq!(setup.engine().await["starts"], 2);
}

/// The agent kills an engine that does not react, and removes its shared memory.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_frozen_engine_is_killed_without_leftovers() {
    let real = real();
    let setup = Setup::new(&real, "").await;
    let family = setup.start().await;
    let shared = family.shared_memory();
    assert!(!shared.is_empty(), "the engine has no shared memory");
    family.freeze();
    assert_eq!(setup.control("stop").await.status(), StatusCode::OK);
    assert!(family.members().is_empty(), "{:?}", family.names());
    assert!(shared.iter().all(|file| !file.exists()), "{shared:?}");
}

/// Sleeping needs a GPU, by vLLM's own error.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn standby_without_a_gpu_is_reported() {
    let real = real();
    let setup = Setup::new(&real, "swap: standby").await;
    let answer = setup.control("start").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let error = answer.text().await.unwrap();
    assert!(error.contains("Sleep mode is not supported"), "{error}");
}

/// vLLM does not sleep on a processor, which has no memory to free. A plugin, vLLM's own extension point, allows it; the routes
/// and the core that pauses and resumes are vLLM's own.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn sleeps_when_idle_and_wakes_for_a_request() {
    let plugins = tempfile::tempdir().unwrap();
    plugin(plugins.path());
    let real = with_environment(&format!(", PYTHONPATH: {}", plugins.path().display()));
    let setup = Setup::new(&real, "swap: standby\n    idleTimeout: 2s").await;
    let family = setup.start().await;
    let pid = setup.engine().await["pid"].clone();
    assert!(pid.is_u64());
    // Sleeping enables vLLM's development routes, which can call any method of its workers: they need the key.
    for path in ["/sleep", "/collective_rpc", "/metrics"] {
        assert_eq!(setup.post_to_engine(path, None).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(setup.post_to_engine("/metrics", Some(&family.key)).await, StatusCode::OK);
    for _ in 0..2 {
        setup.engine_is("sleeping").await;
        assert!(!family.members().is_empty());
        let answer = setup.chat(false, 4).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let engine = setup.engine().await;
    assert_eq!((&engine["pid"], &engine["starts"]), (&pid, &serde_json::json!(1)), "{engine}");
    let log = setup.log().await;
    assert_eq!(log.matches("POST /wake_up").count(), 2, "{log}");
    setup.engine_is("sleeping").await;
    assert_eq!(setup.control("stop").await.status(), StatusCode::OK);
    gone(&family).await;
}

fn plugin(dir: &Path) {
    let code = "def load():\n    from vllm.platforms import current_platform\n\
                \x20   type(current_platform).is_sleep_mode_available = lambda self: True\n";
    fs::write(dir.join("may_sleep.py"), code).unwrap();
    let info = dir.join("may_sleep-1.dist-info");
    fs::create_dir(&info).unwrap();
    fs::write(info.join("METADATA"), "Metadata-Version: 2.1\nName: may-sleep\nVersion: 1\n").unwrap();
    fs::write(info.join("entry_points.txt"), "[vllm.general_plugins]\nmay_sleep = may_sleep:load\n").unwrap();
}
