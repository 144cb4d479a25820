//! The life of an engine with real child processes: start, share, idle, drain, crash, kill, sweep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    io::{BufRead as _, BufReader},
    num::NonZeroU32,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpctl_engine::{
    Arbiter, Engine, EngineError, EngineHost, EngineOptions, EngineSpec, EngineState, Need, Placement,
    ServerKind, StartPhase, SuspendClock, sweep,
};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::time::Instant;

const TEST_TIMEOUT: Duration = Duration::from_secs(40);

/// A program of this crate's examples. Where tests are run with `--all-targets`, cargo builds examples as tests and not as
/// programs: then they are built here, once for all.
fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.ancestors().nth(2).unwrap();
    let path = profile.join("examples").join(name);
    if !path.is_file() {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "mcpctl-engine",
            "--examples",
            "--target-dir",
        ]);
        build.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success() && path.is_file(), "`{name}` cannot be built");
    }
    path
}

/// A directory with a model file that scripts the engine.
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
            server: ServerKind::LLAMA_SERVER,
            model: model.display().to_string(),
            command: Some(example("fake_engine")),
            venv: None,
            context_length: Some(512),
            gpu_memory_utilization: None,
            tensor_parallel_size: None,
            dtype: None,
            quantization: None,
            idle_timeout: Duration::from_secs(600),
            start_timeout: Duration::from_secs(30),
        };
        Self { dir, spec }
    }

    fn engine(&self) -> Engine {
        self.engine_with(EngineOptions::default())
    }

    fn engine_with(&self, options: EngineOptions) -> Engine {
        Engine::with_options(self.spec.clone(), options, self.host())
    }

    fn host(&self) -> EngineHost {
        let dir = self.dir.path().to_owned();
        EngineHost::new(example("agent"), dir.clone(), dir)
    }

    /// As vLLM, which can sleep.
    fn vllm(script: &str) -> Self {
        let mut world = Self::new(script);
        world.spec.server = ServerKind::VLLM;
        world
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("fake.log")).unwrap_or_default()
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

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn soon() -> Instant {
    Instant::now() + TEST_TIMEOUT
}

#[tokio::test]
async fn waiters_share_one_start_that_a_completion_proves_ready() {
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
    let status = engine.measured_status();
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
async fn idle_engine_stops_and_starts_again() {
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
async fn early_exit_fails_all_waiters_at_once_with_the_reason() {
    for (script, how) in
        [("exit 3 out of memory\n", "exit code 3"), ("exit 0 nothing to do\n", "exit code 0")]
    {
        let world = World::new(script);
        let engine = world.engine();
        let (one, two) = tokio::join!(engine.ensure_ready(soon()), engine.ensure_ready(soon()));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            let message = error.to_string();
            assert!(message.contains(how), "{message}");
            assert!(message.contains("out of memory") || message.contains("nothing to do"), "{message}");
            assert_eq!(error.hint().as_deref(), Some("mcpctl local logs fake"));
        }
        assert_eq!(world.starts().len(), 1, "one start for both");
        assert!(engine.status().last_error.is_some());
    }
}

#[tokio::test]
async fn crash_loop_backs_off_and_reports_it() {
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
async fn unexpected_end_is_a_failure_and_the_next_request_starts_it() {
    let world = World::new("crash\n");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let url = format!("{}/chat/completions", guard.endpoint().base_url);
    let _ = guard.endpoint().http.post(url).body("{}").send().await;
    until("the end is seen", || engine.status().state == EngineState::Failed).await;
    assert!(engine.status().last_error.unwrap().contains("exit code 0"));
    drop(guard);
    let guard = engine.ensure_ready(soon()).await.unwrap();
    assert_eq!(world.starts().len(), 2);
    drop(guard);
    engine.shutdown().await;
}

#[tokio::test]
async fn engine_that_never_becomes_ready_is_stopped_at_the_timeout() {
    let mut world = World::new("unready\n");
    world.spec.start_timeout = Duration::from_millis(800);
    let engine = world.engine();
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::StartTimeout { .. }), "{error}");
    until("it is gone", || group(world.starts()[0]) == 0).await;
    until("that is known", || engine.status().state == EngineState::Failed).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_tried_once_on_another() {
    let world = World::vllm("taken\n");
    let engine = world.engine();
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.stop().await;
}

#[tokio::test]
async fn healthy_engine_that_rejects_completions_fails_early() {
    let world = World::new("unready\n");
    let engine = world.engine();
    let begun = Instant::now();
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::WarmUp { .. }), "{error}");
    assert!(error.to_string().contains("500 Internal Server Error"), "{error}");
    assert!(begun.elapsed() < world.spec.start_timeout / 2);
    until("it is gone", || group(world.starts()[0]) == 0).await;
}

#[tokio::test]
async fn engine_for_embeddings_is_ready_when_it_computes_one() {
    let world = World::new("embeds\n");
    let engine = world.engine();
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert!(world.log().contains("the first request: 501"), "{}", world.log());
    engine.shutdown().await;
}

#[tokio::test]
async fn start_without_waiters_is_abandoned() {
    let world = World::new("load 60000\n");
    let options = EngineOptions { abandon_after: Some(Duration::ZERO), ..EngineOptions::default() };
    let engine = world.engine_with(options);
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await }
    });
    until("it runs", || !world.starts().is_empty()).await;
    waiter.abort();
    until("it is abandoned", || engine.status().state == EngineState::Stopped).await;
    assert_eq!((group(world.starts()[0]), world.records()), (0, 0));
    assert_eq!(engine.status().last_error, None, "it is no failure");
}

#[tokio::test]
async fn start_goes_on_for_a_request_that_is_repeated_soon() {
    let world = World::new("load 600\n");
    let engine = world.engine();
    let error = engine.ensure_ready(Instant::now() + Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, EngineError::Deadline { .. }), "{error}");
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 1);
    engine.stop().await;
}

#[tokio::test]
async fn early_exit_is_reported_before_stubborn_children_are_gone() {
    let world = World::new("child\ndie 7 no memory\n");
    let engine = world.engine();
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(error.to_string().contains("exit code 7") && error.to_string().contains("no memory"), "{error}");
    let pid = world.starts()[0];
    assert_eq!(group(pid), 1, "its child is there still");
    std::fs::write(&world.spec.model, "").unwrap();
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(group(pid), 0, "two engines do not fit into the memory of one");
    engine.stop().await;
}

#[tokio::test]
async fn process_outside_the_group_is_ended_too() {
    let world = World::new("stray\n");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let file = format!("{}.stray", world.spec.model);
    let stray: u32 = std::fs::read_to_string(file).unwrap().parse().unwrap();
    // In a session of its own it leads a group of its own.
    until("it has its own group", || group(stray) > 0).await;
    drop(guard);
    engine.stop().await;
    assert_eq!(group(stray), 0);
}

#[tokio::test]
async fn a_stranger_on_the_engines_port_gets_no_prompt() {
    let mut world = World::vllm("shy\n");
    world.spec.start_timeout = Duration::from_secs(20);
    let engine = world.engine();
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let (port_file, received) = (format!("{}.port", world.spec.model), Arc::clone(&heard));
    let stranger = tokio::spawn(async move {
        let mut known = String::new();
        loop {
            let port = tokio::fs::read_to_string(&port_file).await.unwrap_or_default();
            if port.is_empty() || port == known {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            known = port;
            let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{known}")).await.unwrap();
            let received = Arc::clone(&received);
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                    let mut head = vec![0; 4096];
                    let length = stream.read(&mut head).await.unwrap_or(0);
                    received.lock().unwrap().push_str(&String::from_utf8_lossy(&head[..length]));
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                        .await;
                }
            });
        }
    });
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    stranger.abort();
    assert!(matches!(error, EngineError::PortTaken { .. }), "{error}");
    assert_eq!(world.starts().len(), 2, "once more on another port, and no more");
    let heard = heard.lock().unwrap();
    assert!(heard.contains("GET /health") && !heard.contains("POST") && !heard.contains("earer"), "{heard}");
}

#[tokio::test]
async fn draining_engine_and_its_successor_do_not_interfere() {
    let world = World::new("");
    let (before, after) = (world.engine(), world.engine());
    let running = before.ensure_ready(soon()).await.unwrap();
    let ending = tokio::spawn({
        let before = before.clone();
        async move { before.shutdown().await }
    });
    drop(after.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.records(), 2);
    drop(running);
    ending.await.unwrap();
    assert_eq!((world.records(), group(world.starts()[0])), (1, 0));
    assert!(group(world.starts()[1]) > 0 && after.status().state == EngineState::Ready);
    after.stop().await;
}

#[tokio::test]
async fn stop_rejects_the_waiters_of_a_start() {
    let world = World::new("load 60000\n");
    let engine = world.engine();
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await }
    });
    until("it runs", || !world.starts().is_empty()).await;
    engine.stop().await;
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, EngineError::Stopped { .. }), "{error}");
    assert_eq!((group(world.starts()[0]), world.records()), (0, 0));
    engine.shutdown().await;
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    assert!(matches!(error, EngineError::ShuttingDown { .. }), "{error}");
}

#[tokio::test]
async fn progress_tells_how_far_a_start_is() {
    let world = World::new("load 300\n");
    let engine = world.engine();
    let mut progress = engine.progress();
    let watched = tokio::spawn(async move {
        let mut seen = Vec::new();
        while progress.changed().await.is_ok() {
            let status = progress.borrow_and_update().clone();
            let step = (status.state, status.phase, status.pid.is_some());
            if seen.last() != Some(&step) {
                seen.push(step);
            }
            if status.state == EngineState::Ready {
                break;
            }
        }
        seen
    });
    drop(engine.ensure_ready(soon()).await.unwrap());
    let seen = watched.await.unwrap();
    assert!(seen.contains(&(EngineState::Starting, Some(StartPhase::Loading), true)), "{seen:?}");
    assert_eq!(seen.last(), Some(&(EngineState::Ready, None, true)));
    engine.stop().await;
}

#[tokio::test]
async fn inv_16_engine_without_handles_ends() {
    let world = World::new("");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let pid = world.starts()[0];
    drop(engine);
    assert!(group(pid) > 0, "a request still runs");
    drop(guard);
    until("it is gone", || group(pid) == 0).await;
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
async fn stop_waits_for_the_request_and_ends_stubborn_children() {
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

fn agent_command(world: &World) -> Command {
    let mut command = Command::new(example("agent"));
    command.arg(world.spec.command.as_ref().unwrap()).arg(&world.spec.model).arg(world.dir.path());
    command
}

fn start_agent(world: &World) -> (std::process::Child, u32) {
    start(agent_command(world))
}

fn start(mut command: Command) -> (std::process::Child, u32) {
    let mut agent = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (agent, line.trim().strip_prefix("ready ").unwrap().parse().unwrap())
}

#[tokio::test]
async fn inv_16_killed_agent_leaves_no_stubborn_engine() {
    let mut world = World::new("child\n");
    stubborn(&mut world);
    let (mut agent, pid) = start_agent(&world);
    assert!(group(pid) >= 2);
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("the engine's group is gone", || group(pid) == 0).await;
}

#[tokio::test]
async fn inv_16_killed_agent_leaves_no_process_outside_the_group() {
    let world = World::new("stray\n");
    let (mut agent, pid) = start_agent(&world);
    let file = format!("{}.stray", world.spec.model);
    let stray: u32 = std::fs::read_to_string(file).unwrap().parse().unwrap();
    until("it has its own group", || group(stray) > 0).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("both are gone", || group(pid) + group(stray) == 0).await;
}

fn guardian_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned()
}

fn signal(signal: &str, pids: &[&str]) {
    assert!(Command::new("kill").arg(signal).args(pids).status().unwrap().success());
}

/// The file of its shared memory, which is there.
fn shared(world: &World) -> PathBuf {
    let file = std::fs::read_to_string(format!("{}.shared", world.spec.model)).unwrap();
    assert!(Path::new(&file).exists(), "{file}");
    file.into()
}

#[tokio::test]
async fn inv_16_shared_memory_of_killed_processes_is_removed() {
    let world = World::new("shares\n");
    // By its guardian, when it is stopped.
    let engine = world.engine();
    drop(engine.ensure_ready(soon()).await.unwrap());
    let file = shared(&world);
    engine.shutdown().await;
    assert!(!file.exists());
    // By the agent, when the guardian is killed.
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let file = shared(&world);
    signal("-KILL", &[&guardian_of(*world.starts().last().unwrap())]);
    until("that is known", || engine.status().state == EngineState::Failed).await;
    assert!(!file.exists());
    drop(guard);
    // By the guardian, when the agent is killed.
    let (mut agent, _) = start_agent(&world);
    let file = shared(&world);
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("its memory is gone", || !file.exists()).await;
    // By the next agent, when both are.
    let (mut agent, pid) = start_agent(&world);
    let (file, guardian, agent_id) = (shared(&world), guardian_of(pid), agent.id().to_string());
    signal("-STOP", &[&guardian, &agent_id]);
    signal("-KILL", &[&guardian, &agent_id]);
    agent.wait().unwrap();
    sweep(world.dir.path()).await;
    assert!(!file.exists());
}

#[tokio::test]
async fn inv_16_next_start_sweeps_after_agent_and_guardian_were_killed() {
    let mut world = World::new("child\n");
    stubborn(&mut world);
    let (mut agent, pid) = start_agent(&world);
    let (guardian, agent_id) = (guardian_of(pid), agent.id().to_string());
    // Stopped first, so that neither can see the other go and act.
    signal("-STOP", &[&guardian, &agent_id]);
    signal("-KILL", &[&guardian, &agent_id]);
    agent.wait().unwrap();
    assert!(group(pid) >= 2, "it is left over");
    let swept = sweep(world.dir.path()).await;
    assert_eq!((group(pid), world.records()), (0, 0), "{swept:?}");
    assert_eq!((swept.len(), swept[0].pid, swept[0].gone), (1, pid, true));
}

#[tokio::test]
async fn inv_16_children_that_are_left_over_are_swept() {
    let world = World::new("child\n");
    let (mut agent, pid) = start_agent(&world);
    let (guardian, agent_id) = (guardian_of(pid), agent.id().to_string());
    signal("-STOP", &[&guardian, &agent_id]);
    signal("-KILL", &[&guardian, &agent_id, &pid.to_string()]);
    agent.wait().unwrap();
    until("the leader is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    assert!(group(pid) > 0, "its child is left over");
    assert_eq!(sweep(world.dir.path()).await.len(), 1);
    assert_eq!((group(pid), world.records()), (0, 0));
}

#[tokio::test]
async fn inv_16_agent_ends_the_engine_of_a_killed_guardian() {
    let mut world = World::new("child\n");
    stubborn(&mut world);
    let engine = world.engine();
    let _guard = engine.ensure_ready(soon()).await.unwrap();
    let pid = world.starts()[0];
    signal("-KILL", &[&guardian_of(pid)]);
    until("the engine's group is gone", || group(pid) == 0).await;
    until("that is known", || engine.status().state == EngineState::Failed).await;
    assert!(engine.status().last_error.unwrap().contains("its guardian was killed"));
    assert_eq!(world.records(), 0);
}

#[tokio::test]
async fn guardian_ignores_signals_for_the_agent() {
    let world = World::new("");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let guardian = guardian_of(world.starts()[0]);
    for name in ["-TERM", "-INT", "-HUP"] {
        signal(name, &[&guardian]);
    }
    // Pending signals are shown there, so each has arrived.
    let status = std::fs::read_to_string(format!("/proc/{guardian}/status")).unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(pending, 16).unwrap(), 1 << 14 | 1 << 1 | 1);
    assert_eq!(engine.status().state, EngineState::Ready);
    drop(guard);
    engine.stop().await;
    assert_eq!(group(world.starts()[0]), 0, "the engine itself is not deaf, and the guardian has ended it");
}

#[tokio::test]
async fn inv_10_engines_inherit_only_listed_variables() {
    let world = World::new("");
    let mut command = agent_command(&world);
    command
        .env("MCPCTL_TOKEN", "mcp_secret")
        .env("MCPD_DATABASE_URL", "postgres://secret")
        .env("MCPLOCAL_KEY", "local_secret")
        .env("OPENAI_API_KEY", "sk-secret")
        .env("SOME_DATABASE", "secret")
        .env("LD_AUDIT", "")
        .env("LLAMA_ARG_TOOLS", "secret")
        .env("CUDA_VISIBLE_DEVICES", "7");
    let (mut agent, pid) = start(command);
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(
        environment.contains("CUDA_VISIBLE_DEVICES=7") && !environment.contains("secret"),
        "{environment}"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("it is gone", || group(pid) == 0).await;
}

#[tokio::test]
async fn llama_server_is_reached_by_its_socket_alone() {
    let world = World::new("");
    let engine = world.engine();
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let status = engine.status();
    assert_eq!(status.port, None);
    let socket = status.socket.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    // None of its processes listens where other users and web pages get.
    let listening = Command::new("ss").args(["-Htlnp"]).output();
    if let Ok(listening) = listening {
        let pid = format!("pid={},", status.pid.unwrap());
        assert!(!String::from_utf8_lossy(&listening.stdout).contains(&pid));
    }
    let record = std::fs::read_dir(world.dir.path()).unwrap().flatten().map(|file| file.path());
    let record = record.into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    assert_eq!(mode(&record), 0o600);
    drop(guard);
    engine.shutdown().await;
    until("its socket is removed", || !socket.exists()).await;
}

#[tokio::test]
async fn record_of_another_process_ends_no_process() {
    use std::os::unix::process::CommandExt as _;
    let world = World::new("");
    // A leader of the recorded number that was started at another time.
    let mut bystander = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    // A group of the recorded number whose leader is gone, as a shell's pipeline may be.
    let mut leader = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
    let orphans = leader.id();
    until("it has a child", || group(orphans) == 2).await;
    leader.kill().unwrap();
    leader.wait().unwrap();
    for (name, pid) in [("x", bystander.id()), ("y", orphans)] {
        let record = format!(r#"{{"engine":"{name}","pid":{pid},"identity":"another","mark":"m"}}"#);
        std::fs::write(world.dir.path().join(format!("{name}-{pid}.json")), record).unwrap();
    }
    assert!(sweep(world.dir.path()).await.is_empty());
    assert!(bystander.try_wait().unwrap().is_none(), "another program's process was ended");
    assert_eq!((group(orphans), world.records()), (1, 0));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    signal("-KILL", &["--", &format!("-{orphans}")]);
}

#[tokio::test]
async fn missing_program_or_model_is_reported_before_the_spawn() {
    let error_of = |change: fn(&mut EngineSpec)| {
        let mut world = World::new("");
        change(&mut world.spec);
        let error = world.spec.check().unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    assert!(
        error_of(|spec| spec.model = "/no/such/model.gguf".to_owned())
            .contains("the model `/no/such/model.gguf` does not exist")
    );
    assert!(
        error_of(|spec| spec.command = Some("/no/such/engine".into()))
            .contains("`/no/such/engine` is not there")
    );
    assert!(
        error_of(|spec| {
            spec.server = ServerKind::VLLM;
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

#[tokio::test]
async fn concurrency_is_bounded_and_waiters_are_served_in_order() {
    let world = World::new("");
    let options =
        EngineOptions { concurrency: NonZeroU32::new(2), queue: Some(1), ..EngineOptions::default() };
    let engine = world.engine_with(options);
    let first = engine.ensure_ready(soon()).await.unwrap();
    let second = engine.ensure_ready(soon()).await.unwrap();
    let third = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await }
    });
    until("one waits", || engine.status().queued == 1).await;
    let error = engine.ensure_ready(soon()).await.unwrap_err();
    let EngineError::Busy { waiting: 1, retry_after, .. } = error else { panic!("{error}") };
    assert!((1..=60).contains(&retry_after.as_secs()));
    assert_eq!(engine.status().in_flight, 2);
    drop(first);
    let third = third.await.unwrap().unwrap();
    assert_eq!((engine.status().in_flight, engine.status().queued), (2, 0));
    drop((second, third));
    assert_eq!(world.starts().len(), 1);
    until("its use is on record", || engine.status().last_used.is_some()).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn sleeping_engine_keeps_its_process_and_is_woken_by_a_request() {
    let mut world = World::vllm("");
    world.spec.idle_timeout = Duration::from_millis(100);
    let engine = world.engine_with(EngineOptions { standby: true, ..EngineOptions::default() });
    drop(engine.ensure_ready(soon()).await.unwrap());
    until("it sleeps", || engine.status().state == EngineState::Sleeping).await;
    let pid = engine.status().pid.unwrap();
    assert!(world.log().contains("falls asleep") && group(pid) == 1, "{}", world.log());
    let guard = engine.ensure_ready(soon()).await.unwrap();
    assert!(world.log().contains("wakes"));
    assert_eq!((world.starts().len(), engine.status().pid), (1, Some(pid)), "the same process");
    drop(guard);
    until("it sleeps again", || engine.status().state == EngineState::Sleeping).await;
    engine.stop().await;
    assert_eq!((engine.status().state, group(pid), world.records()), (EngineState::Stopped, 0, 0));
}

#[tokio::test]
async fn engine_that_cannot_sleep_is_stopped_with_the_reason() {
    let mut world = World::vllm("restless\n");
    world.spec.idle_timeout = Duration::from_millis(100);
    let engine = world.engine_with(EngineOptions { standby: true, ..EngineOptions::default() });
    drop(engine.ensure_ready(soon()).await.unwrap());
    until("it stops", || engine.status().state == EngineState::Stopped).await;
    let error = engine.status().last_error.unwrap();
    assert!(error.contains("cannot sleep"), "{error}");
}

#[tokio::test]
async fn a_sleeper_that_was_killed_is_started_again() {
    let mut world = World::vllm("");
    world.spec.idle_timeout = Duration::from_millis(100);
    let engine = world.engine_with(EngineOptions { standby: true, ..EngineOptions::default() });
    drop(engine.ensure_ready(soon()).await.unwrap());
    until("it sleeps", || engine.status().state == EngineState::Sleeping).await;
    kill(engine.status().pid.unwrap());
    until("that is noticed", || engine.status().state == EngineState::Failed).await;
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.shutdown().await;
}

#[tokio::test]
async fn engines_of_one_group_take_turns_without_cutting_requests() {
    let (one, two) = (World::new(""), World::new(""));
    let host = one.host();
    let first = Engine::new(one.spec.clone(), host.clone());
    let spec = EngineSpec { name: "other".to_owned(), ..two.spec.clone() };
    let second = Engine::new(spec, host.clone());
    let running = first.ensure_ready(soon()).await.unwrap();
    let waiting = tokio::spawn({
        let second = second.clone();
        async move { second.ensure_ready(soon()).await }
    });
    until("the first is preempted", || first.status().state == EngineState::Draining).await;
    assert_eq!(second.status().phase, Some(StartPhase::WaitingForRoom));
    let pid = one.starts()[0];
    // A request for the first arrives meanwhile: it has its turn after the second.
    let again = tokio::spawn({
        let first = first.clone();
        async move { first.ensure_ready(soon()).await }
    });
    until("it waits", || first.status().queued == 1).await;
    assert_eq!((group(pid), two.starts().len()), (1, 0));
    drop(running);
    let guard = waiting.await.unwrap().unwrap();
    assert_eq!(group(pid), 0, "gone before the second began");
    drop(guard);
    drop(again.await.unwrap().unwrap());
    assert_eq!((one.starts().len(), two.starts().len()), (2, 1));
    until("the second gave way", || second.status().state == EngineState::Stopped).await;
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_sleeper_leaves_its_room_to_others() {
    let (one, two) = (World::vllm(""), World::new(""));
    let host = one.host();
    let options = EngineOptions { standby: true, ..EngineOptions::default() };
    let first = Engine::with_options(one.spec.clone(), options, host.clone());
    let second = Engine::new(EngineSpec { name: "other".to_owned(), ..two.spec.clone() }, host);
    drop(first.ensure_ready(soon()).await.unwrap());
    drop(second.ensure_ready(soon()).await.unwrap());
    assert_eq!(first.status().state, EngineState::Sleeping);
    drop(first.ensure_ready(soon()).await.unwrap());
    assert_eq!((one.starts().len(), second.status().state), (1, EngineState::Stopped));
    first.shutdown().await;
    second.shutdown().await;
}

/// A host whose driver is a script that knows a GPU of 24 GiB with `$free` MiB free; `script` sets it.
fn with_driver(world: &World, script: &str) -> EngineHost {
    let program = world.dir.path().join("nvidia-smi");
    let lines = format!("#!/bin/sh\n{script}\necho \"0, GPU-aa, RTX, $((24576 - free)), $free\"\n");
    std::fs::write(&program, lines).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    EngineHost { arbiter: Arc::new(Arbiter::with_nvidia_smi(program)), ..world.host() }
}

fn needing(need: Need) -> EngineOptions {
    let placement = Placement { need, ..Placement::default() };
    EngineOptions { placement, ..EngineOptions::default() }
}

#[tokio::test]
async fn engines_that_fit_together_start_one_after_the_other() {
    let (one, two) = (World::new("hold\n"), World::new(""));
    let hold = format!("{}.hold", one.spec.model);
    std::fs::write(&hold, "").unwrap();
    let host = with_driver(&one, "free=24000");
    let first = Engine::with_options(one.spec.clone(), needing(Need::Bytes(10 << 30)), host.clone());
    let spec = EngineSpec { name: "other".to_owned(), ..two.spec.clone() };
    let second = Engine::with_options(spec, needing(Need::Bytes(10 << 30)), host);
    let starting = |engine: &Engine| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.ensure_ready(soon()).await })
    };
    let one_ready = starting(&first);
    until("the first loads", || first.status().phase == Some(StartPhase::Loading)).await;
    let two_ready = starting(&second);
    until("the second waits", || second.status().phase == Some(StartPhase::WaitingForRoom)).await;
    assert_eq!((first.status().phase, two.starts().len()), (Some(StartPhase::Loading), 0));
    std::fs::remove_file(hold).unwrap();
    let guards = (one_ready.await.unwrap().unwrap(), two_ready.await.unwrap().unwrap());
    drop(guards);
    assert_eq!((first.status().state, second.status().state), (EngineState::Ready, EngineState::Ready));
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn sleeper_that_kept_memory_is_woken() {
    let (mut one, two) = (World::vllm(""), World::new(""));
    one.spec.idle_timeout = Duration::from_millis(100);
    // Asleep it keeps 4 of its 22 GiB.
    let script = format!(
        "case $(grep -e 'key' -e 'falls asleep' -e 'wakes' {}/fake.log | tail -n 1) in
            *asleep*) free=20480;; '') free=24576;; *) free=2048;; esac",
        one.dir.path().display()
    );
    let host = with_driver(&one, &script);
    let options = EngineOptions { standby: true, ..needing(Need::Share { of: 0.9, gpus: 1 }) };
    let engine = Engine::with_options(one.spec.clone(), options, host.clone());
    drop(engine.ensure_ready(soon()).await.unwrap());
    until("it sleeps", || engine.status().state == EngineState::Sleeping).await;
    let guard = engine.ensure_ready(soon()).await.unwrap();
    assert_eq!(one.starts().len(), 1);
    let spec = EngineSpec { name: "other".to_owned(), ..two.spec.clone() };
    let beside = Engine::with_options(spec, needing(Need::Bytes(1 << 30)), host);
    drop(beside.ensure_ready(soon()).await.unwrap());
    assert_eq!(engine.status().state, EngineState::Ready);
    drop(guard);
    engine.shutdown().await;
    beside.shutdown().await;
}

#[tokio::test]
async fn suspended_machine_has_engines_checked_before_requests() {
    let world = World::new("hang\n");
    let slept = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&slept);
    let suspended = SuspendClock::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let host = EngineHost { suspended, ..world.host() };
    let engine = Engine::new(world.spec.clone(), host);
    drop(engine.ensure_ready(soon()).await.unwrap());
    // It survived.
    slept.store(3600, Ordering::SeqCst);
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 1);
    // It did not: the next request gets a new one.
    std::fs::write(format!("{}.hang", world.spec.model), "").unwrap();
    slept.store(7200, Ordering::SeqCst);
    let asked = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await }
    });
    until("that is noticed", || engine.status().last_error.is_some()).await;
    std::fs::remove_file(format!("{}.hang", world.spec.model)).unwrap();
    drop(asked.await.unwrap().unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.shutdown().await;
}

#[tokio::test]
async fn suspect_engine_that_completes_nothing_is_ended() {
    let world = World::new("deaf\n");
    let engine =
        world.engine_with(EngineOptions { concurrency: NonZeroU32::new(1), ..EngineOptions::default() });
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let deaf = format!("{}.deaf", world.spec.model);
    std::fs::write(&deaf, "").unwrap();
    guard.release_suspect();
    let next = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ensure_ready(soon()).await }
    });
    until("that is noticed", || engine.status().last_error.is_some()).await;
    let error = engine.status().last_error.unwrap();
    assert!(error.contains("does not answer any more: no completion within"), "{error}");
    std::fs::remove_file(deaf).unwrap();
    drop(next.await.unwrap().unwrap());
    assert_eq!(world.starts().len(), 2);
    engine.shutdown().await;
}

#[tokio::test]
async fn retired_engine_finishes_requests_and_accepts_none() {
    let world = World::new("");
    let options = EngineOptions { drain_timeout: Duration::from_millis(1), ..EngineOptions::default() };
    let engine = world.engine_with(options);
    let guard = engine.ensure_ready(soon()).await.unwrap();
    let pid = engine.status().pid.unwrap();
    let retired = tokio::spawn({
        let engine = engine.clone();
        async move { engine.retire().await }
    });
    until("it drains", || engine.status().state == EngineState::Draining).await;
    assert!(matches!(engine.ensure_ready(soon()).await, Err(EngineError::ShuttingDown { .. })));
    // Longer than a stop would have let it.
    tokio::time::timeout(Duration::from_millis(200), async {
        while group(pid) == 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_err();
    drop(guard);
    retired.await.unwrap();
    until("it is over", || engine.is_shut_down()).await;
    assert_eq!(group(pid), 0);
}

#[tokio::test]
async fn kept_engine_runs_until_a_user_stops_it() {
    let world = World::new("");
    let engine = world.engine_with(EngineOptions { keep: true, ..EngineOptions::default() });
    let is = |state| move |engine: &Engine| engine.status().state == state;
    let (ready, stopped) = (is(EngineState::Ready), is(EngineState::Stopped));
    until("it starts with the agent", || ready(&engine)).await;
    kill(world.starts()[0]);
    until("it starts again after it was killed", || world.starts().len() == 2 && ready(&engine)).await;
    engine.stop().await;
    assert!(stopped(&engine));
    engine.prewarm();
    assert!(!engine.is_prewarmed(), "a prewarm does not undo the stop of a user");
    drop(engine.ensure_ready(soon()).await.unwrap());
    assert_eq!(world.starts().len(), 3);
    assert!(engine.is_prewarmed());
    engine.shutdown().await;
}
