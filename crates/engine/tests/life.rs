//! The life of an engine with real child processes: start, share, idle, drain, crash, kill, sweep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use mcpctl_engine::{Engine, EngineError, EngineHost, EngineKind, EngineSpec, EngineState, sweep};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(40);

fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("examples").join(name)
}

/// A directory with a model file that tells the engine what to do.
struct World {
    dir: TempDir,
    spec: EngineSpec,
}

impl World {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.gguf");
        std::fs::write(&model, script).unwrap();
        let spec = EngineSpec {
            name: "fake".to_owned(),
            kind: EngineKind::LlamaServer,
            model: model.display().to_string(),
            command: Some(example("fake_engine")),
            venv: None,
            context_length: Some(512),
            gpu_memory_utilization: None,
            idle_timeout: Duration::from_secs(600),
            start_timeout: Duration::from_secs(30),
        };
        Self { dir, spec }
    }

    fn engine(&self) -> Engine {
        let dir = self.dir.path().to_owned();
        let host = EngineHost { guardian: example("agent"), state_dir: dir.clone(), log_dir: dir };
        Engine::new(self.spec.clone(), host)
    }

    /// Processes of the engine that were ever started.
    fn starts(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(format!("{}.starts", self.spec.model)).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn records(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|e| e == "json")).count()
    }
}

/// Living processes of a group, by ps, which is not our own code.
fn group(pid: u32) -> usize {
    let output = Command::new("ps").args(["-e", "-o", "pgid=,stat="]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let members = lines.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    members.filter(|(group, stat)| *group == pid.to_string() && !stat.trim().starts_with('Z')).count()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn twenty_waiters_share_one_start_and_readiness_is_proved_by_a_completion() {
    let world = World::new("load 300\n");
    let engine = world.engine();
    let waiters = (0..20).map(|_| {
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await.unwrap() }
    });
    let waiters: Vec<_> = waiters.map(tokio::spawn).collect();
    let mut guards = Vec::new();
    for waiter in waiters {
        guards.push(waiter.await.unwrap());
    }
    assert_eq!(world.starts().len(), 1);
    until("all are counted", || engine.status().in_flight == 20).await;
    let status = engine.status();
    assert_eq!((status.state, status.starts, status.pid), (EngineState::Ready, 1, Some(world.starts()[0])));
    assert!(status.resident_bytes.is_some_and(|bytes| bytes > 0));
    let key = guards[0].endpoint().api_key.expose_secret().to_owned();
    let log = std::fs::read_to_string(engine.log_file()).unwrap();
    assert!(log.contains("[redacted]") && !log.contains(&key), "{log}");
    let line = std::fs::read(format!("/proc/{}/cmdline", world.starts()[0])).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains(&key), "the key is not in argv");
    drop(guards);
    engine.shutdown().await;
}

#[tokio::test]
async fn it_stops_when_idle_counted_from_the_last_release_and_starts_again() {
    let mut world = World::new("");
    world.spec.idle_timeout = Duration::from_millis(300);
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let pid = world.starts()[0];
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(700) {
        assert_eq!(engine.status().state, EngineState::Ready, "a guard keeps it from being stopped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(guard);
    until("the idle stop", || engine.status().state == EngineState::Stopped).await;
    assert_eq!((group(pid), world.records()), (0, 0));
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.stop().await;
}

#[tokio::test]
async fn an_early_exit_is_told_at_once_to_everybody_with_its_last_words() {
    for (script, how) in
        [("exit 3 out of memory\n", "exit code 3"), ("exit 0 nothing to do\n", "exit code 0")]
    {
        let world = World::new(script);
        let engine = world.engine();
        let (one, two) = tokio::join!(engine.ensure_ready(soon()), engine.ensure_ready(soon()));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            let said = error.to_string();
            assert!(said.contains(how), "{said}");
            assert!(said.contains("out of memory") || said.contains("nothing to do"), "{said}");
            assert_eq!(error.hint().as_deref(), Some("mcpctl local logs fake"));
        }
        assert_eq!(world.starts().len(), 1, "one start for both");
        assert!(engine.status().last_error.is_some());
    }
}

#[tokio::test]
async fn a_crash_loop_backs_off_and_says_so() {
    let world = World::new("exit 1 broken\n");
    let engine = world.engine();
    for _ in 0..2 {
        assert!(matches!(engine.ensure_ready(soon()).await, Err(EngineError::Exited { .. })));
    }
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::BackingOff { failures: 2, .. }), "{error}");
    assert!(error.to_string().contains("broken"), "{error}");
    assert_eq!(world.starts().len(), 2);
    assert_eq!(engine.status().state, EngineState::BackingOff);
}

#[tokio::test]
async fn an_end_that_was_not_asked_for_is_a_failure_and_the_next_request_starts_it_again() {
    let world = World::new("crash\n");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let url = format!("{}/chat/completions", guard.endpoint().base_url);
    let _ = reqwest::Client::builder().no_proxy().build().unwrap().post(url).body("{}").send().await;
    until("the end is seen", || engine.status().state == EngineState::BackingOff).await;
    assert!(engine.status().last_error.unwrap().contains("exit code 0"));
    drop(guard);
    let guard = engine.ensure_ready(soon()).await.unwrap();
    assert_eq!(world.starts().len(), 2);
    drop(guard);
    engine.shutdown().await;
}

#[tokio::test]
async fn what_never_becomes_ready_is_stopped_when_its_time_is_over() {
    let mut world = World::new("unready\n");
    world.spec.start_timeout = Duration::from_millis(800);
    let engine = world.engine();
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::StartTimeout { .. }), "{error}");
    assert_eq!(group(world.starts()[0]), 0);
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_once_on_another() {
    let world = World::new("taken\n");
    let engine = world.engine();
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.stop().await;
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_is_abandoned() {
    let world = World::new("load 60000\n");
    let engine = world.engine();
    let error = engine.ensure_ready(Instant::now() + Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, EngineError::Deadline { .. }), "{error}");
    until("it is abandoned", || engine.status().state == EngineState::Stopped).await;
    assert_eq!(group(world.starts()[0]), 0);
}

#[tokio::test]
async fn a_waiter_that_goes_away_does_not_disturb_the_others() {
    let world = World::new("load 400\n");
    let engine = world.engine();
    let impatient = engine.ensure_ready(Instant::now() + Duration::from_millis(50));
    let (gone, guard) = tokio::join!(impatient, engine.ensure_ready(soon()));
    assert!(gone.is_err());
    let guard = guard.unwrap();
    assert_eq!(world.starts().len(), 1);
    until("only one is counted", || engine.status().in_flight == 1).await;
    drop(guard);
    engine.shutdown().await;
}

#[tokio::test]
async fn stopping_waits_for_the_running_request_and_ends_stubborn_children_too() {
    let world = World::new("child\n");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let pid = world.starts()[0];
    until("the child runs", || group(pid) >= 2).await;
    let stop = tokio::spawn({
        let engine = engine.clone();
        async move { engine.stop().await }
    });
    until("it drains", || engine.status().state == EngineState::Draining).await;
    assert!(!stop.is_finished() && group(pid) >= 2);
    drop(guard);
    stop.await.unwrap();
    assert_eq!((group(pid), world.records()), (0, 0));
}

/// An engine behind a script that makes it ignore SIGTERM.
fn stubborn(world: &mut World) {
    let script = world.dir.path().join("stubborn");
    let engine = example("fake_engine");
    std::fs::write(&script, format!("#!/bin/sh\ntrap '' TERM\nexec {} \"$@\"\n", engine.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.spec.command = Some(script);
}

fn start_agent(world: &World) -> (std::process::Child, u32) {
    let mut agent = Command::new(example("agent"))
        .arg(world.spec.command.as_ref().unwrap())
        .arg(&world.spec.model)
        .arg(world.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (agent, line.trim().strip_prefix("ready ").unwrap().parse().unwrap())
}

#[tokio::test]
async fn inv_16_when_the_agent_is_killed_its_engine_goes_even_a_stubborn_one() {
    let mut world = World::new("child\n");
    stubborn(&mut world);
    let (mut agent, pid) = start_agent(&world);
    assert!(group(pid) >= 2);
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("the engine's group is gone", || group(pid) == 0).await;
}

#[tokio::test]
async fn inv_16_when_agent_and_guardian_are_both_killed_the_next_start_sweeps() {
    let world = World::new("");
    let (mut agent, pid) = start_agent(&world);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let guardian = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    Command::new("kill").args(["-9", &guardian, &agent.id().to_string()]).status().unwrap();
    agent.wait().unwrap();
    // The dying agent may have ended it by itself, when it saw its guardian go.
    let swept = sweep(world.dir.path()).await;
    assert_eq!((group(pid), world.records()), (0, 0), "{swept:?}");
}

#[tokio::test]
async fn a_record_of_another_process_ends_nobody() {
    let world = World::new("");
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let record = format!(r#"{{"engine":"x","pid":{},"startTime":1}}"#, bystander.id());
    std::fs::write(world.dir.path().join("x.json"), record).unwrap();
    assert!(sweep(world.dir.path()).await.is_empty());
    assert!(bystander.try_wait().unwrap().is_none(), "somebody else's process was ended");
    assert_eq!(world.records(), 0);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn what_is_missing_is_said_before_anything_is_spawned() {
    let told = |change: fn(&mut EngineSpec)| {
        let mut world = World::new("");
        change(&mut world.spec);
        let error = world.spec.check().unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    assert!(
        told(|spec| spec.model = "/no/such/model.gguf".to_owned())
            .contains("the model `/no/such/model.gguf` does not exist")
    );
    assert!(
        told(|spec| spec.command = Some("/no/such/engine".into())).contains("`/no/such/engine` is not there")
    );
    assert!(
        told(|spec| {
            spec.kind = EngineKind::Vllm;
            spec.command = None;
            spec.venv = Some("/no/such/venv".into());
        })
        .contains("`/no/such/venv/bin/vllm` is not there")
    );
    let mut world = World::new("");
    world.spec.model = "/no/such/model.gguf".to_owned();
    let error = world.engine().ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::Spec { .. }), "{error}");
    assert!(!Path::new(&format!("{}.starts", world.spec.model)).exists());
}
