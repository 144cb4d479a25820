//! Which claims are granted and which engines are preempted, with fake engines and cards that are files. The clock is paused
//! where time matters.

use std::{os::unix::fs::PermissionsExt as _, pin::Pin};

use tempfile::TempDir;
use tokio::time::timeout;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::*;
use crate::{
    memory::{placement::Need, tenant::Preempt},
    status::{EngineState, EngineStatus},
};

const GB: u64 = 1 << 30;
/// Longer than any step takes.
const LONG: Duration = Duration::from_secs(600);

/// An engine without a process, which records that it is preempted.
struct FakeEngine {
    tenant: Tenant,
    preempted: mpsc::UnboundedReceiver<()>,
    status: watch::Sender<EngineStatus>,
}

impl FakeEngine {
    fn is(&self, state: EngineState) {
        self.status.send_modify(|status| status.state = state);
    }

    /// Whether it was preempted since the last call.
    fn was_preempted(&mut self) -> bool {
        self.preempted.try_recv().is_ok()
    }
}

fn fake(name: &str) -> FakeEngine {
    let (preempt, preempted) = mpsc::unbounded_channel();
    let (changes, status) = watch::channel(EngineStatus {
        name: name.to_owned(),
        state: EngineState::Ready,
        phase: None,
        percent: None,
        since: Timestamp::now(),
        pid: None,
        port: None,
        socket: None,
        model: String::new(),
        in_flight: 0,
        queued: 0,
        last_used: None,
        resident_bytes: None,
        gpu_bytes: None,
        starts: 1,
        last_error: None,
    });
    let preempt = Preempt::new(move || preempt.send(()).unwrap_or_default());
    let tenant = Tenant { name: name.to_owned(), status, preempt };
    FakeEngine { tenant, preempted, status: changes }
}

fn claim(group: &str, need: Need, capacity: Option<u64>) -> Claim {
    let place = Placement { group: group.to_owned(), need, capacity };
    Claim { place, sees: Visible::default() }
}

fn bytes(gib: u64) -> Claim {
    claim("gpu", Need::Bytes(gib * GB), None)
}

fn share(of: f64, gpus: u32) -> Claim {
    claim("gpu", Need::Share { of, gpus }, None)
}

/// An engine that sees only some cards.
fn seeing(devices: &str, claim: Claim) -> Claim {
    let env = [("HIP_VISIBLE_DEVICES".to_owned(), devices.to_owned())].into_iter().collect();
    Claim { sees: Visible::to(&env), ..claim }
}

fn without_driver() -> Arc<Arbiter> {
    let drivers = Drivers { nvidia_smi: "/no/nvidia-smi".into(), drm: "/no/drm".into() };
    Arc::new(Arbiter { drivers, ..Arbiter::default() })
}

/// Cards of amdgpu, which are files: no process is waited for, so the clock may be paused.
struct Cards(TempDir);

impl Cards {
    fn new(cards: &[(u64, u64)]) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.set(cards);
        this
    }

    /// Total and free, GiB.
    fn set(&self, cards: &[(u64, u64)]) {
        for (number, (total, free)) in cards.iter().enumerate() {
            let device = self.0.path().join(format!("card{number}/device"));
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("mem_info_vram_total"), (total * GB).to_string()).unwrap();
            std::fs::write(device.join("mem_info_vram_used"), ((total - free) * GB).to_string()).unwrap();
        }
    }

    fn arbiter(&self) -> Arc<Arbiter> {
        let drivers = Drivers { nvidia_smi: "/no/nvidia-smi".into(), drm: self.0.path().to_owned() };
        Arc::new(Arbiter { drivers, ..Arbiter::default() })
    }
}

/// An arbiter whose driver is a script.
fn with_driver(dir: &std::path::Path, script: &str) -> Arc<Arbiter> {
    let nvidia_smi = dir.join("nvidia-smi");
    std::fs::write(&nvidia_smi, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&nvidia_smi, std::fs::Permissions::from_mode(0o755)).unwrap();
    Arc::new(Arbiter {
        drivers: Drivers { nvidia_smi, drm: dir.join("drm") },
        grace: Duration::from_millis(50),
        free_timeout: Duration::from_millis(300),
        poll_interval: Duration::from_millis(5),
        ..Arbiter::default()
    })
}

/// The claim of an engine, to be polled.
fn claims(
    arbiter: &Arc<Arbiter>,
    claim: &Claim,
    engine: &FakeEngine,
) -> Pin<Box<dyn Future<Output = LeaseResult>>> {
    let (arbiter, claim, tenant) = (Arc::clone(arbiter), claim.clone(), engine.tenant.clone());
    Box::pin(async move { arbiter.lease(&claim, tenant, None).await })
}

type LeaseResult = Result<Lease, EngineError>;

/// A lease of an engine that is ready.
async fn ready(arbiter: &Arc<Arbiter>, claim: &Claim, engine: &FakeEngine) -> Lease {
    let mut lease = timeout(LONG, claims(arbiter, claim, engine)).await.unwrap().unwrap();
    lease.settle();
    lease
}

#[tokio::test]
async fn claims_of_one_group_are_served_in_order() {
    let arbiter = without_driver();
    let (mut one, two, three, other) = (fake("one"), fake("two"), fake("three"), fake("other"));
    let alone = claim("gpu", Need::Unknown, None);
    let first = arbiter.lease(&alone, one.tenant.clone(), None).await.unwrap();
    let _beside =
        arbiter.lease(&claim("cpu", Need::Unknown, None), other.tenant.clone(), None).await.unwrap();
    let mut second = claims(&arbiter, &alone, &two);
    let mut third = claims(&arbiter, &alone, &three);
    assert!(poll_now(&mut second).await.is_none() && poll_now(&mut third).await.is_none());
    assert!(one.was_preempted());
    assert!(!one.was_preempted(), "it is preempted once");
    drop(first);
    let second = second.await.unwrap();
    assert!(poll_now(&mut third).await.is_none());
    drop(second);
    third.await.unwrap();
}

#[tokio::test]
async fn dropped_claim_leaves_the_queue() {
    let arbiter = without_driver();
    let (one, two, three) = (fake("one"), fake("two"), fake("three"));
    let alone = Claim::default();
    let first = arbiter.lease(&alone, one.tenant.clone(), None).await.unwrap();
    let mut second = claims(&arbiter, &alone, &two);
    let mut third = claims(&arbiter, &alone, &three);
    assert!(poll_now(&mut second).await.is_none() && poll_now(&mut third).await.is_none());
    drop(second);
    drop(first);
    drop(third.await.unwrap());
    arbiter.until_vacant(&alone).await;
}

#[tokio::test]
async fn what_can_never_fit_is_refused_with_both_figures() {
    let arbiter = without_driver();
    let big = claim("gpu", Need::Bytes(30 * GB), Some(24 * GB));
    let error = arbiter.lease(&big, fake("big").tenant.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `big` needs 30.0 GiB, and there are 24.0 GiB in all");
    arbiter.until_vacant(&big).await;
}

#[tokio::test]
async fn engines_that_are_known_to_fit_share_the_memory() {
    let arbiter = without_driver();
    let half = claim("gpu", Need::Bytes(10 * GB), Some(24 * GB));
    let (mut one, mut two, three) = (fake("one"), fake("two"), fake("three"));
    let _first = arbiter.lease(&half, one.tenant.clone(), None).await.unwrap();
    let _second = arbiter.lease(&half, two.tenant.clone(), None).await.unwrap();
    let mut third = claims(&arbiter, &half, &three);
    assert!(poll_now(&mut third).await.is_none());
    let preempted = [one.was_preempted(), two.was_preempted()];
    assert_eq!(preempted.iter().filter(|preempted| **preempted).count(), 1, "one that leaves is enough");
}

#[tokio::test]
async fn the_driver_has_the_last_word_on_what_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let arbiter = with_driver(dir.path(), "echo '0, GPU-aa, RTX, 16384, 8192'");
    let error = arbiter.lease(&share(0.75, 1), fake("vllm").tenant.clone(), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "engine `vllm` needs 18.0 GiB of GPU memory, and 8.0 GiB of 24.0 GiB are free; other programs hold the rest"
    );
    arbiter.lease(&share(0.3, 1), fake("small").tenant.clone(), None).await.unwrap();
    let error = arbiter.lease(&share(0.3, 2), fake("wide").tenant.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `wide` wants 2 GPUs, and sees 1");
}

/// Another program, which a scripted driver reports as the holder of memory.
struct Program(std::process::Child);

impl Program {
    /// One of its own group, as the leader of an engine is too.
    fn start() -> Self {
        use std::os::unix::process::CommandExt as _;
        let child = std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        // Until exec, it is a copy of this test.
        while mcpctl_supervisor::process_group::command_line(child.id()).as_deref() != Some("sleep 600") {
            std::thread::yield_now();
        }
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A driver with a card of 24 GiB, of which a program holds 18 GiB and 3 GiB are free, until there is a file `gone`.
fn beside_program(dir: &std::path::Path, program: &Program) -> String {
    format!(
        "cd {}; case $1 in --query-gpu=*) [ -e gone ] && echo '0, GPU-aa, RTX, 0, 24576' || echo '0, GPU-aa, RTX, 21504, 3072';;
            *) [ -e gone ] || echo 'GPU-aa, {}, sleep, 18432';; esac",
        dir.display(),
        program.pid()
    )
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn start_that_a_program_leaves_too_little_for_preempts_no_engine() {
    let (dir, program) = (tempfile::tempdir().unwrap(), Program::start());
    let arbiter = with_driver(dir.path(), &beside_program(dir.path(), &program));
    let mut one = fake("one");
    let _first = ready(&arbiter, &bytes(2), &one).await;
    for (claim, need) in [(bytes(10), "10.0"), (share(0.5, 1), "12.0")] {
        let error = arbiter.lease(&claim, fake("vllm").tenant.clone(), None).await.unwrap_err();
        let expected = format!(
            "engine `vllm` needs {need} GiB of GPU memory, and 3.0 GiB of 24.0 GiB are free; `sleep` (pid {}) holds 18.0 GiB",
            program.pid()
        );
        assert_eq!(error.to_string(), expected);
    }
    assert!(!one.was_preempted());
    // 6 GiB would be free without the engine.
    let mut fits = claims(&arbiter, &bytes(6), &fake("fits"));
    tokio::select! {
        _ = &mut fits => panic!("the engine has not left"),
        _ = one.preempted.recv() => {}
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn start_goes_on_once_the_other_program_has_ended() {
    let (dir, program) = (tempfile::tempdir().unwrap(), Program::start());
    let arbiter = with_driver(dir.path(), &beside_program(dir.path(), &program));
    let arbiter = Arc::new(Arbiter { grace: LONG, ..Arc::into_inner(arbiter).unwrap() });
    let mut start = claims(&arbiter, &bytes(10), &fake("next"));
    assert!(timeout(Duration::from_millis(50), &mut start).await.is_err());
    std::fs::write(dir.path().join("gone"), "").unwrap();
    timeout(LONG, start).await.unwrap().unwrap();
}

/// What an engine holds, once the driver has answered: no question waits until it has.
async fn known(arbiter: &Arbiter, engine: &EngineStatus) -> Option<u64> {
    let asked = async {
        loop {
            if let Some(held) = arbiter.held_by(engine).await {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, asked).await.ok()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn slow_driver_holds_up_no_question_and_its_answer_counts_later() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Program::start());
    let go = dir.path().join("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.02; done
            case $1 in --query-gpu=*) echo '0, GPU-aa, NVIDIA H200, 7952, 135205';;
            *) echo 'GPU-aa, {}, sleep, 7920';; esac",
        go.display(),
        engine.pid()
    );
    let arbiter = with_driver(dir.path(), &script);
    let mut status = fake("desk").status.borrow().clone();
    status.pid = Some(engine.pid());
    assert_eq!(arbiter.held_by(&status).await, None, "the driver has not answered");
    std::fs::write(&go, "").unwrap();
    assert_eq!(known(&arbiter, &status).await, Some(7920 << 20));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_of_an_engine_is_known_where_the_driver_names_every_process() {
    let (dir, engine, on_cpu) = (tempfile::tempdir().unwrap(), Program::start(), Program::start());
    // As of an H200, whose driver has 32 MiB of its own in use beside llama-server's.
    let reading = |used: u64| {
        format!(
            "case $1 in --query-gpu=*) echo '0, GPU-aa, NVIDIA H200, {used}, 135205';;
                *) echo 'GPU-aa, {}, sleep, 7920';; esac",
            engine.pid()
        )
    };
    let status = |program: &Program, seconds: i64| {
        let mut status = fake("desk").status.borrow().clone();
        status.pid = Some(program.pid());
        status.since = Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
        status
    };
    let arbiter = with_driver(dir.path(), &reading(7952));
    assert_eq!(known(&arbiter, &status(&engine, 0)).await, Some(7920 << 20));
    assert_eq!(known(&arbiter, &status(&on_cpu, 60)).await, Some(0));
    assert_eq!(arbiter.held_by(&status(&on_cpu, 0)).await, None, "it may hold some by now");
    let drawing = with_driver(dir.path(), &reading(8500));
    assert_eq!(drawing.held_by(&status(&on_cpu, 60)).await, None, "a process that is not named may be its");
    assert_eq!(known(&drawing, &status(&engine, 60)).await, Some(7920 << 20));
    assert_eq!(without_driver().held_by(&status(&engine, 60)).await, None);
    assert_eq!(Cards::new(&[(24, 24)]).arbiter().held_by(&status(&engine, 60)).await, None);
}

#[tokio::test]
async fn next_start_waits_until_the_driver_reports_free_memory() {
    let dir = tempfile::tempdir().unwrap();
    // The driver frees it a few looks after the process is gone.
    let script = format!(
        "[ ${{1%%=*}} = --query-gpu ] || exit 0; cd {} && echo x >> looks && free=100; [ $(wc -l < looks) -lt 5 ] || free=24000; echo \"0, GPU-aa, RTX, $((24576 - free)), $free\"",
        dir.path().display()
    );
    let arbiter = with_driver(dir.path(), &script);
    arbiter.lease(&share(0.9, 1), fake("next").tenant.clone(), None).await.unwrap();
    assert_eq!(looks(dir.path()), 5);
}

fn looks(dir: &std::path::Path) -> usize {
    std::fs::read_to_string(dir.join("looks")).unwrap_or_default().lines().count()
}

#[tokio::test(start_paused = true)]
async fn starts_do_not_wait_for_each_other_beside_another_program() {
    let cards = Cards::new(&[(24, 4)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, ten) = (fake("one"), fake("two"), bytes(10));
    let both = async {
        tokio::join!(
            arbiter.lease(&ten, one.tenant.clone(), None),
            arbiter.lease(&ten, two.tenant.clone(), None)
        )
    };
    let (first, second) = timeout(LONG, both).await.expect("both are refused");
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(error.to_string().contains("4.0 GiB of 24.0 GiB are free"), "{error}");
    }
    assert!(!one.was_preempted() && !two.was_preempted(), "neither has anything to give");
}

#[tokio::test(start_paused = true)]
async fn with_a_driver_one_engine_of_a_group_starts_at_a_time() {
    let cards = Cards::new(&[(24, 24)]);
    let (arbiter, ten) = (cards.arbiter(), bytes(10));
    let (one, two, three, other) = (fake("one"), fake("two"), fake("three"), fake("other"));
    let mut first = arbiter.lease(&ten, one.tenant.clone(), None).await.unwrap();
    let mut second = claims(&arbiter, &ten, &two);
    assert!(timeout(LONG, &mut second).await.is_err(), "the first has not taken its memory yet");
    let elsewhere = claim("other", Need::Bytes(GB), None);
    arbiter.lease(&elsewhere, other.tenant.clone(), None).await.unwrap();
    first.settle();
    let second = timeout(LONG, second).await.unwrap().unwrap();
    let mut third = claims(&arbiter, &bytes(4), &three);
    assert!(timeout(LONG, &mut third).await.is_err());
    drop(second);
    timeout(LONG, third).await.expect("a start that failed is over too").unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_next_claim_preempts_a_start() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, mut three) = (fake("one"), fake("two"), fake("three"));
    let first = arbiter.lease(&bytes(20), one.tenant.clone(), None).await.unwrap();
    let mut fits = claims(&arbiter, &bytes(4), &two);
    assert!(timeout(LONG, &mut fits).await.is_err());
    let mut third = claims(&arbiter, &bytes(20), &three);
    assert!(timeout(LONG, &mut third).await.is_err());
    assert!(!one.was_preempted(), "who is next fits beside it, and the other is not next");
    drop(fits);
    assert!(timeout(LONG, &mut third).await.is_err());
    assert!(one.was_preempted() && !two.was_preempted());
    let mut fourth = claims(&arbiter, &bytes(20), &two);
    assert!(timeout(LONG, &mut fourth).await.is_err());
    drop(first);
    assert!(timeout(LONG, &mut fourth).await.is_err(), "it looks before the third does");
    let _third = timeout(LONG, third).await.unwrap().unwrap();
    assert!(timeout(LONG, &mut fourth).await.is_err());
    assert!(three.was_preempted(), "as soon as it has begun");
}

#[tokio::test(start_paused = true)]
async fn waking_needs_what_came_free_when_it_fell_asleep() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (engine, vllm) = (fake("vllm"), share(0.9, 1));
    let mut lease = ready(&arbiter, &vllm, &engine).await;
    cards.set(&[(24, 2)]);
    let falls_asleep = async {
        cards.set(&[(24, 20)]);
        Ok(())
    };
    lease.sleep(falls_asleep).await.unwrap();
    engine.is(EngineState::Sleeping);
    // All that is used is its own: 4 GiB of the 22 that it had.
    let awake = arbiter.lease(&vllm, engine.tenant.clone(), Some(&lease)).await.unwrap();
    drop(awake);
    cards.set(&[(24, 17)]);
    let error = arbiter.lease(&vllm, engine.tenant.clone(), Some(&lease)).await.unwrap_err();
    assert!(error.to_string().contains("needs 18.0 GiB of GPU memory, and 17.0 GiB of 24.0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fall_asleep_keeps_its_room() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (engine, other, vllm) = (fake("vllm"), fake("other"), share(0.9, 1));
    let mut lease = ready(&arbiter, &vllm, &engine).await;
    let error = EngineError::Stopped { name: "vllm".to_owned() };
    assert_eq!(lease.sleep(std::future::ready(Err(error.clone()))).await, Err(error));
    let mut next = claims(&arbiter, &vllm, &other);
    assert!(timeout(LONG, &mut next).await.is_err());
    lease.sleep(std::future::ready(Ok(()))).await.unwrap();
    timeout(LONG, next).await.unwrap().unwrap();
}

/// A sleeper that left 2 GiB of a card of 24 behind.
async fn sleeper(cards: &Cards, arbiter: &Arc<Arbiter>) -> (FakeEngine, Lease) {
    let engine = fake("sleeper");
    let mut lease = ready(arbiter, &share(0.9, 1), &engine).await;
    cards.set(&[(24, 2)]);
    let falls_asleep = async {
        cards.set(&[(24, 22)]);
        Ok(())
    };
    lease.sleep(falls_asleep).await.unwrap();
    engine.is(EngineState::Sleeping);
    (engine, lease)
}

#[tokio::test(start_paused = true)]
async fn sleeper_is_preempted_last() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut asleep, left) = sleeper(&cards, &arbiter).await;
    let (mut tenant, next) = (fake("tenant"), fake("next"));
    let small = ready(&arbiter, &bytes(1), &tenant).await;
    cards.set(&[(24, 21)]);
    let big = bytes(23);
    let mut start = claims(&arbiter, &big, &next);
    assert!(timeout(LONG, &mut start).await.is_err());
    assert!(tenant.was_preempted() && !asleep.was_preempted());
    drop(small);
    cards.set(&[(24, 22)]);
    assert!(timeout(Duration::from_secs(5), &mut start).await.is_err());
    assert!(asleep.was_preempted(), "there was no other engine");
    asleep.is(EngineState::Draining);
    drop(left);
    cards.set(&[(24, 24)]);
    timeout(LONG, start).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_that_stays_is_not_waited_for_for_ever() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut asleep, _left) = sleeper(&cards, &arbiter).await;
    let begun = Instant::now();
    let start = claims(&arbiter, &bytes(23), &fake("next"));
    let error = timeout(LONG, start).await.expect("it is refused").unwrap_err();
    assert!(error.to_string().contains("22.0 GiB of 24.0 GiB are free"), "{error}");
    assert!(asleep.was_preempted() && !asleep.was_preempted(), "it is preempted once");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn who_is_to_be_woken_has_others_go_and_not_itself() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, first) = sleeper(&cards, &arbiter).await;
    cards.set(&[(24, 24)]);
    let (mut two, _second) = sleeper(&cards, &arbiter).await;
    cards.set(&[(24, 10)]);
    arbiter.lease(&share(0.9, 1), one.tenant.clone(), Some(&first)).await.unwrap_err();
    assert!(!one.was_preempted() && two.was_preempted());
}

#[tokio::test(start_paused = true)]
async fn a_share_is_of_the_first_gpus_that_an_engine_sees() {
    let cards = Cards::new(&[(24, 24), (24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two) = (fake("one"), fake("two"));
    let first = ready(&arbiter, &share(0.9, 1), &one).await;
    let mut same = claims(&arbiter, &share(0.9, 1), &fake("same"));
    assert!(timeout(LONG, &mut same).await.is_err());
    assert!(one.was_preempted(), "both would take the first GPU");
    drop(same);
    let second = ready(&arbiter, &seeing("1", share(0.9, 1)), &two).await;
    assert!(!one.was_preempted() && !two.was_preempted(), "neither is in the other's way");
    let third = seeing("1", share(0.9, 1));
    assert!(timeout(LONG, claims(&arbiter, &third, &fake("third"))).await.is_err());
    assert!(!one.was_preempted() && two.was_preempted(), "who has another GPU need not go");
    // Of both there are 4.8 GiB left by the books.
    let mut wide = claims(&arbiter, &bytes(5), &fake("wide"));
    assert!(timeout(LONG, &mut wide).await.is_err());
    drop((first, second));
    cards.set(&[(24, 2), (24, 4)]);
    timeout(LONG, wide).await.expect("it may take what is free of both").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_gpus_that_it_is_about() {
    let cards = Cards::new(&[(24, 24), (24, 3)]);
    let arbiter = cards.arbiter();
    let refused = async |claim: Claim| {
        arbiter.lease(&claim, fake("vllm").tenant.clone(), None).await.unwrap_err().to_string()
    };
    assert_eq!(
        refused(seeing("1,0", share(0.75, 1))).await,
        "engine `vllm` needs 18.0 GiB of GPU memory, and 3.0 GiB of 24.0 GiB are free on GPU 1; other programs hold the rest"
    );
    assert_eq!(refused(seeing("1", share(0.5, 2))).await, "engine `vllm` wants 2 GPUs, and sees 1",);
    assert_eq!(
        refused(seeing("1", bytes(30))).await,
        "engine `vllm` needs 30.0 GiB, and there are 24.0 GiB in all"
    );
    assert!(refused(bytes(30)).await.contains("27.0 GiB of 48.0 GiB are free; other"));
}

#[tokio::test(start_paused = true)]
async fn vacancy_counts_engines_that_fit_beside() {
    let cards = Cards::new(&[(24, 24)]);
    let (arbiter, ten) = (cards.arbiter(), bytes(10));
    let (one, two) = (fake("one"), fake("two"));
    let first = ready(&arbiter, &ten, &one).await;
    timeout(LONG, arbiter.until_vacant(&ten)).await.expect("there is room beside the other");
    assert!(timeout(LONG, arbiter.until_vacant(&bytes(20))).await.is_err());
    let mut starting = arbiter.lease(&bytes(2), two.tenant.clone(), None).await.unwrap();
    let mut vacant = Box::pin(arbiter.until_vacant(&ten));
    assert!(timeout(LONG, &mut vacant).await.is_err(), "an engine starts");
    starting.settle();
    timeout(LONG, vacant).await.unwrap();
    drop((first, starting));
    let waiting = Lease { arbiter: Arc::clone(&arbiter), ticket: arbiter.ledger().enqueue("gpu") };
    assert!(timeout(LONG, arbiter.until_vacant(&ten)).await.is_err(), "an earlier claim waits");
    drop(waiting);
    timeout(LONG, arbiter.until_vacant(&ten)).await.unwrap();
}

#[tokio::test]
async fn vacancy_asks_the_driver_only_after_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cd {} && echo x >> looks; echo '0, GPU-aa, RTX, 576, 24000'", dir.path().display());
    let arbiter = with_driver(dir.path(), &script);
    let (one, other) = (fake("one"), fake("other"));
    let lease = ready(&arbiter, &bytes(20), &one).await;
    let elsewhere = ready(&arbiter, &claim("other", Need::Bytes(GB), None), &other).await;
    let (before, beside) = (looks(dir.path()), bytes(10));
    let mut vacant = Box::pin(arbiter.until_vacant(&beside));
    let looked = async |times| {
        while looks(dir.path()) < before + times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // It is long done with its look when the next change comes.
    for (times, change) in [(1, None), (2, Some(elsewhere))] {
        drop(change);
        tokio::select! {
            () = &mut vacant => panic!("there is no room"),
            () = looked(times) => {}
        }
        let quiet = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            () = &mut vacant => panic!("there is no room"),
            () = quiet => {}
        }
    }
    drop(lease);
    vacant.await;
    assert_eq!(looks(dir.path()), before + 2, "and not to see that the group is empty");
}

#[tokio::test(start_paused = true)]
async fn memory_has_a_moment_to_be_free_before_a_preemption() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, next) = (fake("one"), fake("two"), fake("next"));
    let first = ready(&arbiter, &bytes(4), &one).await;
    let _second = ready(&arbiter, &bytes(4), &two).await;
    cards.set(&[(24, 2)]);
    let twelve = bytes(12);
    let mut start = claims(&arbiter, &twelve, &next);
    assert!(timeout(Duration::from_millis(1900), &mut start).await.is_err());
    assert!(!one.was_preempted() && !two.was_preempted());
    assert!(timeout(Duration::from_millis(1100), &mut start).await.is_err());
    let preempted = (one.was_preempted(), two.was_preempted());
    assert_eq!(preempted, (true, false), "one after the other");
    drop(first);
    assert!(timeout(Duration::from_millis(1400), &mut start).await.is_err());
    assert!(!two.was_preempted(), "what the first held has a moment too");
    cards.set(&[(24, 13)]);
    timeout(LONG, start).await.unwrap().unwrap();
    assert!(!two.was_preempted());
}

#[tokio::test(start_paused = true)]
async fn unknown_need_waits_until_no_more_memory_becomes_free() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, next, unknown) = (fake("one"), fake("next"), claim("gpu", Need::Unknown, None));
    let first = ready(&arbiter, &unknown, &one).await;
    cards.set(&[(24, 1)]);
    let mut start = claims(&arbiter, &unknown, &next);
    assert!(timeout(LONG, &mut start).await.is_err());
    assert!(one.was_preempted());
    drop(first);
    for free in [2, 10, 20] {
        assert!(timeout(Duration::from_millis(450), &mut start).await.is_err(), "{free}");
        cards.set(&[(24, free)]);
    }
    let begun = Instant::now();
    timeout(LONG, start).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "and no longer");
}

#[tokio::test(start_paused = true)]
async fn share_of_configured_memory_needs_no_driver() {
    let arbiter = without_driver();
    let vllm = |of| claim("gpu", Need::Share { of, gpus: 1 }, Some(24 * GB));
    let (mut one, two, three) = (fake("one"), fake("two"), fake("three"));
    let _first = arbiter.lease(&vllm(0.5), one.tenant.clone(), None).await.unwrap();
    let beside = vllm(0.4);
    let second = claims(&arbiter, &beside, &two);
    let _second = timeout(LONG, second).await.unwrap().unwrap();
    let more = vllm(0.2);
    let mut third = claims(&arbiter, &more, &three);
    assert!(poll_now(&mut third).await.is_none());
    assert!(one.was_preempted());
}

/// The output of a future that is ready at once, after every other task has run.
async fn poll_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}
