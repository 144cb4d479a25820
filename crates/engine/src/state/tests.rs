//! Single stories, and then every order of events up to a depth, against a small world that keeps count of processes,
//! guards and waiters.

use std::collections::{BTreeSet, HashSet};

use super::*;

const IDLE: Duration = Duration::from_secs(60);

fn machine() -> Machine {
    let patience = Patience {
        idle: IDLE,
        drain: Duration::from_secs(30),
        unwanted: Some(Duration::from_secs(10)),
        proven: Duration::from_secs(60),
    };
    Machine::new("e".to_owned(), patience)
}

fn exited() -> EngineError {
    EngineError::Exited { name: "e".to_owned(), how: "exit code 0".to_owned(), tail: String::new() }
}

/// A machine with its clock.
struct Story {
    machine: Machine,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        Self { machine: machine(), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let (machine, effects) = self.machine.clone().step(event, self.now);
        self.machine = machine;
        effects
    }

    fn after(&mut self, time: Duration, event: Event) -> Vec<Effect> {
        self.now += time;
        self.on(event)
    }

    /// Up to ready, with one request that runs.
    fn ready() -> Self {
        let mut story = Self::new();
        assert_eq!(story.on(Event::Ask(1)), [Effect::Start]);
        assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
        story
    }

    /// One more start that fails, from a state of rest.
    fn fail(&mut self) {
        assert_eq!(self.on(Event::Ask(9)), [Effect::Start]);
        let effects = self.on(Event::StartFailed { error: exited(), left: false });
        assert_eq!(effects, [Effect::Refuse(9, exited()), Effect::StopsDone]);
    }
}

#[test]
fn idle_counts_from_the_last_release_and_a_guard_prevents_it() {
    let mut story = Story::ready();
    assert_eq!(story.machine.deadline(), None, "a request runs");
    assert_eq!(story.after(10 * IDLE, Event::Tick), []);
    assert_eq!(story.on(Event::Ask(2)), [Effect::Grant(2)]);
    story.on(Event::Released { start: 1 });
    assert_eq!(story.after(IDLE, Event::Tick), []);
    story.on(Event::Released { start: 1 });
    assert_eq!(story.machine.deadline(), Some(story.now + IDLE));
    assert_eq!(story.after(IDLE - Duration::from_millis(1), Event::Tick), []);
    assert_eq!(story.after(Duration::from_millis(1), Event::Tick), [Effect::EndProcess]);
}

#[test]
fn a_request_that_comes_during_an_idle_stop_gets_the_next_start() {
    let mut story = Story::ready();
    story.on(Event::Released { start: 1 });
    story.after(IDLE, Event::Tick);
    assert_eq!(story.on(Event::Ask(2)), [], "not while the old one holds the memory");
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
    assert_eq!(story.on(Event::Released { start: 1 }), [], "of the start before");
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
}

#[test]
fn a_stop_waits_for_running_requests_and_no_longer_than_the_drain() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Stop { for_good: false }), []);
    assert_eq!(story.on(Event::Released { start: 1 }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone]);
    assert_eq!(story.machine.state(), &State::Stopped);

    let mut story = Story::ready();
    story.on(Event::Stop { for_good: false });
    assert_eq!(story.after(Duration::from_secs(29), Event::Tick), []);
    assert_eq!(story.after(Duration::from_secs(1), Event::Tick), [Effect::EndProcess]);
}

#[test]
fn a_stop_during_a_start_lets_everybody_down_and_breaks_it_off() {
    let mut story = Story::new();
    story.on(Event::Ask(1));
    let stopped = EngineError::Stopped { name: "e".to_owned() };
    let effects = story.on(Event::Stop { for_good: false });
    assert_eq!(effects, [Effect::Refuse(1, stopped), Effect::CancelStart]);
    // Ready in that very moment.
    assert_eq!(story.on(Event::Started), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone]);
    assert_eq!(story.machine.state(), &State::Stopped);
}

#[test]
fn a_start_that_nobody_waits_for_is_broken_off_unless_somebody_comes_again() {
    let mut story = Story::new();
    story.on(Event::Ask(1));
    story.on(Event::Left(1));
    story.after(Duration::from_secs(9), Event::Ask(2));
    assert_eq!(story.after(Duration::from_secs(9), Event::Tick), []);
    story.on(Event::Left(2));
    assert_eq!(story.after(Duration::from_secs(10), Event::Tick), [Effect::CancelStart]);
    assert_eq!(story.on(Event::StartFailed { error: exited(), left: true }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone]);
    assert_eq!((story.machine.state(), story.machine.failures), (&State::Stopped, 0), "it is no failure");
}

#[test]
fn failures_are_told_at_once_and_rest_from_the_second_on() {
    let mut story = Story::new();
    story.fail();
    assert_eq!(story.machine.state(), &State::Failed);
    story.fail();
    let until = story.now + Duration::from_secs(1);
    assert_eq!(story.machine.state(), &State::BackingOff { until });
    let refused = story.after(Duration::from_millis(400), Event::Ask(3));
    let [Effect::Refuse(3, EngineError::BackingOff { failures: 2, wait, last, .. })] = refused.as_slice()
    else {
        panic!("{refused:?}")
    };
    assert_eq!((*wait, last), (Duration::from_millis(600), &exited().to_string()));
    story.after(Duration::from_millis(600), Event::Tick);
    assert_eq!(story.machine.state(), &State::Failed);
    story.fail();
    assert_eq!(story.machine.deadline(), Some(story.now + Duration::from_secs(2)));
}

#[test]
fn what_is_missing_does_not_rest() {
    let mut story = Story::new();
    story.fail();
    story.fail();
    story.after(Duration::from_secs(1), Event::Ask(1));
    let missing = crate::SpecError::NoModel("m".to_owned());
    let error = EngineError::Spec { name: "e".to_owned(), source: missing };
    story.on(Event::StartFailed { error, left: false });
    assert_eq!((story.machine.state(), story.machine.failures), (&State::Failed, 2));
}

#[test]
fn an_engine_that_ends_soon_after_each_start_is_in_a_crash_loop() {
    let mut story = Story::ready();
    story.on(Event::Exited { start: 1, error: exited() });
    story.on(Event::Ended);
    story.on(Event::Ask(2));
    story.on(Event::Started);
    story.on(Event::Exited { start: 2, error: exited() });
    story.on(Event::Ended);
    assert!(
        matches!(story.machine.state(), State::BackingOff { .. }),
        "being ready for a moment proves nothing"
    );

    story.after(Duration::from_secs(1), Event::Ask(3));
    story.on(Event::Started);
    story.after(Duration::from_secs(60), Event::Exited { start: 3, error: exited() });
    story.on(Event::Ended);
    assert_eq!((story.machine.state(), story.machine.failures), (&State::Failed, 1), "it had proven itself");
}

#[test]
fn after_the_end_nothing_starts() {
    let mut story = Story::ready();
    story.on(Event::Stop { for_good: true });
    let over = EngineError::ShuttingDown { name: "e".to_owned() };
    assert_eq!(story.on(Event::Ask(2)), [Effect::Refuse(2, over.clone())]);
    story.on(Event::Released { start: 1 });
    assert!(!story.machine.is_over());
    story.on(Event::Ended);
    assert!(story.machine.is_over());
    assert_eq!(story.on(Event::Ask(3)), [Effect::Refuse(3, over)]);
}

/// What the actor and the operating system know, kept apart from the machine.
#[derive(Debug, Clone)]
struct World {
    machine: Machine,
    now: Instant,
    starting: bool,
    process: Process,
    /// Guards that are held, by their start.
    guards: Vec<u32>,
    waiting: BTreeSet<WaiterId>,
    asked: WaiterId,
    drained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Alive,
    Dead,
    Ending,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Ask,
    Leave,
    ReleaseNewest,
    ReleaseOldest,
    Stop,
    StopForGood,
    StartReady,
    StartFailsWithProcess,
    StartFailsWithout,
    Exit,
    End,
    Wait,
}

const MOVES: [Move; 12] = [
    Move::Ask,
    Move::Leave,
    Move::ReleaseNewest,
    Move::ReleaseOldest,
    Move::Stop,
    Move::StopForGood,
    Move::StartReady,
    Move::StartFailsWithProcess,
    Move::StartFailsWithout,
    Move::Exit,
    Move::End,
    Move::Wait,
];

impl World {
    /// The world after a move; nothing where it cannot happen now.
    fn after(&self, action: Move) -> Option<Self> {
        let mut world = self.clone();
        let event = match action {
            Move::Ask => {
                world.asked += 1;
                world.waiting.insert(world.asked);
                Event::Ask(world.asked)
            }
            Move::Leave => Event::Left(world.waiting.pop_first()?),
            Move::ReleaseNewest => Event::Released { start: world.guards.pop()? },
            // Perhaps of a start that is long over.
            Move::ReleaseOldest => {
                (!world.guards.is_empty()).then_some(())?;
                Event::Released { start: world.guards.remove(0) }
            }
            Move::Stop => Event::Stop { for_good: false },
            Move::StopForGood => Event::Stop { for_good: true },
            Move::StartReady => {
                world.starting.then_some(())?;
                (world.starting, world.process) = (false, Process::Alive);
                Event::Started
            }
            Move::StartFailsWithProcess => {
                world.starting.then_some(())?;
                (world.starting, world.process) = (false, Process::Dead);
                Event::StartFailed { error: exited(), left: true }
            }
            Move::StartFailsWithout => {
                world.starting.then_some(())?;
                world.starting = false;
                Event::StartFailed { error: exited(), left: false }
            }
            Move::Exit => {
                (world.process == Process::Alive).then_some(())?;
                world.process = Process::Dead;
                Event::Exited { start: world.machine.starts(), error: exited() }
            }
            Move::End => {
                (world.process == Process::Ending).then_some(())?;
                world.process = Process::None;
                Event::Ended
            }
            Move::Wait => {
                world.now = world.machine.deadline()?;
                Event::Tick
            }
        };
        world.drained = matches!(world.machine.state(), State::Draining { .. }) && event == Event::Tick;
        let (machine, effects) = world.machine.clone().step(event, world.now);
        world.machine = machine;
        for effect in effects {
            world.perform(effect);
        }
        world.check();
        Some(world)
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start => {
                assert!(!self.starting && self.process == Process::None, "one process at a time");
                self.starting = true;
            }
            Effect::CancelStart => assert!(self.starting, "there is no start to break off"),
            Effect::EndProcess => {
                assert!(matches!(self.process, Process::Alive | Process::Dead), "there is no process to end");
                let held = self.guards.contains(&self.machine.starts());
                assert!(!held || self.process == Process::Dead || self.drained, "a guard was held");
                self.process = Process::Ending;
            }
            Effect::Grant(waiter) => {
                assert!(self.waiting.remove(&waiter), "answered twice or never asked");
                assert_eq!(self.process, Process::Alive);
                self.guards.push(self.machine.starts());
            }
            Effect::Refuse(waiter, _) => {
                assert!(self.waiting.remove(&waiter), "answered twice or never asked")
            }
            Effect::StopsDone => {}
        }
    }

    fn check(&self) {
        let current = self.guards.iter().filter(|start| **start == self.machine.starts()).count();
        match self.machine.state() {
            State::Starting { waiters, unwanted_since } => {
                assert!(self.starting);
                assert_eq!(waiters.is_empty(), unwanted_since.is_some());
            }
            State::Ready { in_flight, .. } | State::Draining { in_flight, .. } => {
                assert_eq!((self.process, *in_flight), (Process::Alive, current));
            }
            State::Stopping { .. } => assert!(self.starting || self.process == Process::Ending),
            State::Stopped | State::BackingOff { .. } | State::Failed => {
                assert_eq!((self.starting, self.process), (false, Process::None), "left behind");
            }
        }
        let pending = self.starting || self.process == Process::Ending || self.machine.deadline().is_some();
        assert!(self.waiting.is_empty() || pending, "somebody waits for nothing");
    }
}

#[test]
fn no_order_of_events_starts_twice_forgets_a_waiter_or_leaves_a_process() {
    const DEPTH: usize = 9;
    let start = World {
        machine: machine(),
        now: Instant::now(),
        starting: false,
        process: Process::None,
        guards: Vec::new(),
        waiting: BTreeSet::new(),
        asked: 0,
        drained: false,
    };
    let mut frontier = vec![start];
    let mut seen = HashSet::new();
    for _ in 0..DEPTH {
        let next = frontier.iter().flat_map(|world| MOVES.iter().filter_map(|&action| world.after(action)));
        let next: Vec<World> = next.filter(|world| world.asked <= 3).collect();
        frontier = next.into_iter().filter(|world| seen.insert(format!("{world:?}"))).collect();
    }
    assert!(seen.len() > 1_000, "the search saw {} states", seen.len());
}
