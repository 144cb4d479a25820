//! Who leaves, by tables; who enters, with engines that are played by channels.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::status::EngineState;

const GB: u64 = 1 << 30;

fn resident(ticket: u64, need: Option<u64>, idle: bool, used: i64) -> Resident {
    let last_used = Timestamp::from_second(used).ok();
    Resident { ticket, need, yielding: false, idle, last_used }
}

#[test]
fn those_that_rest_longest_leave_first_and_no_more_than_have_to() {
    let three = || {
        vec![resident(1, Some(4), true, 30), resident(2, Some(4), true, 10), resident(3, Some(4), false, 0)]
    };
    let leaves = |need, capacity| who_leaves(need, capacity, three());
    assert_eq!(leaves(Some(4), Some(16)), [0; 0], "it fits beside all");
    assert_eq!(leaves(Some(8), Some(16)), [2], "idle, and used before the other");
    assert_eq!(leaves(Some(9), Some(16)), [2, 1], "who runs a request leaves last");
    assert_eq!(leaves(Some(16), Some(16)), [2, 1, 3]);
    assert_eq!(leaves(None, Some(16)), [2, 1, 3], "what nobody knows the size of is alone");
    assert_eq!(leaves(Some(1), None), [2, 1, 3], "and so is everything where nobody knows how much there is");
    let mut four = three();
    four.push(resident(4, None, true, 99));
    assert_eq!(who_leaves(Some(1), Some(99), four), [2, 1, 4], "beside it nothing else has room");
    let leaving = Resident { yielding: true, ..resident(5, Some(4), false, 99) };
    assert_eq!(who_leaves(Some(8), Some(16), [three(), vec![leaving]].concat()), [5, 2]);
}

/// An engine that is played: it counts how often it is asked to give way.
struct Played {
    party: Party,
    received: mpsc::UnboundedReceiver<Command>,
    _commands: mpsc::UnboundedSender<Command>,
    _status: watch::Sender<EngineStatus>,
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
        model: String::new(),
        in_flight: 0,
        queued: 0,
        last_used: None,
        resident_bytes: None,
        starts: 1,
        last_error: None,
    });
    let party = Party { name: name.to_owned(), start: 1, commands: commands.downgrade(), status };
    Played { party, received, _commands: commands, _status: told }
}

fn place(group: &str, need: Need, capacity: Option<u64>) -> Placement {
    Placement { group: group.to_owned(), need, capacity }
}

/// An arbiter whose driver is a script.
fn with_driver(dir: &std::path::Path, script: &str) -> Arc<Arbiter> {
    let nvidia_smi = dir.join("nvidia-smi");
    std::fs::write(&nvidia_smi, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&nvidia_smi, std::fs::Permissions::from_mode(0o755)).unwrap();
    Arc::new(Arbiter {
        drivers: Drivers::at(nvidia_smi, dir.join("drm")),
        freed_within: Duration::from_millis(300),
        look_every: Duration::from_millis(5),
        ..Arbiter::default()
    })
}

#[tokio::test]
async fn one_group_takes_turns_in_the_order_of_asking_and_another_is_not_disturbed() {
    let arbiter = Arc::new(Arbiter::default());
    let (mut one, two, three, other) = (played("one"), played("two"), played("three"), played("other"));
    let alone = place("gpu", Need::Unknown, None);
    let first = arbiter.lease(&alone, one.party.clone()).await.unwrap();
    let _beside = arbiter.lease(&place("cpu", Need::Unknown, None), other.party.clone()).await.unwrap();
    let mut second = Box::pin(arbiter.lease(&alone, two.party.clone()));
    let mut third = Box::pin(arbiter.lease(&alone, three.party.clone()));
    assert!(futures_now(&mut second).await.is_none() && futures_now(&mut third).await.is_none());
    assert!(matches!(one.received.try_recv(), Ok(Command::Yield { start: 1 })));
    assert!(one.received.try_recv().is_err(), "it is asked once");
    drop(first);
    let second = second.await.unwrap();
    assert!(futures_now(&mut third).await.is_none());
    drop(second);
    third.await.unwrap();
}

#[tokio::test]
async fn who_stops_waiting_gives_its_place_in_the_queue_back() {
    let arbiter = Arc::new(Arbiter::default());
    let (one, two, three) = (played("one"), played("two"), played("three"));
    let alone = Placement::default();
    let first = arbiter.lease(&alone, one.party.clone()).await.unwrap();
    let mut second = Box::pin(arbiter.lease(&alone, two.party.clone()));
    let mut third = Box::pin(arbiter.lease(&alone, three.party.clone()));
    assert!(futures_now(&mut second).await.is_none() && futures_now(&mut third).await.is_none());
    drop(second);
    drop(first);
    drop(third.await.unwrap());
    arbiter.until_vacant(&alone).await;
}

#[tokio::test]
async fn what_can_never_fit_is_refused_with_both_figures() {
    let arbiter = Arc::new(Arbiter::default());
    let big = place("gpu", Need::Bytes(30 * GB), Some(24 * GB));
    let error = arbiter.lease(&big, played("big").party.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `big` needs 30.0 GiB, and there are 24.0 GiB in all");
    arbiter.until_vacant(&big).await;
}

#[tokio::test]
async fn engines_that_are_known_to_fit_share_the_memory() {
    let arbiter = Arc::new(Arbiter::default());
    let half = place("gpu", Need::Bytes(10 * GB), Some(24 * GB));
    let (mut one, mut two, three) = (played("one"), played("two"), played("three"));
    let _first = arbiter.lease(&half, one.party.clone()).await.unwrap();
    let _second = arbiter.lease(&half, two.party.clone()).await.unwrap();
    let mut third = Box::pin(arbiter.lease(&half, three.party.clone()));
    assert!(futures_now(&mut third).await.is_none());
    let asked = [one.received.try_recv().is_ok(), two.received.try_recv().is_ok()];
    assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "one that leaves is enough");
}

#[tokio::test]
async fn the_driver_has_the_last_word_on_what_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let arbiter = with_driver(dir.path(), "echo 'RTX, 24576, 8192'");
    let share = place("gpu", Need::Share { of: 0.75, gpus: 1 }, None);
    let error = arbiter.lease(&share, played("vllm").party.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "engine `vllm` needs 18.0 GiB of GPU memory, and 8.0 GiB of 24.0 GiB are free; other programs hold the rest"
    );
    let little = place("gpu", Need::Share { of: 0.3, gpus: 1 }, None);
    arbiter.lease(&little, played("small").party.clone()).await.unwrap();
    let two = place("gpu", Need::Share { of: 0.3, gpus: 2 }, None);
    let error = arbiter.lease(&two, played("wide").party.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "engine `wide` wants 2 GPUs, and the driver knows 1");
}

#[tokio::test]
async fn the_next_start_waits_until_memory_is_seen_to_be_free() {
    let dir = tempfile::tempdir().unwrap();
    // The driver frees it a few looks after the process is gone.
    let script = format!(
        "cd {} && echo x >> looks && if [ $(wc -l < looks) -lt 5 ]; then echo 'RTX, 24576, 100'; else echo 'RTX, 24576, 24000'; fi",
        dir.path().display()
    );
    let arbiter = with_driver(dir.path(), &script);
    let share = place("gpu", Need::Share { of: 0.9, gpus: 1 }, None);
    arbiter.lease(&share, played("next").party.clone()).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("looks")).unwrap().lines().count(), 5);
}

/// What a future has to say at once, once every other task has had its turn.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}
