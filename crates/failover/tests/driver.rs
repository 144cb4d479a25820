//! The driver around the machine: the order of its actions, the trail that it returns, and what it holds meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use mcpctl_failover::{
    Access, AccessProbe, Allowance, Bearer, BreakerPolicy, Breakers, Classified, FailoverRequest,
    FailoverRouter, FailureClass, LlmRef, LocalAttempt, LocalError, ProbeAnswer, ProbeError, ProbeRequest,
    ProviderRegistry, Routed, Served, Trail, machine::AccessGrant,
};

/// What happened, in its order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn add(&self, word: &'static str) {
        self.0.lock().unwrap().push(word);
    }

    fn words(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

/// A clock that a test advances.
#[derive(Clone)]
struct Time(Arc<Mutex<Instant>>);

impl Time {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Down,
    Panic,
    Never,
}

/// Returns its answers in turn, the last one for ever.
struct Mcpd {
    answers: Vec<Answer>,
    log: Log,
}

impl AccessProbe for Mcpd {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeAnswer, ProbeError> {
        let before = self.log.words().iter().filter(|word| **word == "probe").count();
        self.log.add("probe");
        match self.answers[before.min(self.answers.len() - 1)] {
            Answer::Status(status) => ProbeAnswer::of_status(status, None),
            Answer::Down => Err(ProbeError("connection refused".to_owned())),
            Answer::Panic => panic!("the probe is broken"),
            Answer::Never => pending().await,
        }
    }
}

/// An engine whose start takes so long on the clock, or fails after half a minute.
struct Engine {
    start: Result<Duration, &'static str>,
    run: Option<Result<&'static str, &'static str>>,
    time: Time,
    log: Log,
}

/// Held while the engine must not be stopped.
struct Held(Log);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add("release");
    }
}

impl LocalAttempt<(), String> for Engine {
    type Ready = Held;

    async fn prepare(&self, (): &(), _: &Trail) -> Result<Held, LocalError> {
        self.log.add("prepare");
        self.time.pass(self.start.unwrap_or(Duration::from_secs(30)));
        match self.start {
            Ok(_) => Ok(Held(self.log.clone())),
            Err(reason) => Err(LocalError::failed(reason)),
        }
    }

    async fn run(&self, (): &(), _held: Held, _: AccessGrant, _: &Trail) -> Result<String, LocalError> {
        self.log.add("run");
        match self.run {
            Some(result) => result.map(str::to_owned).map_err(LocalError::failed),
            None => pending().await,
        }
    }
}

/// Neither clone nor default, so that only the original can be returned.
#[derive(Debug, PartialEq)]
struct PrimaryError {
    class: FailureClass,
    body: &'static str,
}

impl Classified for PrimaryError {
    fn class(&self) -> FailureClass {
        self.class
    }
}

type Primary = Result<&'static str, FailureClass>;

/// One request's surroundings.
struct Scene {
    router: FailoverRouter<Mcpd>,
    engine: Engine,
    registry: ProviderRegistry<()>,
    call: FailoverRequest,
    log: Log,
}

fn scene(answers: &[Answer]) -> Scene {
    let (log, time) = (Log::default(), Time::new());
    let mut registry = ProviderRegistry::default();
    registry.register("desk", ()).unwrap();
    registry.register_failover("claude", "desk").unwrap();
    let clock = time.clone();
    let mcpd = Mcpd { answers: answers.to_vec(), log: log.clone() };
    Scene {
        router: FailoverRouter::new(mcpd).with_clock(move || *clock.0.lock().unwrap()),
        engine: Engine { start: Ok(Duration::ZERO), run: Some(Ok("local")), time, log: log.clone() },
        registry,
        call: FailoverRequest {
            llm: LlmRef::named("claude"),
            bearer: Bearer::new("alice's own"),
            signed_in: false,
            form: || (),
        },
        log,
    }
}

impl Scene {
    fn now(&self) -> Instant {
        *self.engine.time.0.lock().unwrap()
    }

    /// The primary failed for Alice just now, and its breaker is open for a day.
    fn with_open_breaker(mut self) -> Self {
        let policy = BreakerPolicy { failures: 1, open: Duration::from_secs(86_400) };
        let (breakers, now) = (Arc::new(Breakers::new(policy)), Instant::now());
        let mut permit = breakers.admit("claude", (), &self.call.bearer, now);
        permit.settle(Some(FailureClass::ServerError), now);
        permit.accept_caller(now);
        drop(permit);
        self.router = self.router.with_breakers(breakers);
        self
    }

    fn run(&self, primary: Primary) -> impl Future<Output = Routed<String, PrimaryError>> + Send {
        let log = &self.log;
        let call = move || async move {
            log.add("primary");
            primary.map(str::to_owned).map_err(|class| PrimaryError { class, body: "the primary's own" })
        };
        self.router.run(&self.registry, &self.call, call, &self.engine)
    }
}

fn down() -> Result<Served<String>, PrimaryError> {
    Err(PrimaryError { class: FailureClass::Connect, body: "the primary's own" })
}

const DOWN: Primary = Err(FailureClass::Connect);

#[tokio::test]
async fn working_primary_leaves_a_short_trail() {
    let scene = scene(&[Answer::Status(200)]);
    let ended = scene.run(Ok("central")).await;
    assert_eq!(ended.result.unwrap().value, "central");
    assert_eq!(ended.trail, Trail { primary_called: true, ..Trail::default() });
    assert_eq!(scene.log.words(), ["primary"]);
}

#[tokio::test]
async fn trail_has_class_provider_and_probes() {
    let scene = scene(&[Answer::Status(204)]);
    let ended = scene.run(DOWN).await;
    let served = ended.result.unwrap();
    assert_eq!(served, Served { value: "local".to_owned(), failover: true, via: Some("desk".to_owned()) });
    let trail = Trail {
        primary: Some(FailureClass::Connect),
        primary_called: true,
        provider: Some("desk".to_owned()),
        probes: vec![Access::Allowed],
        asked_at: Some(scene.now()),
        allowance: Some(Allowance::of_status(None)),
        ..Trail::default()
    };
    assert_eq!(ended.trail, trail);
    assert_eq!(scene.log.words(), ["primary", "probe", "prepare", "run", "release"]);
}

#[tokio::test]
async fn inv_03_forbidden_and_unreachable_differ_in_the_trail_only() {
    for (answer, access, reason) in [
        (Answer::Status(403), Access::Forbidden, None),
        (Answer::Status(401), Access::Forbidden, None),
        (Answer::Status(404), Access::Unreachable, Some("mcpd answered with status 404")),
        (Answer::Status(302), Access::Unreachable, Some("mcpd answered with status 302")),
        (Answer::Down, Access::Unreachable, Some("connection refused")),
    ] {
        let scene = scene(&[answer]);
        let ended = scene.run(DOWN).await;
        assert_eq!(ended.result, down());
        let trail = Trail {
            primary: Some(FailureClass::Connect),
            primary_called: true,
            provider: Some("desk".to_owned()),
            probes: vec![access],
            probe_error: reason.map(str::to_owned),
            local_error: None,
            asked_at: Some(scene.now()),
            ..Trail::default()
        };
        assert_eq!(ended.trail, trail);
        assert_eq!(scene.log.words(), ["primary", "probe"]);
    }
    let words = [Access::Allowed, Access::Leased, Access::Forbidden, Access::Unreachable]
        .map(|access| access.to_string());
    assert_eq!(words, ["allowed", "lease", "forbidden", "unreachable"]);
}

#[tokio::test]
async fn inv_03_failed_local_start_returns_the_primarys_error() {
    let mut scene = scene(&[Answer::Status(200)]);
    scene.engine.start = Err("the model is missing");
    let ended = scene.run(DOWN).await;
    assert_eq!(ended.result, down());
    assert_eq!(ended.trail.local_error, Some(LocalError::failed("the model is missing")));
    assert_eq!(scene.log.words(), ["primary", "probe", "prepare"]);
}

#[tokio::test]
async fn inv_01_start_longer_than_the_limit_is_probed_again() {
    for (limit, took, probes) in [
        (None, Duration::from_secs(1), 1),
        (None, Duration::from_millis(1001), 2),
        (Some(Duration::from_secs(5)), Duration::from_secs(5), 1),
        (Some(Duration::from_secs(5)), Duration::from_millis(5001), 2),
        (Some(Duration::ZERO), Duration::from_nanos(1), 2),
    ] {
        let mut scene = scene(&[Answer::Status(200)]);
        scene.engine.start = Ok(took);
        if let Some(limit) = limit {
            scene.router = scene.router.reprobe_after(limit);
        }
        let ended = scene.run(DOWN).await;
        assert!(ended.result.unwrap().failover);
        assert_eq!(ended.trail.probes, vec![Access::Allowed; probes], "limit {limit:?}, took {took:?}");
    }
}

#[tokio::test]
async fn inv_01_access_revoked_during_a_start_ends_the_failover() {
    for (answer, access, reason) in [
        (Answer::Status(403), Access::Forbidden, None),
        (Answer::Down, Access::Unreachable, Some("connection refused")),
    ] {
        let mut scene = scene(&[Answer::Status(200), answer]);
        scene.engine.start = Ok(Duration::from_secs(30));
        let ended = scene.run(DOWN).await;
        assert_eq!(ended.result, down());
        assert_eq!(ended.trail.probes, [Access::Allowed, access]);
        assert_eq!(ended.trail.probe_error.as_deref(), reason);
        assert_eq!(scene.log.words(), ["primary", "probe", "prepare", "probe", "release"]);
    }
}

#[tokio::test]
async fn open_breaker_without_a_provider_calls_the_primary() {
    let mut scene = scene(&[Answer::Status(200)]).with_open_breaker();
    scene.registry.unregister("desk");
    let ended = scene.run(DOWN).await;
    assert_eq!(ended.result, down());
    assert_eq!(scene.log.words(), ["primary"]);
}

#[tokio::test]
async fn open_breaker_falls_back_to_the_primarys_result() {
    for primary in [Ok("central"), DOWN] {
        // mcpd does not allow it.
        let refused = scene(&[Answer::Status(403)]).with_open_breaker();
        let ended = refused.run(primary).await;
        assert_eq!(ended.result.map(|served| (served.value, served.failover)), central(primary));
        assert_eq!((ended.trail.primary_called, ended.trail.primary), (true, primary.err()));
        assert_eq!(refused.log.words(), ["probe", "primary"]);

        // The engine does not start.
        let mut unstarted = scene(&[Answer::Status(200)]).with_open_breaker();
        unstarted.engine.start = Err("the model is missing");
        let ended = unstarted.run(primary).await;
        assert_eq!(ended.result.map(|served| (served.value, served.failover)), central(primary));
        assert_eq!(unstarted.log.words(), ["probe", "prepare", "primary"]);

        // The engine fails.
        let mut failing = scene(&[Answer::Status(200)]).with_open_breaker();
        failing.engine.run = Some(Err("out of memory"));
        let ended = failing.run(primary).await;
        assert_eq!(ended.result.map(|served| (served.value, served.failover)), central(primary));
        assert_eq!(ended.trail.local_error, Some(LocalError::failed("out of memory")));
        assert_eq!(failing.log.words(), ["probe", "prepare", "run", "release", "primary"]);
    }
}

fn central(primary: Primary) -> Result<(String, bool), PrimaryError> {
    match primary {
        Ok(value) => Ok((value.to_owned(), false)),
        Err(class) => Err(PrimaryError { class, body: "the primary's own" }),
    }
}

#[tokio::test]
async fn engine_is_released_before_the_primary_is_called() {
    let mut scene = scene(&[Answer::Status(200), Answer::Status(403)]).with_open_breaker();
    scene.engine.start = Ok(Duration::from_secs(30));
    let ended = scene.run(Ok("central")).await;
    assert_eq!(ended.result.unwrap().value, "central");
    assert_eq!(scene.log.words(), ["probe", "prepare", "probe", "release", "primary"]);
}

#[tokio::test]
async fn inv_08_panic_in_the_probe_runs_nothing() {
    for breaker_open in [false, true] {
        let mut scene = scene(&[Answer::Panic]);
        if breaker_open {
            scene = scene.with_open_breaker();
        }
        let log = scene.log.clone();
        let ended = tokio::spawn(async move { scene.run(DOWN).await.result.is_ok() }).await;
        assert!(ended.unwrap_err().is_panic());
        assert!(log.words().contains(&"probe"));
        assert!(!log.words().contains(&"prepare") && !log.words().contains(&"run"), "{:?}", log.words());
    }
}

#[tokio::test]
async fn inv_08_panic_in_the_second_probe_runs_nothing() {
    let mut scene = scene(&[Answer::Status(200), Answer::Panic]);
    scene.engine.start = Ok(Duration::from_secs(30));
    let log = scene.log.clone();
    let ended = tokio::spawn(async move { scene.run(DOWN).await.result.is_ok() }).await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(log.words(), ["primary", "probe", "prepare", "probe", "release"]);
}

#[test]
fn dropped_request_stops_at_once() {
    let waiting = |scene: &Scene| {
        let mut run = pin!(scene.run(DOWN));
        let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    };

    let during_the_probe = scene(&[Answer::Never]);
    waiting(&during_the_probe);
    assert_eq!(during_the_probe.log.words(), ["primary", "probe"]);

    let mut during_the_run = scene(&[Answer::Status(200)]);
    during_the_run.engine.run = None;
    waiting(&during_the_run);
    assert_eq!(during_the_run.log.words(), ["primary", "probe", "prepare", "run", "release"]);
}
