//! `vllm serve`, on the processor. Each start takes about half a minute.

use std::{fs, path::Path, time::Duration};

use mcpctl_testkit::daemons::within;
use reqwest::StatusCode;

use crate::{
    family, stories,
    world::{Real, World, gone, path},
};

fn real() -> Real {
    with_environment("")
}

/// With more variables, each with a comma before it.
fn with_environment(more: &str) -> Real {
    // Without the first, it would take most of the machine's memory for itself.
    let keys = format!(
        "maxModelLen: 2048\n    env: {{VLLM_CPU_KVCACHE_SPACE: \"1\"{more}}}\n    extraArgs: [--enforce-eager]"
    );
    Real {
        kind: "vllm-managed",
        program: path("MCPCTL_VLLM_VENV"),
        named_by: "venv",
        model: path("MCPCTL_VLLM_MODEL"),
        keys,
        gauge: "vllm:num_requests_running{",
        patience: Duration::from_secs(240),
    }
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn it_starts_streams_is_freed_and_rests() {
    stories::a_day(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_it_goes_with_an_agent_that_is_killed() {
    stories::the_agent_is_killed(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_it_goes_while_it_loads_with_an_agent_that_is_killed() {
    let real = real();
    let world = World::new(&real, "").await;
    let family = {
        // In its core, which imports for seconds and is deaf to SIGTERM meanwhile.
        let importing = async {
            let family = world.family().await;
            within(real.patience, "it has a core", async || (family.members().len() >= 3).then_some(()))
                .await;
            family
        };
        let start = world.control("start");
        tokio::pin!(start);
        tokio::select! {
            family = importing => family,
            answer = &mut start => panic!("ready before it could be killed: {}", answer.status()),
        }
    };
    drop(world.agent.kill());
    gone(&family).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn it_ends_its_stream_when_the_agent_ends() {
    stories::the_agent_ends_in_good_order(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn a_port_that_somebody_took_is_left_to_them() {
    stories::the_port_is_taken(&real()).await;
}

#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn a_directory_that_is_no_model_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    stories::the_model_is_none(&real(), dir.path(), "model_type").await;
}

/// When its core dies, the server ends too, and with code 0.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn a_core_that_was_killed_is_a_failure_and_the_next_request_starts_another() {
    let real = real();
    let world = World::new(&real, "").await;
    let family = world.start().await;
    let names = family.names();
    let (core, _) = names.iter().find(|(_, name)| name.contains("VLLM::EngineCor")).expect("its core");
    family::end(*core);
    within(Duration::from_secs(60), "it is noticed", async || {
        (world.engine().await["state"] == "failed").then_some(())
    })
    .await;
    gone(&family).await;
    let said = world.engine().await["lastError"].as_str().unwrap().to_owned();
    assert!(said.contains("ended by itself (exit code 0)"), "{said}");
    assert_eq!(world.ask(false, 4).await.status(), StatusCode::OK);
    assert_eq!(world.engine().await["starts"], 2);
}

/// One that hears nothing any more is killed, and what its processes shared is given back.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn inv_16_one_that_hangs_is_killed_and_leaves_no_memory() {
    let real = real();
    let world = World::new(&real, "").await;
    let family = world.start().await;
    let shared = family.shared_memory();
    assert!(!shared.is_empty(), "it shares none");
    family.halt();
    assert_eq!(world.control("stop").await.status(), StatusCode::OK);
    assert!(family.members().is_empty(), "{:?}", family.names());
    assert!(shared.iter().all(|file| !file.exists()), "{shared:?}");
}

/// Sleeping wants a GPU, and vLLM says so.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn without_a_gpu_it_cannot_stand_by_and_says_so() {
    let real = real();
    let world = World::new(&real, "swap: standby").await;
    let answer = world.control("start").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let said = answer.text().await.unwrap();
    assert!(said.contains("Sleep mode is not supported"), "{said}");
}

/// The processor has no memory to give back, so vLLM refuses to sleep there; a plugin, which is vLLM's own way to be
/// changed, says that it may. All else of it is as it is: its routes, its core that pauses and resumes.
#[tokio::test]
#[ignore = "real vLLM: cargo xtask test engines"]
async fn it_sleeps_when_idle_and_is_woken_by_a_request() {
    let plugins = tempfile::tempdir().unwrap();
    plugin(plugins.path());
    let real = with_environment(&format!(", PYTHONPATH: {}", plugins.path().display()));
    let world = World::new(&real, "swap: standby\n    idleTimeout: 2s").await;
    let family = world.start().await;
    let pid = world.engine().await["pid"].clone();
    assert!(pid.is_u64());
    // Its development routes come with sleeping, and call any method of its workers: nobody without the key gets there.
    for path in ["/sleep", "/collective_rpc", "/metrics"] {
        assert_eq!(world.knock(path, None).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(world.knock("/metrics", Some(&family.key)).await, StatusCode::OK);
    for _ in 0..2 {
        world.until("sleeping").await;
        assert!(!family.members().is_empty());
        let answer = world.ask(false, 4).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let engine = world.engine().await;
    assert_eq!((&engine["pid"], &engine["starts"]), (&pid, &serde_json::json!(1)), "{engine}");
    let log = world.log().await;
    assert_eq!(log.matches("POST /wake_up").count(), 2, "{log}");
    world.until("sleeping").await;
    assert_eq!(world.control("stop").await.status(), StatusCode::OK);
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
