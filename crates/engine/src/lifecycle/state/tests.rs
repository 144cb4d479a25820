//! Single stories, and then every order of events up to a depth, against a small world that counts processes, guards and
//! waiters.

use std::collections::{BTreeSet, HashSet};

use super::*;

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const STANDBY_TIMEOUT: Duration = Duration::from_secs(3600);
const PREWARM_TIMEOUT: Duration = Duration::from_secs(1200);

fn policy() -> Policy {
    Policy {
        idle_timeout: Some(IDLE_TIMEOUT),
        drain_timeout: Duration::from_secs(30),
        abandon_after: Some(Duration::from_secs(10)),
        standby_timeout: STANDBY_TIMEOUT,
        prewarm_timeout: PREWARM_TIMEOUT,
        proven_after: Duration::from_secs(60),
        concurrency: usize::MAX,
        queue: usize::MAX,
        rest: Rest::Stop,
        keep: false,
    }
}

/// One request at once, one that waits, and sleep instead of stops.
fn narrow() -> Policy {
    Policy { concurrency: 1, queue: 1, rest: Rest::Sleep, ..policy() }
}

/// Ready for as long as the agent runs.
fn kept() -> Policy {
    Policy { keep: true, idle_timeout: None, ..policy() }
}

fn released(start: u32) -> Event {
    Event::Released { start, held: Duration::from_secs(4), suspect: false }
}

/// By a request that it did not answer.
fn released_suspect(start: u32) -> Event {
    Event::Released { start, held: Duration::from_secs(120), suspect: true }
}

fn exited() -> EngineError {
    EngineError::Exited { name: "e".to_owned(), how: "exit code 0".to_owned(), diagnosis: String::new() }
}

/// A lifecycle with its clock.
struct Story {
    lifecycle: Lifecycle,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        Self::of(policy())
    }

    fn of(policy: Policy) -> Self {
        Self { lifecycle: Lifecycle::new("e".to_owned(), policy), now: Instant::now() }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let (lifecycle, effects) = self.lifecycle.clone().step(event, self.now);
        self.lifecycle = lifecycle;
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
        assert_eq!(story.on(Event::Request(1)), [Effect::Start]);
        assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
        story
    }

    /// Up to sleep.
    fn asleep() -> Self {
        let mut story = Self::ready_with(narrow());
        story.on(released(1));
        assert_eq!(story.after(IDLE_TIMEOUT, Event::Tick), [Effect::Sleep]);
        assert_eq!(story.on(Event::FellAsleep), []);
        story
    }

    /// One more start that fails, from a state of rest.
    fn fail(&mut self) {
        assert_eq!(self.on(Event::Request(9)), [Effect::Start]);
        let effects = self.on(Event::StartFailed { error: exited(), process_left: false });
        assert_eq!(effects, [Effect::Reject(9, exited()), Effect::ReportStopped]);
    }
}

#[test]
fn idle_timeout_counts_from_the_last_release() {
    let mut story = Story::ready();
    assert_eq!(story.lifecycle.deadline(), None, "a request runs");
    assert_eq!(story.after(10 * IDLE_TIMEOUT, Event::Tick), []);
    assert_eq!(story.on(Event::Request(2)), [Effect::Grant(2)]);
    story.on(released(1));
    assert_eq!(story.after(IDLE_TIMEOUT, Event::Tick), []);
    story.on(released(1));
    assert_eq!(story.lifecycle.deadline(), Some(story.now + IDLE_TIMEOUT));
    assert_eq!(story.after(IDLE_TIMEOUT - Duration::from_millis(1), Event::Tick), []);
    assert_eq!(story.after(Duration::from_millis(1), Event::Tick), [Effect::EndProcess]);
}

#[test]
fn request_during_an_idle_stop_gets_the_next_start() {
    let mut story = Story::ready();
    story.on(released(1));
    story.after(IDLE_TIMEOUT, Event::Tick);
    assert_eq!(story.on(Event::Request(2)), [], "not while the old one holds the memory");
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
    assert_eq!(story.on(released(1)), [], "of the start before");
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
}

#[test]
fn stop_waits_for_requests_up_to_the_drain_timeout() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Stop(StopCause::User)), []);
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped]);
    assert_eq!(story.lifecycle.stage(), &Stage::Stopped);

    let mut story = Story::ready();
    story.on(Event::Stop(StopCause::User));
    assert_eq!(story.after(Duration::from_secs(29), Event::Tick), []);
    assert_eq!(story.after(Duration::from_secs(1), Event::Tick), [Effect::EndProcess]);
}

#[test]
fn stop_during_a_start_cancels_it_and_rejects_waiters() {
    let mut story = Story::new();
    story.on(Event::Request(1));
    let stopped = EngineError::Stopped { name: "e".to_owned() };
    let effects = story.on(Event::Stop(StopCause::User));
    assert_eq!(effects, [Effect::Reject(1, stopped), Effect::Cancel]);
    // Ready in that very moment.
    assert_eq!(story.on(Event::Started), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped]);
    assert_eq!(story.lifecycle.stage(), &Stage::Stopped);
}

#[test]
fn abandoned_start_is_cancelled_unless_a_request_comes() {
    let mut story = Story::new();
    story.on(Event::Request(1));
    story.on(Event::WaiterLeft(1));
    story.after(Duration::from_secs(9), Event::Request(2));
    assert_eq!(story.after(Duration::from_secs(9), Event::Tick), []);
    story.on(Event::WaiterLeft(2));
    assert_eq!(story.after(Duration::from_secs(10), Event::Tick), [Effect::Cancel]);
    assert_eq!(story.on(Event::StartFailed { error: exited(), process_left: true }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped]);
    assert_eq!((story.lifecycle.stage(), story.lifecycle.failures), (&Stage::Stopped, 0), "it is no failure");
}

#[test]
fn failures_back_off_from_the_second_on() {
    let mut story = Story::new();
    story.fail();
    assert_eq!(story.lifecycle.stage(), &Stage::Failed);
    story.fail();
    let until = story.now + Duration::from_secs(1);
    assert_eq!(story.lifecycle.stage(), &Stage::BackingOff { until });
    let refused = story.after(Duration::from_millis(400), Event::Request(3));
    let [Effect::Reject(3, EngineError::BackingOff { failures: 2, wait, last, .. })] = refused.as_slice()
    else {
        panic!("{refused:?}")
    };
    assert_eq!((*wait, last), (Duration::from_millis(600), &exited().to_string()));
    story.after(Duration::from_millis(600), Event::Tick);
    assert_eq!(story.lifecycle.stage(), &Stage::Failed);
    story.fail();
    assert_eq!(story.lifecycle.deadline(), Some(story.now + Duration::from_secs(2)));
}

#[test]
fn missing_model_causes_no_backoff() {
    let mut story = Story::new();
    story.fail();
    story.fail();
    story.after(Duration::from_secs(1), Event::Request(1));
    let missing = crate::SpecError::NoModel("m".to_owned());
    let error = EngineError::Spec { name: "e".to_owned(), source: missing };
    story.on(Event::StartFailed { error, process_left: false });
    assert_eq!((story.lifecycle.stage(), story.lifecycle.failures), (&Stage::Failed, 2));
}

#[test]
fn exits_soon_after_each_start_are_a_crash_loop() {
    let mut story = Story::ready();
    story.on(Event::Exited { start: 1, error: exited() });
    story.on(Event::ProcessEnded);
    story.on(Event::Request(2));
    story.on(Event::Started);
    story.on(Event::Exited { start: 2, error: exited() });
    story.on(Event::ProcessEnded);
    assert!(
        matches!(story.lifecycle.stage(), Stage::BackingOff { .. }),
        "being ready for a moment proves nothing"
    );

    story.after(Duration::from_secs(1), Event::Request(3));
    story.on(Event::Started);
    story.after(Duration::from_secs(60), Event::Exited { start: 3, error: exited() });
    story.on(Event::ProcessEnded);
    assert_eq!(
        (story.lifecycle.stage(), story.lifecycle.failures),
        (&Stage::Failed, 1),
        "it had run for long enough"
    );
}

#[test]
fn nothing_starts_after_shutdown() {
    let mut story = Story::ready();
    story.on(Event::Stop(StopCause::Shutdown));
    let over = EngineError::ShuttingDown { name: "e".to_owned() };
    assert_eq!(story.on(Event::Request(2)), [Effect::Reject(2, over.clone())]);
    story.on(released(1));
    assert!(!story.lifecycle.is_shut_down());
    story.on(Event::ProcessEnded);
    assert!(story.lifecycle.is_shut_down());
    assert_eq!(story.on(Event::Request(3)), [Effect::Reject(3, over)]);
}

#[test]
fn full_queue_rejects_with_retry_after_and_is_served_in_order() {
    let mut story = Story::ready_with(narrow());
    assert_eq!(story.on(Event::Request(2)), []);
    let busy = EngineError::Busy { name: "e".to_owned(), waiting: 1, retry_after: Duration::from_secs(10) };
    assert_eq!(story.on(Event::Request(3)), [Effect::Reject(3, busy)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
    assert_eq!(story.on(Event::Request(4)), []);
    assert_eq!(story.on(Event::WaiterLeft(4)), []);
    assert_eq!(story.on(released(1)), [], "a waiter that left is not served");
    assert!(story.lifecycle.deadline().is_some(), "no request runs, none waits");
}

#[test]
fn start_serves_as_many_waiters_as_there_are_places() {
    let mut story = Story::of(narrow());
    assert_eq!(story.on(Event::Request(1)), [Effect::Start]);
    assert_eq!(story.on(Event::Request(2)), []);
    assert!(matches!(story.on(Event::Request(3)).as_slice(), [Effect::Reject(3, EngineError::Busy { .. })]));
    assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
}

#[test]
fn user_start_takes_no_place_of_a_request() {
    let mut story = Story::of(Policy { queue: 0, ..narrow() });
    assert_eq!(story.on(Event::UserStart(1)), [Effect::Start]);
    assert_eq!(story.on(Event::Request(2)), [], "the only place is free");
    assert!(matches!(story.on(Event::Request(3)).as_slice(), [Effect::Reject(3, EngineError::Busy { .. })]));
    assert_eq!(story.on(Event::UserStart(4)), []);
    assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
    assert_eq!(story.on(released(1)), [Effect::Grant(2)]);
    assert!(matches!(story.on(Event::Request(5)).as_slice(), [Effect::Reject(5, EngineError::Busy { .. })]));
    assert_eq!(story.on(released(1)), [Effect::Grant(4)]);
}

#[test]
fn idle_engine_sleeps_and_wakes_for_the_next_request() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    assert_eq!(story.after(IDLE_TIMEOUT, Event::Tick), [Effect::Sleep]);
    assert_eq!(story.on(Event::FellAsleep), []);
    assert_eq!(story.lifecycle.stage(), &Stage::Sleeping { since: story.now });
    assert_eq!(story.on(Event::Request(2)), [Effect::Wake]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!(story.lifecycle.starts(), 1, "it is the same process");
}

#[test]
fn sleeping_engine_is_stopped_after_the_standby_timeout() {
    let mut story = Story::asleep();
    assert_eq!(story.after(STANDBY_TIMEOUT - Duration::from_millis(1), Event::Tick), []);
    assert_eq!(story.after(Duration::from_millis(1), Event::Tick), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped]);
    assert_eq!(story.lifecycle.stage(), &Stage::Stopped);
    // Or when another engine needs the memory that it has kept.
    let mut story = Story::asleep();
    assert_eq!(story.on(Event::Preempted { start: 1 }), [Effect::EndProcess]);
}

#[test]
fn failed_waking_is_followed_by_a_start_for_the_waiters() {
    let mut story = Story::asleep();
    story.on(Event::Request(2));
    story.on(Event::Request(3));
    assert_eq!(story.on(Event::StartFailed { error: exited(), process_left: true }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!((story.lifecycle.starts(), story.lifecycle.last_error()), (2, None));
}

#[test]
fn waking_without_memory_leaves_it_sleeping() {
    let mut story = Story::asleep();
    story.on(Event::Request(2));
    let effects = story.on(Event::StartFailed { error: no_room(), process_left: true });
    assert_eq!(effects, [Effect::Reject(2, no_room())]);
    assert_eq!(story.lifecycle.stage(), &Stage::Sleeping { since: story.now });
    assert_eq!(story.on(Event::Request(3)), [Effect::Wake]);
}

#[test]
fn abandoned_waking_goes_on_to_ready() {
    let mut story = Story::asleep();
    story.on(Event::Request(2));
    story.on(Event::WaiterLeft(2));
    assert_eq!(story.lifecycle.deadline(), None);
    assert_eq!(story.on(Event::Started), []);
    assert_eq!(story.after(IDLE_TIMEOUT, Event::Tick), [Effect::Sleep]);
}

#[test]
fn stop_cancels_falling_asleep() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE_TIMEOUT, Event::Tick);
    assert_eq!(story.on(Event::Stop(StopCause::User)), [Effect::Cancel]);
    assert_eq!(story.on(Event::Stop(StopCause::Shutdown)), [], "once is enough");
    assert_eq!(story.on(Event::SleepFailed { error: exited() }), [Effect::EndProcess]);
    assert_eq!(story.lifecycle.last_error(), None, "that was no failure");
    story.on(Event::ProcessEnded);
    assert!(story.lifecycle.is_shut_down());
}

#[test]
fn retirement_does_not_cut_running_requests_short() {
    let mut story = Story::ready_with(narrow());
    story.on(Event::Request(2));
    let over = EngineError::ShuttingDown { name: "e".to_owned() };
    assert_eq!(story.on(Event::Stop(StopCause::Retirement)), [Effect::Reject(2, over.clone())]);
    assert_eq!(story.lifecycle.deadline(), None);
    assert_eq!(story.on(Event::Request(3)), [Effect::Reject(3, over)]);
    // Unless the agent shuts down meanwhile.
    assert_eq!(story.on(Event::Stop(StopCause::Shutdown)), []);
    assert_eq!(story.lifecycle.deadline(), Some(story.now + story.lifecycle.policy.drain_timeout));
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    story.on(Event::ProcessEnded);
    assert!(story.lifecycle.is_shut_down());
}

#[test]
fn request_while_falling_asleep_waits_for_the_waking() {
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE_TIMEOUT, Event::Tick);
    assert_eq!(story.on(Event::Request(2)), []);
    assert_eq!(story.on(Event::FellAsleep), [Effect::Wake]);
    // It cannot sleep: the waiter gets the next start, and the reason is kept.
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    story.after(IDLE_TIMEOUT, Event::Tick);
    story.on(Event::Request(2));
    let error = EngineError::Standby { name: "e".to_owned(), what: "sleep", reason: "no".to_owned() };
    assert_eq!(story.on(Event::SleepFailed { error: error.clone() }), [Effect::EndProcess]);
    assert_eq!(story.lifecycle.last_error(), Some(&error));
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
}

#[test]
fn preempted_engine_drains_and_starts_again_for_its_waiters() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Preempted { start: 1 }), []);
    assert_eq!(story.on(Event::Request(2)), [], "it waits for the next start");
    assert_eq!(story.lifecycle.deadline(), None, "no request is cut short for another engine");
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
    assert_eq!(story.on(Event::Preempted { start: 1 }), [], "the start before was preempted");
    // Preempted while it starts, it still serves the waiters of the start.
    assert_eq!(story.on(Event::Preempted { start: 2 }), []);
    assert_eq!(story.on(Event::Started), [Effect::Grant(2)]);
    assert_eq!(story.on(released(2)), [Effect::EndProcess]);
}

#[test]
fn preempted_start_is_cancelled_when_its_last_waiter_leaves() {
    let mut story = Story::new();
    story.on(Event::Request(1));
    assert_eq!(story.on(Event::Preempted { start: 1 }), []);
    assert_eq!(story.on(Event::WaiterLeft(1)), [Effect::Cancel]);
}

#[test]
fn idle_engine_is_preempted_at_once() {
    let mut story = Story::ready();
    story.on(released(1));
    assert_eq!(story.on(Event::Preempted { start: 1 }), [Effect::EndProcess]);
    let mut story = Story::ready_with(narrow());
    story.on(released(1));
    assert_eq!(story.on(Event::Preempted { start: 1 }), [Effect::Sleep]);
}

#[test]
fn suspect_engine_gets_no_request_until_its_check_passes() {
    let mut story = Story::ready();
    story.on(released(1));
    assert_eq!(story.on(Event::HealthCheckRequested { start: 1 }), [Effect::CheckHealth]);
    assert_eq!(story.on(Event::HealthCheckRequested { start: 1 }), [], "once is enough");
    assert_eq!(story.on(Event::Request(2)), []);
    assert_eq!(story.on(Event::HealthCheckPassed { start: 1 }), [Effect::Grant(2)]);
    story.on(Event::HealthCheckRequested { start: 1 });
    story.on(Event::Request(3));
    let error = EngineError::Hung { name: "e".to_owned(), reason: "silence".to_owned() };
    assert_eq!(story.on(Event::HealthCheckFailed { start: 1, error }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(3)]);
}

#[test]
fn suspect_release_frees_its_place_before_the_check() {
    let mut story = Story::ready_with(narrow());
    story.on(Event::Request(2));
    assert_eq!(story.on(released_suspect(1)), [Effect::CheckHealth]);
    assert!(story.lifecycle.has_place(), "so there is a place for the check");
    assert_eq!(story.on(Event::HealthCheckPassed { start: 1 }), [Effect::Grant(2)]);
    // While it drains, the stop waits for its other requests, perhaps in vain.
    let mut story = Story::ready();
    story.on(Event::Request(2));
    story.on(Event::Preempted { start: 1 });
    assert_eq!(story.on(released_suspect(1)), [Effect::CheckHealth]);
    assert_eq!(story.on(Event::HealthCheckFailed { start: 1, error: exited() }), [Effect::EndProcess]);
}

#[test]
fn failure_after_a_long_run_is_no_crash_loop() {
    let mut story = Story::ready();
    for start in 1..5 {
        story.on(released(start));
        story.after(Duration::from_secs(60), Event::HealthCheckRequested { start });
        story.on(Event::Request(7));
        story.on(Event::HealthCheckFailed { start, error: exited() });
        assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
        assert_eq!(story.on(Event::Started), [Effect::Grant(7)]);
    }
}

fn no_room() -> EngineError {
    EngineError::NoRoom { name: "e".to_owned(), reason: String::new(), hint: String::new() }
}

#[test]
fn lack_of_memory_causes_no_backoff() {
    let mut story = Story::new();
    for _ in 0..3 {
        assert_eq!(story.on(Event::Request(9)), [Effect::Start]);
        let error = no_room();
        story.on(Event::StartFailed { error, process_left: false });
        assert_eq!((story.lifecycle.stage(), story.lifecycle.failures), (&Stage::Failed, 0));
    }
}

#[test]
fn engine_without_idle_timeout_never_rests() {
    let mut story = Story::ready_with(Policy { idle_timeout: None, ..policy() });
    story.on(released(1));
    assert_eq!(story.lifecycle.deadline(), None);
}

#[test]
fn prewarms_count_as_one_and_no_request_need_wait() {
    let mut story = Story::new();
    assert_eq!(story.on(Event::Prewarm), [Effect::Start]);
    assert!(story.lifecycle.is_prewarmed());
    assert_eq!(story.on(Event::Prewarm), []);
    assert_eq!(
        (story.lifecycle.stage_deadline(), story.lifecycle.waiting()),
        (None, 0),
        "it is not abandoned"
    );
    assert_eq!(story.on(Event::Started), []);
    assert_eq!(story.on(Event::Prewarm), []);
    assert_eq!(story.after(IDLE_TIMEOUT, Event::Tick), [Effect::EndProcess]);
    assert!(!story.lifecycle.is_prewarmed());
}

#[test]
fn prewarm_keeps_a_start_that_its_request_has_left() {
    let mut story = Story::new();
    story.on(Event::Request(1));
    story.on(Event::Prewarm);
    assert_eq!(story.on(Event::WaiterLeft(1)), []);
    assert_eq!(story.lifecycle.stage_deadline(), None);
    // Its failure is no reason to try again.
    story.on(Event::StartFailed { error: exited(), process_left: false });
    assert_eq!((story.lifecycle.stage(), story.lifecycle.deadline()), (&Stage::Failed, None));
}

#[test]
fn prewarm_does_not_undo_the_stop_of_a_user() {
    let mut story = Story::of(policy());
    story.on(Event::Stop(StopCause::User));
    assert_eq!(story.on(Event::Prewarm), []);
    assert_eq!(story.on(Event::Request(1)), [Effect::Start]);
}

#[test]
fn prewarm_that_takes_too_long_is_abandoned() {
    let mut story = Story::of(policy());
    assert_eq!(story.on(Event::Prewarm), [Effect::Start]);
    assert_eq!(story.after(PREWARM_TIMEOUT, Event::Tick), []);
    assert!(!story.lifecycle.is_prewarmed());
    assert_eq!(story.after(Duration::from_secs(10), Event::Tick), [Effect::Cancel]);
}

#[test]
fn prewarm_while_it_stops_leads_to_the_next_start() {
    let mut story = Story::ready();
    story.on(Event::Preempted { start: 1 });
    assert_eq!(story.on(Event::Prewarm), []);
    assert_eq!(story.on(released(1)), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::Start]);
    assert_eq!(story.on(Event::Stop(StopCause::User)), [Effect::Cancel]);
    story.on(Event::StartFailed { error: exited(), process_left: true });
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped], "a stop ends a prewarm");
}

#[test]
fn kept_engine_starts_whenever_there_is_memory() {
    let mut story = Story::of(kept());
    assert_eq!(story.on(Event::Tick), [Effect::AwaitMemory]);
    assert_eq!(story.on(Event::Tick), [], "once is enough");
    assert_eq!(story.on(Event::MemoryAvailable), [Effect::Start]);
    story.on(Event::Started);
    // It ended by itself.
    story.on(Event::Exited { start: 1, error: exited() });
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::AwaitMemory]);
    assert_eq!(story.on(Event::MemoryAvailable), [Effect::Start]);
    story.on(Event::Started);
    // Another engine needs its memory.
    assert_eq!(story.on(Event::Preempted { start: 2 }), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::AwaitMemory]);
    // A request was first: the news of memory is out of date.
    assert_eq!(story.on(Event::Request(1)), [Effect::Start]);
    assert_eq!(story.on(Event::MemoryAvailable), []);
}

#[test]
fn kept_engine_is_tried_again_after_the_retry_interval() {
    let mut story = Story::of(kept());
    for _ in 0..8 {
        assert_eq!(story.on(Event::Tick), [Effect::AwaitMemory]);
        assert_eq!(story.on(Event::MemoryAvailable), [Effect::Start]);
        assert_eq!(
            story.on(Event::StartFailed { error: no_room(), process_left: false }),
            [Effect::ReportStopped]
        );
        assert_eq!(story.after(Duration::from_secs(29), Event::Tick), []);
        story.now += Duration::from_secs(1);
        assert_eq!(story.lifecycle.deadline(), Some(story.now));
    }
}

#[test]
fn kept_engine_stays_stopped_until_a_user_or_a_request_comes() {
    let mut story = Story::of(kept());
    story.on(Event::Tick);
    story.on(Event::MemoryAvailable);
    story.on(Event::Started);
    assert_eq!(story.on(Event::Stop(StopCause::User)), [Effect::EndProcess]);
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped]);
    assert_eq!((story.on(Event::Tick), story.lifecycle.deadline()), (vec![], None));
    assert_eq!(story.on(Event::UserStart(1)), [Effect::Start]);
    assert_eq!(story.on(Event::Started), [Effect::Grant(1)]);
    story.on(released(2));
    story.on(Event::Preempted { start: 2 });
    assert_eq!(story.on(Event::ProcessEnded), [Effect::ReportStopped, Effect::AwaitMemory]);
    // Stopped while it waits for memory.
    assert_eq!(story.on(Event::Stop(StopCause::User)), [Effect::ReportStopped]);
    assert_eq!(story.on(Event::MemoryAvailable), []);
    assert_eq!(story.on(Event::Request(2)), [Effect::Start]);
}

/// What the actor and the operating system know, kept apart from the lifecycle.
#[derive(Debug, Clone)]
struct World {
    lifecycle: Lifecycle,
    now: Instant,
    starting: bool,
    process: Process,
    /// Guards that are held, by their start.
    guards: Vec<u32>,
    waiting: BTreeSet<WaiterId>,
    /// The last identifier that was given to a waiter.
    newest: WaiterId,
    /// A task waits for memory.
    awaiting_memory: bool,
    /// A user stopped it, and neither a user nor a request has come since.
    stopped_by_user: bool,
    /// Guards that are held may be cut short: their time is over, or the engine does not respond.
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Alive,
    Dead,
    FallingAsleep,
    Asleep,
    Ending,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Request,
    UserStart,
    Prewarm,
    MemoryAvailable,
    Leave,
    ReleaseNewest,
    ReleaseOldest,
    ReleaseSuspect,
    Stop,
    ShutDown,
    Retire,
    StartReady,
    WakeHasNoRoom,
    StartFailsWithProcess,
    StartFailsWithout,
    Exit,
    End,
    Wait,
    Preempt,
    RequestHealthCheck,
    PassHealthCheck,
    FailHealthCheck,
    Sleep,
    SleepFails,
}

const MOVES: [Move; 24] = [
    Move::Request,
    Move::UserStart,
    Move::Prewarm,
    Move::MemoryAvailable,
    Move::Leave,
    Move::ReleaseNewest,
    Move::ReleaseOldest,
    Move::ReleaseSuspect,
    Move::Stop,
    Move::ShutDown,
    Move::Retire,
    Move::StartReady,
    Move::WakeHasNoRoom,
    Move::StartFailsWithProcess,
    Move::StartFailsWithout,
    Move::Exit,
    Move::End,
    Move::Wait,
    Move::Preempt,
    Move::RequestHealthCheck,
    Move::PassHealthCheck,
    Move::FailHealthCheck,
    Move::Sleep,
    Move::SleepFails,
];

impl World {
    /// The world after a move; nothing where it cannot happen now.
    fn after(&self, action: Move) -> Option<Self> {
        let mut world = self.clone();
        let event = match action {
            Move::Request => {
                world.newest += 1;
                world.waiting.insert(world.newest);
                Event::Request(world.newest)
            }
            Move::UserStart => {
                world.newest += 1;
                world.waiting.insert(world.newest);
                Event::UserStart(world.newest)
            }
            Move::Prewarm => Event::Prewarm,
            Move::MemoryAvailable => {
                std::mem::take(&mut world.awaiting_memory).then_some(())?;
                Event::MemoryAvailable
            }
            Move::Leave => Event::WaiterLeft(world.waiting.pop_first()?),
            Move::ReleaseNewest => released(world.guards.pop()?),
            // Perhaps of a start that is long over.
            Move::ReleaseOldest => {
                (!world.guards.is_empty()).then_some(())?;
                released(world.guards.remove(0))
            }
            Move::ReleaseSuspect => released_suspect(world.guards.pop()?),
            Move::Retire => Event::Stop(StopCause::Retirement),
            Move::WakeHasNoRoom => {
                (world.starting && world.process == Process::Asleep).then_some(())?;
                world.starting = false;
                Event::StartFailed { error: no_room(), process_left: true }
            }
            Move::Stop => Event::Stop(StopCause::User),
            Move::ShutDown => Event::Stop(StopCause::Shutdown),
            Move::StartReady => {
                (world.starting && world.process != Process::Dead).then_some(())?;
                (world.starting, world.process) = (false, Process::Alive);
                Event::Started
            }
            Move::StartFailsWithProcess => {
                world.starting.then_some(())?;
                (world.starting, world.process) = (false, Process::Dead);
                Event::StartFailed { error: exited(), process_left: true }
            }
            Move::StartFailsWithout => {
                (world.starting && world.process == Process::None).then_some(())?;
                world.starting = false;
                Event::StartFailed { error: exited(), process_left: false }
            }
            Move::Exit => {
                matches!(world.process, Process::Alive | Process::Asleep | Process::FallingAsleep)
                    .then_some(())?;
                // The task that puts it to sleep still reports on it.
                if world.process != Process::FallingAsleep {
                    world.process = Process::Dead;
                }
                Event::Exited { start: world.lifecycle.starts(), error: exited() }
            }
            Move::End => {
                (world.process == Process::Ending).then_some(())?;
                world.process = Process::None;
                Event::ProcessEnded
            }
            Move::Wait => {
                world.now = world.lifecycle.deadline()?;
                Event::Tick
            }
            Move::Preempt => Event::Preempted { start: world.lifecycle.starts() },
            Move::RequestHealthCheck => Event::HealthCheckRequested { start: world.lifecycle.starts() },
            Move::PassHealthCheck => Event::HealthCheckPassed { start: world.lifecycle.starts() },
            Move::FailHealthCheck => {
                Event::HealthCheckFailed { start: world.lifecycle.starts(), error: exited() }
            }
            Move::Sleep => {
                (world.process == Process::FallingAsleep).then_some(())?;
                world.process = Process::Asleep;
                Event::FellAsleep
            }
            Move::SleepFails => {
                (world.process == Process::FallingAsleep).then_some(())?;
                world.process = Process::Alive;
                Event::SleepFailed { error: exited() }
            }
        };
        Some(world.stepped(event))
    }

    fn stepped(mut self, event: Event) -> Self {
        match event {
            Event::Request(_) | Event::UserStart(_) => self.stopped_by_user = false,
            Event::Stop(StopCause::User) => self.stopped_by_user = true,
            _ => {}
        }
        let stays_stopped = self.stopped_by_user && matches!(event, Event::MemoryAvailable | Event::Prewarm);
        let draining = matches!(self.lifecycle.stage(), Stage::Draining { .. });
        self.cut = (draining && event == Event::Tick) || matches!(event, Event::HealthCheckFailed { .. });
        let (lifecycle, effects) = self.lifecycle.clone().step(event, self.now);
        self.lifecycle = lifecycle;
        for effect in effects {
            let starts = matches!(effect, Effect::Start | Effect::Wake);
            assert!(!(starts && stays_stopped), "a user has stopped it");
            self.perform(effect);
        }
        self.check();
        self
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
                assert!(!self.guards.contains(&self.lifecycle.starts()), "a guard was held");
                self.process = Process::FallingAsleep;
            }
            Effect::CheckHealth => assert_eq!(self.process, Process::Alive),
            Effect::Cancel => {
                assert!(
                    self.starting || self.process == Process::FallingAsleep,
                    "there is nothing to cancel"
                );
            }
            Effect::EndProcess => {
                let there = matches!(self.process, Process::Alive | Process::Dead | Process::Asleep);
                assert!(there && !self.starting, "there is no process to end");
                let held = self.guards.contains(&self.lifecycle.starts());
                assert!(!held || self.process == Process::Dead || self.cut, "a guard was held");
                self.process = Process::Ending;
            }
            Effect::Grant(waiter) => {
                assert!(self.waiting.remove(&waiter), "answered twice, or never waited");
                assert_eq!(self.process, Process::Alive);
                self.guards.push(self.lifecycle.starts());
            }
            Effect::Reject(waiter, _) => {
                assert!(self.waiting.remove(&waiter), "answered twice, or never waited")
            }
            Effect::AwaitMemory => {
                assert!(!std::mem::replace(&mut self.awaiting_memory, true), "it is awaited already");
                assert!(self.lifecycle.policy.keep && !self.starting);
            }
            Effect::ReportStopped => {}
        }
    }

    fn check(&self) {
        let in_flight = self.lifecycle.in_flight();
        let current = self.guards.iter().filter(|start| **start == self.lifecycle.starts()).count();
        match self.lifecycle.stage() {
            Stage::Starting { abandoned_since, waking, .. } => {
                assert!(self.starting);
                assert_eq!(*waking, self.process != Process::None);
                assert_eq!(self.lifecycle.is_abandoned(), abandoned_since.is_some());
            }
            Stage::Ready { checking, .. } => {
                assert_eq!((self.process, in_flight), (Process::Alive, current));
                let full = in_flight >= self.lifecycle.policy.concurrency;
                assert!(
                    self.lifecycle.waiters.is_empty() || full || *checking,
                    "a request waits although there is a place"
                );
            }
            Stage::Draining { .. } => {
                assert_eq!((self.process, in_flight), (Process::Alive, current));
            }
            Stage::FallingAsleep { .. } => assert_eq!(self.process, Process::FallingAsleep),
            Stage::Sleeping { .. } => assert_eq!((self.starting, self.process), (false, Process::Asleep)),
            Stage::Stopping { .. } => assert!(self.starting || self.process == Process::Ending),
            Stage::Stopped | Stage::BackingOff { .. } | Stage::Failed => {
                assert_eq!((self.starting, self.process), (false, Process::None), "left behind");
            }
        }
        if !matches!(self.lifecycle.stage(), Stage::Ready { .. } | Stage::Draining { .. }) {
            assert_eq!(in_flight, 0);
        }
        assert!(current <= self.lifecycle.policy.concurrency, "more than there are places");
        let comes = matches!(self.process, Process::Ending | Process::FallingAsleep)
            || matches!(self.lifecycle.stage(), Stage::Ready { checking: true, .. });
        let pending = self.starting || comes || current > 0 || self.lifecycle.deadline().is_some();
        assert!(self.waiting.is_empty() || pending, "a waiter waits for nothing");
        assert!(
            self.lifecycle.prewarming.is_none() || self.starting || comes || current > 0,
            "a prewarm waits for nothing"
        );
        let rests = matches!(self.lifecycle.stage(), Stage::Stopped | Stage::Sleeping { .. } | Stage::Failed);
        if self.lifecycle.policy.keep && rests && !self.stopped_by_user && !self.lifecycle.ending {
            assert!(
                self.awaiting_memory || self.lifecycle.deadline().is_some(),
                "it is kept and never starts"
            );
        }
    }
}

/// None starts a second process, forgets a waiter, leaves a process behind, or cuts a request short that may go on.
#[test]
fn no_order_of_events_breaks_the_lifecycle() {
    search(policy(), 9);
    search(narrow(), 11);
    search(kept(), 7);
    search(Policy { keep: true, idle_timeout: None, ..narrow() }, 8);
}

fn search(policy: Policy, depth: usize) {
    let start = World {
        lifecycle: Lifecycle::new("e".to_owned(), policy),
        now: Instant::now(),
        starting: false,
        process: Process::None,
        guards: Vec::new(),
        waiting: BTreeSet::new(),
        newest: 0,
        awaiting_memory: false,
        stopped_by_user: false,
        cut: false,
    };
    let start = start.stepped(Event::Tick);
    let mut frontier = vec![start];
    let mut seen = HashSet::new();
    for _ in 0..depth {
        let next = frontier.iter().flat_map(|world| MOVES.iter().filter_map(|&action| world.after(action)));
        let next: Vec<World> = next.filter(|world| world.newest <= 3).collect();
        frontier = next.into_iter().filter(|world| seen.insert(format!("{world:?}"))).collect();
    }
    assert!(seen.len() > 1_000, "the search saw {} states", seen.len());
}
