//! Single stories, and then every order of events up to a depth, against a small world that keeps count of processes,
//! guards and waiters.

use std::collections::{BTreeSet, HashSet};

use super::*;

const IDLE: Duration = Duration::from_secs(60);
const ASLEEP: Duration = Duration::from_secs(3600);

fn policy() -> Policy {
    Policy {
        idle: Some(IDLE),
        drain: Duration::from_secs(30),
        unwanted: Some(Duration::from_secs(10)),
        asleep: ASLEEP,
        proven: Duration::from_secs(60),
        concurrency: usize::MAX,
        queue: usize::MAX,
        rest: Rest::Stop,
    }
}

/// One request at once, one that waits, and sleep instead of stops.
fn narrow() -> Policy {
    Policy { concurrency: 1, queue: 1, rest: Rest::Sleep, ..policy() }
}

fn released(start: u32) -> Event {
    Event::Released { start, held: Duration::from_secs(4), suspect: false }
}

/// By somebody whom it did not answer.
fn released_in_doubt(start: u32) -> Event {
    Event::Released { start, held: Duration::from_secs(120), suspect: true }
}

fn exited() -> EngineError {
    EngineError::Exited { name: "e".to_owned(), how: "exit code 0".to_owned(), diagnosis: String::new() }
}

/// A machine with its clock.
struct Story {
    machine: Machine,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        Self::of(policy())
    }

    fn of(policy: Policy) -> Self {
        Self { machine: Machine::new("e".to_owned(), policy), now: Instant::now() }
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
        Self::ready_with(policy())
    }

    fn ready_with(policy: Policy) -> Self {
        let mut story = Self::of(policy);
        assert_eq!(story.on(Event::Ask(1)), [Effect::Start]);
        assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
        story
    }

    /// Up to sleep.
    fn asleep() -> Self {
        let mut story = Self::ready_with(narrow());
        story.on(released(1));
        assert_eq!(story.after(IDLE, Event::Tick), [Effect::Sleep]);
        assert_eq!(story.on(Event::Slept), []);
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
    story.on(released(1));
    assert_eq!(story.after(IDLE, Event::Tick), []);
    story.on(released(1));
    assert_eq!(story.machine.deadline(), Some(story.now + IDLE));
    assert_eq!(story.after(IDLE - Duration::from_millis(1), Event::Tick), []);
    assert_eq!(story.after(Duration::from_millis(1), Event::Tick), [Effect::EndProcess]);
}

#[test]
fn a_request_that_comes_during_an_idle_stop_gets_the_next_start() {
    let mut story = Story::ready();
    story.on(released(1));
    story.after(IDLE, Event::Tick);
    assert_eq!(story.on(Event::Ask(2)), [], "not while the old one holds the memory");
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
    assert_eq!(story.on(released(1)), [], "of the start before");
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
}

#[test]
fn a_stop_waits_for_running_requests_and_no_longer_than_the_drain() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Stop { for_good: false }), []);
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
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
    assert_eq!(effects, [Effect::Refuse(1, stopped), Effect::Cancel]);
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
    assert_eq!(story.after(Duration::from_secs(10), Event::Tick), [Effect::Cancel]);
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
    story.on(released(1));
    assert!(!story.machine.is_shut_down());
    story.on(Event::Ended);
    assert!(story.machine.is_shut_down());
    assert_eq!(story.on(Event::Ask(3)), [Effect::Refuse(3, over)]);
}

#[test]
fn places_are_bounded_taken_in_turn_and_what_finds_none_is_told_when_to_come_again() {
    let mut story = Story::ready_with(narrow());
    assert_eq!(story.on(Event::Ask(2)), []);
    let busy = EngineError::Busy { name: "e".to_owned(), waiting: 1, retry_after: Duration::from_secs(10) };
    assert_eq!(story.on(Event::Ask(3)), [Effect::Refuse(3, busy)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
    assert_eq!(story.on(Event::Ask(4)), []);
    assert_eq!(story.on(Event::Left(4)), []);
    assert_eq!(story.on(released(1)), [], "who left is not served");
    assert!(story.machine.deadline().is_some(), "nobody runs and nobody waits");
}

#[test]
fn a_start_serves_as_many_as_there_are_places_and_refuses_what_could_never_wait() {
    let mut story = Story::of(narrow());
    assert_eq!(story.on(Event::Ask(1)), [Effect::Start]);
    assert_eq!(story.on(Event::Ask(2)), []);
    assert!(matches!(story.on(Event::Ask(3)).as_slice(), [Effect::Refuse(3, EngineError::Busy { .. })]));
    assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
}

#[test]
fn who_asks_ahead_of_need_takes_nobodys_place() {
    let mut story = Story::of(Policy { queue: 0, ..narrow() });
    assert_eq!(story.on(Event::Warm(1)), [Effect::Start]);
    assert_eq!(story.on(Event::Ask(2)), [], "the only place is free");
    assert!(matches!(story.on(Event::Ask(3)).as_slice(), [Effect::Refuse(3, EngineError::Busy { .. })]));
    assert_eq!(story.on(Event::Warm(4)), []);
    assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
    assert!(matches!(story.on(Event::Ask(5)).as_slice(), [Effect::Refuse(5, EngineError::Busy { .. })]));
    assert_eq!(story.on(released(1)), [Effect::Grant(4)]);
}

#[test]
fn what_may_sleep_sleeps_when_idle_and_is_woken_by_the_next_request() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    assert_eq!(story.after(IDLE, Event::Tick), [Effect::Sleep]);
    assert_eq!(story.on(Event::Slept), []);
    assert_eq!(story.machine.state(), &State::Sleeping { since: story.now });
    assert_eq!(story.on(Event::Ask(2)), [Effect::Wake]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!(story.machine.starts(), 1, "it is the same process");
}

#[test]
fn what_sleeps_for_long_is_stopped() {
    let mut story = Story::asleep();
    assert_eq!(story.after(ASLEEP - Duration::from_millis(1), Event::Tick), []);
    assert_eq!(story.after(Duration::from_millis(1), Event::Tick), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone]);
    assert_eq!(story.machine.state(), &State::Stopped);
    // Or when others want what it kept of their memory.
    let mut story = Story::asleep();
    assert_eq!(story.on(Event::Yield { start: 1 }), [Effect::EndProcess]);
}

#[test]
fn what_cannot_be_woken_is_started_anew_for_those_who_wait() {
    let mut story = Story::asleep();
    story.on(Event::Ask(2));
    story.on(Event::Ask(3));
    assert_eq!(story.on(Event::StartFailed { error: exited(), left: true }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!((story.machine.starts(), story.machine.last_error()), (2, None));
}

#[test]
fn what_has_no_room_to_wake_in_sleeps_on() {
    let mut story = Story::asleep();
    story.on(Event::Ask(2));
    let effects = story.on(Event::StartFailed { error: no_room(), left: true });
    assert_eq!(effects, [Effect::Refuse(2, no_room())]);
    assert_eq!(story.machine.state(), &State::Sleeping { since: story.now });
    assert_eq!(story.on(Event::Ask(3)), [Effect::Wake]);
}

#[test]
fn a_waking_that_nobody_waits_for_any_more_goes_on_and_it_rests_again() {
    let mut story = Story::asleep();
    story.on(Event::Ask(2));
    story.on(Event::Left(2));
    assert_eq!(story.machine.deadline(), None);
    assert_eq!(story.on(Event::Started), []);
    assert_eq!(story.after(IDLE, Event::Tick), [Effect::Sleep]);
}

#[test]
fn a_stop_does_not_wait_until_it_sleeps() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE, Event::Tick);
    assert_eq!(story.on(Event::Stop { for_good: false }), [Effect::Cancel]);
    assert_eq!(story.on(Event::Stop { for_good: true }), [], "once is enough");
    assert_eq!(story.on(Event::SleepFailed { error: exited() }), [Effect::EndProcess]);
    assert_eq!(story.machine.last_error(), None, "that was no failure");
    story.on(Event::Ended);
    assert!(story.machine.is_shut_down());
}

#[test]
fn what_another_configuration_has_no_use_for_lets_what_runs_take_its_time() {
    let mut story = Story::ready_with(narrow());
    story.on(Event::Ask(2));
    let over = EngineError::ShuttingDown { name: "e".to_owned() };
    assert_eq!(story.on(Event::Retire), [Effect::Refuse(2, over.clone())]);
    assert_eq!(story.machine.deadline(), None);
    assert_eq!(story.on(Event::Ask(3)), [Effect::Refuse(3, over)]);
    // Unless the agent ends meanwhile.
    assert_eq!(story.on(Event::Stop { for_good: true }), []);
    assert_eq!(story.machine.deadline(), Some(story.now + story.machine.policy.drain));
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    story.on(Event::Ended);
    assert!(story.machine.is_shut_down());
}

#[test]
fn who_comes_while_it_falls_asleep_waits_for_the_waking() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE, Event::Tick);
    assert_eq!(story.on(Event::Ask(2)), []);
    assert_eq!(story.on(Event::Slept), [Effect::Wake]);
    // It cannot sleep: who waits gets the next start, and the reason is on record.
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE, Event::Tick);
    story.on(Event::Ask(2));
    let error = EngineError::Standby { name: "e".to_owned(), what: "sleep", reason: "no".to_owned() };
    assert_eq!(story.on(Event::SleepFailed { error: error.clone() }), [Effect::EndProcess]);
    assert_eq!(story.machine.last_error(), Some(&error));
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
}

#[test]
fn whoever_gives_way_serves_those_that_run_and_comes_back_for_those_that_wait() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Yield { start: 1 }), []);
    assert_eq!(story.on(Event::Ask(2)), [], "it waits for the next turn");
    assert_eq!(story.machine.deadline(), None, "no request is cut short for another engine");
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
    assert_eq!(story.on(Event::Yield { start: 1 }), [], "that was asked of the start before");
    // Asked while it starts, it serves whoever waited for the start.
    assert_eq!(story.on(Event::Yield { start: 2 }), []);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!(story.on(released(2)), [Effect::EndProcess]);
}

#[test]
fn a_start_that_somebody_wants_the_room_of_goes_on_for_no_longer_than_somebody_waits_for_it() {
    let mut story = Story::new();
    story.on(Event::Ask(1));
    assert_eq!(story.on(Event::Yield { start: 1 }), []);
    assert_eq!(story.on(Event::Left(1)), [Effect::Cancel]);
}

#[test]
fn an_idle_engine_gives_way_at_once() {
    let mut story = Story::ready();
    story.on(released(1));
    assert_eq!(story.on(Event::Yield { start: 1 }), [Effect::EndProcess]);
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    assert_eq!(story.on(Event::Yield { start: 1 }), [Effect::Sleep]);
}

#[test]
fn a_suspected_engine_gets_nobody_new_until_it_has_answered() {
    let mut story = Story::ready();
    story.on(released(1));
    assert_eq!(story.on(Event::Suspect { start: 1 }), [Effect::Check]);
    assert_eq!(story.on(Event::Suspect { start: 1 }), [], "once is enough");
    assert_eq!(story.on(Event::Ask(2)), []);
    assert_eq!(story.on(Event::Sound { start: 1 }), [Effect::Grant(2)]);
    story.on(Event::Suspect { start: 1 });
    story.on(Event::Ask(3));
    let error = EngineError::Hung { name: "e".to_owned(), reason: "silence".to_owned() };
    assert_eq!(story.on(Event::Broken { start: 1, error }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(3)]);
}

#[test]
fn who_doubts_it_has_let_go_of_it_before_it_is_asked() {
    let mut story = Story::ready_with(narrow());
    story.on(Event::Ask(2));
    assert_eq!(story.on(released_in_doubt(1)), [Effect::Check]);
    assert!(story.machine.has_place(), "so there is a place for the question");
    assert_eq!(story.on(Event::Sound { start: 1 }), [Effect::Grant(2)]);
    // Others wait for it while it is to give way: they may wait for nothing.
    let mut story = Story::ready();
    story.on(Event::Ask(2));
    story.on(Event::Yield { start: 1 });
    assert_eq!(story.on(released_in_doubt(1)), [Effect::Check]);
    assert_eq!(story.on(Event::Broken { start: 1, error: exited() }), [Effect::EndProcess]);
}

#[test]
fn what_ran_for_long_and_broke_is_in_no_crash_loop() {
    let mut story = Story::ready();
    for start in 1..5 {
        story.on(released(start));
        story.after(Duration::from_secs(60), Event::Suspect { start });
        story.on(Event::Ask(7));
        story.on(Event::Broken { start, error: exited() });
        assert_eq!(story.on(Event::Ended), [Effect::StopsDone, Effect::Start]);
        assert_eq!(story.on(Event::Started), [Effect::Grant(7)]);
    }
}

fn no_room() -> EngineError {
    EngineError::NoRoom { name: "e".to_owned(), reason: String::new(), hint: String::new() }
}

#[test]
fn what_has_no_room_does_not_rest() {
    let mut story = Story::new();
    for _ in 0..3 {
        assert_eq!(story.on(Event::Ask(9)), [Effect::Start]);
        let error = no_room();
        story.on(Event::StartFailed { error, left: false });
        assert_eq!((story.machine.state(), story.machine.failures), (&State::Failed, 0));
    }
}

#[test]
fn what_is_kept_never_rests() {
    let mut story = Story::ready_with(Policy { idle: None, ..policy() });
    story.on(released(1));
    assert_eq!(story.machine.deadline(), None);
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
    /// Guards that are held may be cut short: their time is over, or they wait for what does not answer.
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Alive,
    Dead,
    Dozing,
    Asleep,
    Ending,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Ask,
    Warm,
    Leave,
    ReleaseNewest,
    ReleaseOldest,
    ReleaseInDoubt,
    Stop,
    StopForGood,
    Retire,
    StartReady,
    WakeHasNoRoom,
    StartFailsWithProcess,
    StartFailsWithout,
    Exit,
    End,
    Wait,
    Yield,
    Suspect,
    Sound,
    Broken,
    Sleep,
    SleepFails,
}

const MOVES: [Move; 22] = [
    Move::Ask,
    Move::Warm,
    Move::Leave,
    Move::ReleaseNewest,
    Move::ReleaseOldest,
    Move::ReleaseInDoubt,
    Move::Stop,
    Move::StopForGood,
    Move::Retire,
    Move::StartReady,
    Move::WakeHasNoRoom,
    Move::StartFailsWithProcess,
    Move::StartFailsWithout,
    Move::Exit,
    Move::End,
    Move::Wait,
    Move::Yield,
    Move::Suspect,
    Move::Sound,
    Move::Broken,
    Move::Sleep,
    Move::SleepFails,
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
            Move::Warm => {
                world.asked += 1;
                world.waiting.insert(world.asked);
                Event::Warm(world.asked)
            }
            Move::Leave => Event::Left(world.waiting.pop_first()?),
            Move::ReleaseNewest => released(world.guards.pop()?),
            // Perhaps of a start that is long over.
            Move::ReleaseOldest => {
                (!world.guards.is_empty()).then_some(())?;
                released(world.guards.remove(0))
            }
            Move::ReleaseInDoubt => released_in_doubt(world.guards.pop()?),
            Move::Retire => Event::Retire,
            Move::WakeHasNoRoom => {
                (world.starting && world.process == Process::Asleep).then_some(())?;
                world.starting = false;
                Event::StartFailed { error: no_room(), left: true }
            }
            Move::Stop => Event::Stop { for_good: false },
            Move::StopForGood => Event::Stop { for_good: true },
            Move::StartReady => {
                (world.starting && world.process != Process::Dead).then_some(())?;
                (world.starting, world.process) = (false, Process::Alive);
                Event::Started
            }
            Move::StartFailsWithProcess => {
                world.starting.then_some(())?;
                (world.starting, world.process) = (false, Process::Dead);
                Event::StartFailed { error: exited(), left: true }
            }
            Move::StartFailsWithout => {
                (world.starting && world.process == Process::None).then_some(())?;
                world.starting = false;
                Event::StartFailed { error: exited(), left: false }
            }
            Move::Exit => {
                matches!(world.process, Process::Alive | Process::Asleep | Process::Dozing).then_some(())?;
                // One that is falling asleep is still told of by the task that has it.
                if world.process != Process::Dozing {
                    world.process = Process::Dead;
                }
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
            Move::Yield => Event::Yield { start: world.machine.starts() },
            Move::Suspect => Event::Suspect { start: world.machine.starts() },
            Move::Sound => Event::Sound { start: world.machine.starts() },
            Move::Broken => Event::Broken { start: world.machine.starts(), error: exited() },
            Move::Sleep => {
                (world.process == Process::Dozing).then_some(())?;
                world.process = Process::Asleep;
                Event::Slept
            }
            Move::SleepFails => {
                (world.process == Process::Dozing).then_some(())?;
                world.process = Process::Alive;
                Event::SleepFailed { error: exited() }
            }
        };
        let draining = matches!(world.machine.state(), State::Draining { .. });
        world.cut = (draining && event == Event::Tick) || matches!(event, Event::Broken { .. });
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
            Effect::Wake => {
                assert!(!self.starting && self.process == Process::Asleep, "it does not sleep");
                self.starting = true;
            }
            Effect::Sleep => {
                assert!(self.process == Process::Alive);
                assert!(!self.guards.contains(&self.machine.starts()), "a guard was held");
                self.process = Process::Dozing;
            }
            Effect::Check => assert_eq!(self.process, Process::Alive),
            Effect::Cancel => {
                assert!(self.starting || self.process == Process::Dozing, "there is nothing to break off");
            }
            Effect::EndProcess => {
                let there = matches!(self.process, Process::Alive | Process::Dead | Process::Asleep);
                assert!(there && !self.starting, "there is no process to end");
                let held = self.guards.contains(&self.machine.starts());
                assert!(!held || self.process == Process::Dead || self.cut, "a guard was held");
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
            State::Starting { waiters, unwanted_since, waking, .. } => {
                assert!(self.starting);
                assert_eq!(*waking, self.process != Process::None);
                assert_eq!(waiters.is_empty(), unwanted_since.is_some());
            }
            State::Ready { in_flight, queue, checking, .. } => {
                assert_eq!((self.process, *in_flight), (Process::Alive, current));
                let full = *in_flight >= self.machine.policy.concurrency;
                assert!(queue.is_empty() || full || *checking, "there is a place, and somebody waits");
            }
            State::Draining { in_flight, .. } => {
                assert_eq!((self.process, *in_flight), (Process::Alive, current));
            }
            State::Dozing { .. } => assert_eq!(self.process, Process::Dozing),
            State::Sleeping { .. } => assert_eq!((self.starting, self.process), (false, Process::Asleep)),
            State::Stopping { .. } => assert!(self.starting || self.process == Process::Ending),
            State::Stopped | State::BackingOff { .. } | State::Failed => {
                assert_eq!((self.starting, self.process), (false, Process::None), "left behind");
            }
        }
        assert!(current <= self.machine.policy.concurrency, "more than there are places");
        let comes = matches!(self.process, Process::Ending | Process::Dozing)
            || matches!(self.machine.state(), State::Ready { checking: true, .. });
        let pending = self.starting || comes || current > 0 || self.machine.deadline().is_some();
        assert!(self.waiting.is_empty() || pending, "somebody waits for nothing");
    }
}

#[test]
fn no_order_of_events_starts_twice_forgets_a_waiter_or_leaves_a_process() {
    search(policy(), 9);
    search(narrow(), 11);
}

fn search(policy: Policy, depth: usize) {
    let start = World {
        machine: Machine::new("e".to_owned(), policy),
        now: Instant::now(),
        starting: false,
        process: Process::None,
        guards: Vec::new(),
        waiting: BTreeSet::new(),
        asked: 0,
        cut: false,
    };
    let mut frontier = vec![start];
    let mut seen = HashSet::new();
    for _ in 0..depth {
        let next = frontier.iter().flat_map(|world| MOVES.iter().filter_map(|&action| world.after(action)));
        let next: Vec<World> = next.filter(|world| world.asked <= 3).collect();
        frontier = next.into_iter().filter(|world| seen.insert(format!("{world:?}"))).collect();
    }
    assert!(seen.len() > 1_000, "the search saw {} states", seen.len());
}
