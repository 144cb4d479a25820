//! Who enters, who gives way and what the driver says, with engines that are played by channels and cards by files. The
//! clock is paused where time matters.

use std::{os::unix::fs::PermissionsExt as _, pin::Pin};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::status::EngineState;
use jiff::Timestamp;

const GB: u64 = 1 << 30;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(600);

/// An engine that is played, and hears when it is to give way.
struct Played {
    tenant: Tenant,
    received: mpsc::UnboundedReceiver<Command>,
    _commands: mpsc::UnboundedSender<Command>,
    status: watch::Sender<EngineStatus>,
}

impl Played {
    fn is(&self, state: EngineState) {
        self.status.send_modify(|status| status.state = state);
    }

    /// Whether it was asked to give way since this was last asked.
    fn was_asked(&mut self) -> bool {
        matches!(self.received.try_recv(), Ok(Command::Preempt { start: 1 }))
    }
}

fn played(name: &str) -> Played {
    let (commands, received) = mpsc::unbounded_channel();
    let (told, status) = watch::channel(EngineStatus {
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
        starts: 1,
        last_error: None,
    });
    let tenant = Tenant { name: name.to_owned(), start: 1, commands: commands.downgrade(), status };
    Played { tenant, received, _commands: commands, status: told }
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
        this.tell(cards);
        this
    }

    /// Total and free, GiB.
    fn tell(&self, cards: &[(u64, u64)]) {
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

/// An engine that asks for room.
fn asks(arbiter: &Arc<Arbiter>, claim: &Claim, engine: &Played) -> Pin<Box<dyn Future<Output = Asked>>> {
    let (arbiter, claim, tenant) = (Arc::clone(arbiter), claim.clone(), engine.tenant.clone());
    Box::pin(async move { arbiter.lease(&claim, tenant, None).await })
}

type Asked = Result<Lease, EngineError>;

/// An engine that is ready and has its room.
async fn ready(arbiter: &Arc<Arbiter>, claim: &Claim, engine: &Played) -> Lease {
    let mut lease = timeout(LONG, asks(arbiter, claim, engine)).await.unwrap().unwrap();
    lease.settle();
    lease
}

#[tokio::test]
async fn one_group_takes_turns_in_the_order_of_asking_and_another_is_not_disturbed() {
    let arbiter = without_driver();
    let (mut one, two, three, other) = (played("one"), played("two"), played("three"), played("other"));
    let alone = claim("gpu", Need::Unknown, None);
    let first = arbiter.lease(&alone, one.tenant.clone(), None).await.unwrap();
    let _beside =
        arbiter.lease(&claim("cpu", Need::Unknown, None), other.tenant.clone(), None).await.unwrap();
    let mut second = asks(&arbiter, &alone, &two);
    let mut third = asks(&arbiter, &alone, &three);
    assert!(futures_now(&mut second).await.is_none() && futures_now(&mut third).await.is_none());
    assert!(matches!(one.received.try_recv(), Ok(Command::Preempt { start: 1 })));
    assert!(one.received.try_recv().is_err(), "it is asked once");
    drop(first);
    let second = second.await.unwrap();
    assert!(futures_now(&mut third).await.is_none());
    drop(second);
    third.await.unwrap();
}

#[tokio::test]
async fn who_stops_waiting_gives_its_place_in_the_queue_back() {
    let arbiter = without_driver();
    let (one, two, three) = (played("one"), played("two"), played("three"));
    let alone = Claim::default();
    let first = arbiter.lease(&alone, one.tenant.clone(), None).await.unwrap();
    let mut second = asks(&arbiter, &alone, &two);
    let mut third = asks(&arbiter, &alone, &three);
    assert!(futures_now(&mut second).await.is_none() && futures_now(&mut third).await.is_none());
    drop(second);
    drop(first);
    drop(third.await.unwrap());
    arbiter.until_vacant(&alone).await;
}

#[tokio::test]
async fn what_can_never_fit_is_refused_with_both_figures() {
    let arbiter = without_driver();
    let big = claim("gpu", Need::Bytes(30 * GB), Some(24 * GB));
    let error = arbiter.lease(&big, played("big").tenant.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `big` needs 30.0 GiB, and there are 24.0 GiB in all");
    arbiter.until_vacant(&big).await;
}

#[tokio::test]
async fn engines_that_are_known_to_fit_share_the_memory() {
    let arbiter = without_driver();
    let half = claim("gpu", Need::Bytes(10 * GB), Some(24 * GB));
    let (mut one, mut two, three) = (played("one"), played("two"), played("three"));
    let _first = arbiter.lease(&half, one.tenant.clone(), None).await.unwrap();
    let _second = arbiter.lease(&half, two.tenant.clone(), None).await.unwrap();
    let mut third = asks(&arbiter, &half, &three);
    assert!(futures_now(&mut third).await.is_none());
    let asked = [one.received.try_recv().is_ok(), two.received.try_recv().is_ok()];
    assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "one that leaves is enough");
}

#[tokio::test]
async fn the_driver_has_the_last_word_on_what_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let arbiter = with_driver(dir.path(), "echo '0, GPU-aa, RTX, 24576, 8192'");
    let error = arbiter.lease(&share(0.75, 1), played("vllm").tenant.clone(), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "engine `vllm` needs 18.0 GiB of GPU memory, and 8.0 GiB of 24.0 GiB are free; other programs hold the rest"
    );
    arbiter.lease(&share(0.3, 1), played("small").tenant.clone(), None).await.unwrap();
    let error = arbiter.lease(&share(0.3, 2), played("wide").tenant.clone(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `wide` wants 2 GPUs, and sees 1");
}

#[tokio::test]
async fn the_next_start_waits_until_memory_is_seen_to_be_free() {
    let dir = tempfile::tempdir().unwrap();
    // The driver frees it a few looks after the process is gone.
    let script = format!(
        "cd {} && echo x >> looks && free=100; [ $(wc -l < looks) -lt 5 ] || free=24000; echo \"0, GPU-aa, RTX, 24576, $free\"",
        dir.path().display()
    );
    let arbiter = with_driver(dir.path(), &script);
    arbiter.lease(&share(0.9, 1), played("next").tenant.clone(), None).await.unwrap();
    assert_eq!(looks(dir.path()), 5);
}

fn looks(dir: &std::path::Path) -> usize {
    std::fs::read_to_string(dir.join("looks")).unwrap_or_default().lines().count()
}

#[tokio::test(start_paused = true)]
async fn starts_do_not_wait_for_each_other_where_another_program_holds_the_memory() {
    let cards = Cards::new(&[(24, 4)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, ten) = (played("one"), played("two"), bytes(10));
    let both = async {
        tokio::join!(
            arbiter.lease(&ten, one.tenant.clone(), None),
            arbiter.lease(&ten, two.tenant.clone(), None)
        )
    };
    let (first, second) = timeout(LONG, both).await.expect("both are told that there is no room");
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(error.to_string().contains("4.0 GiB of 24.0 GiB are free"), "{error}");
    }
    assert!(!one.was_asked() && !two.was_asked(), "neither has anything to give");
}

#[tokio::test(start_paused = true)]
async fn where_a_driver_can_be_asked_one_of_a_group_starts_at_a_time() {
    let cards = Cards::new(&[(24, 24)]);
    let (arbiter, ten) = (cards.arbiter(), bytes(10));
    let (one, two, three, other) = (played("one"), played("two"), played("three"), played("other"));
    let mut first = arbiter.lease(&ten, one.tenant.clone(), None).await.unwrap();
    let mut second = asks(&arbiter, &ten, &two);
    assert!(timeout(LONG, &mut second).await.is_err(), "the first has not taken its memory yet");
    let elsewhere = claim("other", Need::Bytes(GB), None);
    arbiter.lease(&elsewhere, other.tenant.clone(), None).await.unwrap();
    first.settle();
    let second = timeout(LONG, second).await.unwrap().unwrap();
    let mut third = asks(&arbiter, &bytes(4), &three);
    assert!(timeout(LONG, &mut third).await.is_err());
    drop(second);
    timeout(LONG, third).await.expect("a start that failed is over too").unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_next_in_line_asks_who_still_starts_to_give_way_and_nobody_behind_it_does() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, mut three) = (played("one"), played("two"), played("three"));
    let first = arbiter.lease(&bytes(20), one.tenant.clone(), None).await.unwrap();
    let mut fits = asks(&arbiter, &bytes(4), &two);
    assert!(timeout(LONG, &mut fits).await.is_err());
    let mut third = asks(&arbiter, &bytes(20), &three);
    assert!(timeout(LONG, &mut third).await.is_err());
    assert!(!one.was_asked(), "who is next fits beside it, and the other is not next");
    drop(fits);
    assert!(timeout(LONG, &mut third).await.is_err());
    assert!(one.was_asked() && !two.was_asked());
    let mut fourth = asks(&arbiter, &bytes(20), &two);
    assert!(timeout(LONG, &mut fourth).await.is_err());
    drop(first);
    assert!(timeout(LONG, &mut fourth).await.is_err(), "it looks before the third does");
    let _third = timeout(LONG, third).await.unwrap().unwrap();
    assert!(timeout(LONG, &mut fourth).await.is_err());
    assert!(three.was_asked(), "as soon as it has begun");
}

#[tokio::test(start_paused = true)]
async fn waking_needs_what_came_free_when_it_fell_asleep() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (engine, vllm) = (played("vllm"), share(0.9, 1));
    let mut lease = ready(&arbiter, &vllm, &engine).await;
    cards.tell(&[(24, 2)]);
    let falls_asleep = async {
        cards.tell(&[(24, 20)]);
        Ok(())
    };
    lease.sleep(falls_asleep).await.unwrap();
    engine.is(EngineState::Sleeping);
    // All that is used is its own: 4 GiB of the 22 that it had.
    let awake = arbiter.lease(&vllm, engine.tenant.clone(), Some(&lease)).await.unwrap();
    drop(awake);
    cards.tell(&[(24, 17)]);
    let error = arbiter.lease(&vllm, engine.tenant.clone(), Some(&lease)).await.unwrap_err();
    assert!(error.to_string().contains("needs 18.0 GiB of GPU memory, and 17.0 GiB of 24.0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fall_asleep_keeps_its_room() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (engine, other, vllm) = (played("vllm"), played("other"), share(0.9, 1));
    let mut lease = ready(&arbiter, &vllm, &engine).await;
    let error = EngineError::Stopped { name: "vllm".to_owned() };
    assert_eq!(lease.sleep(std::future::ready(Err(error.clone()))).await, Err(error));
    let mut next = asks(&arbiter, &vllm, &other);
    assert!(timeout(LONG, &mut next).await.is_err());
    lease.sleep(std::future::ready(Ok(()))).await.unwrap();
    timeout(LONG, next).await.unwrap().unwrap();
}

/// A sleeper that left 2 GiB of a card of 24 behind.
async fn sleeper(cards: &Cards, arbiter: &Arc<Arbiter>) -> (Played, Lease) {
    let engine = played("sleeper");
    let mut lease = ready(arbiter, &share(0.9, 1), &engine).await;
    cards.tell(&[(24, 2)]);
    let falls_asleep = async {
        cards.tell(&[(24, 22)]);
        Ok(())
    };
    lease.sleep(falls_asleep).await.unwrap();
    engine.is(EngineState::Sleeping);
    (engine, lease)
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_goes_last_where_what_it_left_behind_is_in_the_way() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut asleep, left) = sleeper(&cards, &arbiter).await;
    let (mut tenant, next) = (played("tenant"), played("next"));
    let small = ready(&arbiter, &bytes(1), &tenant).await;
    cards.tell(&[(24, 21)]);
    let big = bytes(23);
    let mut start = asks(&arbiter, &big, &next);
    assert!(timeout(LONG, &mut start).await.is_err());
    assert!(tenant.was_asked() && !asleep.was_asked());
    drop(small);
    cards.tell(&[(24, 22)]);
    assert!(timeout(Duration::from_secs(5), &mut start).await.is_err());
    assert!(asleep.was_asked(), "there was nobody else");
    asleep.is(EngineState::Draining);
    drop(left);
    cards.tell(&[(24, 24)]);
    timeout(LONG, start).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_that_stays_is_not_waited_for_for_ever() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut asleep, _left) = sleeper(&cards, &arbiter).await;
    let begun = Instant::now();
    let start = asks(&arbiter, &bytes(23), &played("next"));
    let error = timeout(LONG, start).await.expect("it is told that there is no room").unwrap_err();
    assert!(error.to_string().contains("22.0 GiB of 24.0 GiB are free"), "{error}");
    assert!(asleep.was_asked() && !asleep.was_asked(), "it is asked once");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn who_is_to_be_woken_has_others_go_and_not_itself() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, first) = sleeper(&cards, &arbiter).await;
    cards.tell(&[(24, 24)]);
    let (mut two, _second) = sleeper(&cards, &arbiter).await;
    cards.tell(&[(24, 10)]);
    arbiter.lease(&share(0.9, 1), one.tenant.clone(), Some(&first)).await.unwrap_err();
    assert!(!one.was_asked() && two.was_asked());
}

#[tokio::test(start_paused = true)]
async fn a_share_is_of_the_first_gpus_that_an_engine_sees() {
    let cards = Cards::new(&[(24, 24), (24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two) = (played("one"), played("two"));
    let first = ready(&arbiter, &share(0.9, 1), &one).await;
    let mut same = asks(&arbiter, &share(0.9, 1), &played("same"));
    assert!(timeout(LONG, &mut same).await.is_err());
    assert!(one.was_asked(), "both would take the first GPU");
    drop(same);
    let second = ready(&arbiter, &seeing("1", share(0.9, 1)), &two).await;
    assert!(!one.was_asked() && !two.was_asked(), "neither is in the other's way");
    let third = seeing("1", share(0.9, 1));
    assert!(timeout(LONG, asks(&arbiter, &third, &played("third"))).await.is_err());
    assert!(!one.was_asked() && two.was_asked(), "who has another GPU need not go");
    // Of both there are 4.8 GiB left by the books.
    let mut wide = asks(&arbiter, &bytes(5), &played("wide"));
    assert!(timeout(LONG, &mut wide).await.is_err());
    drop((first, second));
    cards.tell(&[(24, 2), (24, 4)]);
    timeout(LONG, wide).await.expect("it may take what is free of both").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_gpus_that_it_is_about() {
    let cards = Cards::new(&[(24, 24), (24, 3)]);
    let arbiter = cards.arbiter();
    let refused = async |claim: Claim| {
        arbiter.lease(&claim, played("vllm").tenant.clone(), None).await.unwrap_err().to_string()
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
async fn whoever_is_kept_comes_back_beside_an_engine_that_it_fits_with() {
    let cards = Cards::new(&[(24, 24)]);
    let (arbiter, ten) = (cards.arbiter(), bytes(10));
    let (one, two) = (played("one"), played("two"));
    let first = ready(&arbiter, &ten, &one).await;
    timeout(LONG, arbiter.until_vacant(&ten)).await.expect("there is room beside the other");
    assert!(timeout(LONG, arbiter.until_vacant(&bytes(20))).await.is_err());
    let mut starting = arbiter.lease(&bytes(2), two.tenant.clone(), None).await.unwrap();
    let mut vacant = Box::pin(arbiter.until_vacant(&ten));
    assert!(timeout(LONG, &mut vacant).await.is_err(), "somebody starts");
    starting.settle();
    timeout(LONG, vacant).await.unwrap();
    drop((first, starting));
    let waiting = Lease { arbiter: Arc::clone(&arbiter), ticket: arbiter.ledger().enqueue("gpu") };
    assert!(timeout(LONG, arbiter.until_vacant(&ten)).await.is_err(), "somebody asked before");
    drop(waiting);
    timeout(LONG, arbiter.until_vacant(&ten)).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_room_asks_the_driver_only_when_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("cd {} && echo x >> looks; echo '0, GPU-aa, RTX, 24576, 24000'", dir.path().display());
    let arbiter = with_driver(dir.path(), &script);
    let (one, other) = (played("one"), played("other"));
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
    assert_eq!(looks(dir.path()), before + 2, "and not to see that nobody is there");
}

#[tokio::test(start_paused = true)]
async fn memory_has_a_moment_to_be_free_before_anybody_has_to_give_way() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, mut two, next) = (played("one"), played("two"), played("next"));
    let first = ready(&arbiter, &bytes(4), &one).await;
    let _second = ready(&arbiter, &bytes(4), &two).await;
    cards.tell(&[(24, 2)]);
    let twelve = bytes(12);
    let mut start = asks(&arbiter, &twelve, &next);
    assert!(timeout(Duration::from_millis(1900), &mut start).await.is_err());
    assert!(!one.was_asked() && !two.was_asked());
    assert!(timeout(Duration::from_millis(1100), &mut start).await.is_err());
    let asked = (one.was_asked(), two.was_asked());
    assert_eq!(asked, (true, false), "one after the other");
    drop(first);
    assert!(timeout(Duration::from_millis(1400), &mut start).await.is_err());
    assert!(!two.was_asked(), "what the first held has a moment too");
    cards.tell(&[(24, 13)]);
    timeout(LONG, start).await.unwrap().unwrap();
    assert!(!two.was_asked());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_knows_the_need_the_next_start_waits_until_no_more_comes_free() {
    let cards = Cards::new(&[(24, 24)]);
    let arbiter = cards.arbiter();
    let (mut one, next, unknown) = (played("one"), played("next"), claim("gpu", Need::Unknown, None));
    let first = ready(&arbiter, &unknown, &one).await;
    cards.tell(&[(24, 1)]);
    let mut start = asks(&arbiter, &unknown, &next);
    assert!(timeout(LONG, &mut start).await.is_err());
    assert!(one.was_asked());
    drop(first);
    for free in [2, 10, 20] {
        assert!(timeout(Duration::from_millis(450), &mut start).await.is_err(), "{free}");
        cards.tell(&[(24, free)]);
    }
    let begun = Instant::now();
    timeout(LONG, start).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "and no longer");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_what_a_group_was_said_to_have_is_known_without_a_driver() {
    let arbiter = without_driver();
    let vllm = |of| claim("gpu", Need::Share { of, gpus: 1 }, Some(24 * GB));
    let (mut one, two, three) = (played("one"), played("two"), played("three"));
    let _first = arbiter.lease(&vllm(0.5), one.tenant.clone(), None).await.unwrap();
    let beside = vllm(0.4);
    let second = asks(&arbiter, &beside, &two);
    let _second = timeout(LONG, second).await.unwrap().unwrap();
    let more = vllm(0.2);
    let mut third = asks(&arbiter, &more, &three);
    assert!(futures_now(&mut third).await.is_none());
    assert!(one.was_asked());
}

/// What a future has to say at once, once every other task has had its turn.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}
