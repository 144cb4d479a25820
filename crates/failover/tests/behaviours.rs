//! The registry and the router, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use std::time::{Duration, Instant};

use mcpctl_failover::{
    Access, AccessProbe, AccessVerdict, Bearer, BreakerPolicy, Breakers, Classified, FailoverRequest,
    FailoverRouter, FailureClass, LlmRef, LocalAttempt, LocalError, ProbeAnswer, ProbeError, ProbeRequest,
    ProviderRegistry, RegistryError, Routed, Trail, machine::AccessGrant,
};

/// Returns the scripted statuses in turn, the last one for ever; records the probes.
struct Mcpd {
    statuses: Vec<Option<u16>>,
    asked: Mutex<Vec<ProbeRequest>>,
}

impl Mcpd {
    fn new(statuses: &[Option<u16>]) -> Self {
        Self { statuses: statuses.to_vec(), asked: Mutex::default() }
    }
}

impl AccessProbe for &Mcpd {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeAnswer, ProbeError> {
        let mut asked = self.asked.lock().unwrap();
        let at = asked.len().min(self.statuses.len() - 1);
        asked.push(request.clone());
        let status = self.statuses[at].ok_or_else(|| ProbeError("connection refused".to_owned()))?;
        ProbeAnswer::of_status(status, None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct PrimaryError(FailureClass);

impl Classified for PrimaryError {
    fn class(&self) -> FailureClass {
        self.0
    }
}

#[derive(Default)]
struct Desk {
    runs: AtomicUsize,
    prepares: AtomicUsize,
    fail: Option<&'static str>,
}

impl LocalAttempt<&'static str, String> for Desk {
    type Ready = ();

    async fn prepare(&self, _: &&'static str, _: &Trail) -> Result<(), LocalError> {
        self.prepares.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn run(
        &self,
        provider: &&'static str,
        (): (),
        _: AccessGrant,
        _: &Trail,
    ) -> Result<String, LocalError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        match self.fail {
            Some(reason) => Err(LocalError::failed(reason)),
            None => Ok(format!("from {provider}")),
        }
    }
}

fn registry() -> ProviderRegistry<&'static str> {
    let mut registry = ProviderRegistry::default();
    registry.register("vllm-local", "the desk").unwrap();
    registry.register_failover("claude", "vllm-local").unwrap();
    registry
}

fn call() -> FailoverRequest {
    FailoverRequest {
        llm: LlmRef::named("claude"),
        bearer: Bearer::new("alice's own"),
        signed_in: false,
        form: || (),
    }
}

/// The breakers of a primary that failed for Alice just now, open for a day.
fn opened_breakers() -> Arc<Breakers> {
    let policy = BreakerPolicy { failures: 1, open: Duration::from_secs(86_400) };
    let (breakers, now) = (Arc::new(Breakers::new(policy)), Instant::now());
    let mut permit = breakers.admit("claude", (), &Bearer::new("alice's own"), now);
    permit.settle(Some(FailureClass::ServerError), now);
    permit.accept_caller(now);
    drop(permit);
    breakers
}

async fn run(
    mcpd: &Mcpd,
    desk: &Desk,
    primary: Result<&'static str, FailureClass>,
) -> Routed<String, PrimaryError> {
    let primary = || async move { primary.map(str::to_owned).map_err(PrimaryError) };
    FailoverRouter::new(mcpd).run(&registry(), &call(), primary, desk).await
}

#[test]
fn registered_failover_is_found() {
    assert_eq!(registry().failover_for("claude"), Some(("vllm-local", &"the desk")));
}

#[test]
fn unmapped_llm_has_no_provider() {
    assert_eq!(registry().failover_for("gpt"), None);
}

#[test]
fn failover_to_an_unregistered_provider_is_an_error() {
    let error = registry().register_failover("claude2", "missing").unwrap_err();
    assert_eq!(error, RegistryError::NotRegistered("missing".to_owned()));
    assert!(error.to_string().contains("not registered"));
}

#[test]
fn unregistered_provider_loses_its_failovers() {
    let mut registry = registry();
    registry.register_failover("gpt", "vllm-local").unwrap();
    assert_eq!(registry.unregister("vllm-local"), Some("the desk"));
    assert_eq!(registry.failover_for("claude"), None);
    assert_eq!(registry.failovers().count(), 0);
    assert_eq!(registry.unregister("vllm-local"), None);
}

#[test]
fn failovers_are_listed_in_order_of_registration() {
    let mut registry = registry();
    registry.register("ollama", "the other").unwrap();
    registry.register_failover("zeta", "ollama").unwrap();
    registry.register_failover("gpt", "vllm-local").unwrap();
    let pairs: Vec<_> = registry.failovers().collect();
    assert_eq!(pairs, [("claude", "vllm-local"), ("zeta", "ollama"), ("gpt", "vllm-local")]);
}

#[test]
fn central_llm_has_one_local_provider() {
    let mut registry = registry();
    registry.register("ollama", "the other").unwrap();
    let error = registry.register_failover("claude", "ollama").unwrap_err().to_string();
    assert!(error.contains("`vllm-local`") && error.contains("`ollama`"), "{error}");
    assert_eq!(
        registry.register_failover("claude", "vllm-local"),
        Ok(()),
        "registering it twice changes nothing"
    );
    assert_eq!(registry.register("ollama", "again").unwrap_err(), RegistryError::Taken("ollama".to_owned()));
}

#[tokio::test]
async fn working_primary_causes_no_probe() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let served = run(&mcpd, &desk, Ok("central")).await.result.unwrap();
    assert_eq!((served.value.as_str(), served.failover, served.via), ("central", false, None));
    assert!(mcpd.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn allowed_failover_returns_the_local_answer() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let served = run(&mcpd, &desk, Err(FailureClass::ServerError)).await.result.unwrap();
    assert_eq!((served.value.as_str(), served.failover), ("from the desk", true));
    assert_eq!(served.via.as_deref(), Some("vllm-local"));
    let asked = mcpd.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!((ProbeRequest::METHOD, asked[0].path().as_str()), ("HEAD", "/api/v1/llms/claude"));
    assert_eq!(asked[0].bearer.expose(), "alice's own");
}

#[tokio::test]
async fn without_a_local_provider_the_primarys_error_returns() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let primary = || async { Err::<String, _>(PrimaryError(FailureClass::ServerError)) };
    let other = FailoverRequest { llm: LlmRef::named("gpt"), ..call() };
    let run = FailoverRouter::new(&mcpd).run(&registry(), &other, primary, &desk).await;
    assert_eq!(run.result.unwrap_err(), PrimaryError(FailureClass::ServerError));
    assert!(mcpd.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn inv_03_forbidden_returns_the_primarys_error() {
    let (mcpd, desk) = (Mcpd::new(&[Some(403)]), Desk::default());
    let ended = run(&mcpd, &desk, Err(FailureClass::Connect)).await;
    assert_eq!(ended.result.unwrap_err(), PrimaryError(FailureClass::Connect));
    assert_eq!(ended.trail.probes, [Access::Forbidden]);
    assert_eq!((desk.prepares.load(Ordering::SeqCst), desk.runs.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn inv_03_unreachable_mcpd_returns_the_primarys_error() {
    let (mcpd, desk) = (Mcpd::new(&[None]), Desk::default());
    let ended = run(&mcpd, &desk, Err(FailureClass::Connect)).await;
    assert_eq!(ended.result.unwrap_err(), PrimaryError(FailureClass::Connect));
    assert_eq!(ended.trail.probes, [Access::Unreachable]);
    assert_eq!(ended.trail.probe_error.as_deref(), Some("connection refused"));
    assert_eq!((desk.prepares.load(Ordering::SeqCst), desk.runs.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn each_probe_status_has_its_meaning() {
    for status in 100..600_u16 {
        let expected = match status {
            200 | 204 => Access::Allowed,
            401 | 403 => Access::Forbidden,
            _ => Access::Unreachable,
        };
        let mcpd = Mcpd::new(&[Some(status)]);
        let access =
            FailoverRouter::new(&mcpd).check_access(&LlmRef::named("claude"), &Bearer::new("b"), false).await;
        assert_eq!(access.access(), expected, "{status}");
    }
    let mcpd = Mcpd::new(&[None]);
    let access =
        FailoverRouter::new(&mcpd).check_access(&LlmRef::named("claude"), &Bearer::new("b"), false).await;
    assert_eq!(access, AccessVerdict::Unreachable("connection refused".to_owned()));
}

#[tokio::test]
async fn inv_02_only_the_listed_classes_fail_over() {
    for class in FailureClass::ALL {
        let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
        let failed_over = run(&mcpd, &desk, Err(class)).await.result.is_ok();
        let listed = [
            FailureClass::Connect,
            FailureClass::NoResponse,
            FailureClass::NoFirstToken,
            FailureClass::ServerError,
            FailureClass::RateLimited,
            FailureClass::UpstreamCredentials,
            FailureClass::ModelUnavailable,
        ];
        assert_eq!(failed_over, listed.contains(&class), "{class}");
        assert_eq!(!mcpd.asked.lock().unwrap().is_empty(), failed_over, "{class}");
    }
}

#[tokio::test]
async fn inv_02_only_context_length_can_be_added() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let router = FailoverRouter::new(&mcpd).also_on(FailureClass::ALL);
    for (class, expected) in [
        (FailureClass::ContextLength, true),
        (FailureClass::Denied, false),
        (FailureClass::Quota, false),
        (FailureClass::Rejected, false),
        (FailureClass::Cancelled, false),
    ] {
        let primary = || async move { Err::<String, _>(PrimaryError(class)) };
        let ended = router.run(&registry(), &call(), primary, &desk).await;
        assert_eq!(ended.result.is_ok(), expected, "{class}");
    }
}

#[tokio::test]
async fn local_failure_returns_the_primarys_error() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk { fail: Some("out of memory"), ..Desk::default() });
    let ended = run(&mcpd, &desk, Err(FailureClass::ServerError)).await;
    assert_eq!(ended.result.unwrap_err(), PrimaryError(FailureClass::ServerError));
    assert_eq!(ended.trail.local_error, Some(LocalError::failed("out of memory")));
}

#[tokio::test]
async fn inv_01_long_start_is_probed_again() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200), Some(403)]), Desk::default());
    // A clock that advances by an hour with each reading.
    let (start, looks) = (Instant::now(), AtomicUsize::new(0));
    let hours_apart = move || start + Duration::from_secs(3600) * looks.fetch_add(1, Ordering::SeqCst) as u32;
    let router = FailoverRouter::new(&mcpd).with_clock(hours_apart);
    let primary = || async { Err::<String, _>(PrimaryError(FailureClass::ServerError)) };
    let ended = router.run(&registry(), &call(), primary, &desk).await;
    assert_eq!(ended.result.unwrap_err(), PrimaryError(FailureClass::ServerError));
    assert_eq!(ended.trail.probes, [Access::Allowed, Access::Forbidden]);
    assert_eq!((desk.prepares.load(Ordering::SeqCst), desk.runs.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn open_breaker_skips_the_primary_but_not_the_probe() {
    let open = call();
    let calls = AtomicUsize::new(0);
    let primary = || {
        calls.fetch_add(1, Ordering::SeqCst);
        async { Err::<String, _>(PrimaryError(FailureClass::Connect)) }
    };

    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let opened = |mcpd| FailoverRouter::new(mcpd).with_breakers(opened_breakers());
    let ended = opened(&mcpd).run(&registry(), &open, primary, &desk).await;
    assert!(ended.result.unwrap().failover);
    assert_eq!((calls.load(Ordering::SeqCst), mcpd.asked.lock().unwrap().len()), (0, 1));

    // Not allowed: there is no error to return yet, so the primary is called after all.
    let mcpd = Mcpd::new(&[Some(403)]);
    let ended = opened(&mcpd).run(&registry(), &open, primary, &desk).await;
    assert_eq!(ended.result.unwrap_err(), PrimaryError(FailureClass::Connect));
    assert_eq!((calls.load(Ordering::SeqCst), mcpd.asked.lock().unwrap().len()), (1, 1));
}

#[test]
fn probe_paths_stay_below_llms() {
    let path = |llm: &str| ProbeRequest { llm: llm.to_owned(), bearer: Bearer::new("b") }.path();
    assert_eq!(path("qwen2.5_7b-x"), "/api/v1/llms/qwen2.5_7b-x");
    assert_eq!(path("../users/admin"), "/api/v1/llms/..%2Fusers%2Fadmin");
    assert_eq!(path("a?b#c d"), "/api/v1/llms/a%3Fb%23c%20d");
    assert_eq!(path(".."), "/api/v1/llms/%20..");
    assert_eq!(path(""), "/api/v1/llms/%20", "not the list of all Llms");
}

#[test]
fn inv_10_bearers_do_not_print() {
    assert!(!format!("{:?}", call()).contains("alice"));
}

/// Reading it takes a pass over all messages.
#[tokio::test]
async fn form_is_read_only_between_a_server_error_and_a_success() {
    let (mcpd, desk) = (Mcpd::new(&[Some(200)]), Desk::default());
    let router = FailoverRouter::new(&mcpd).with_breakers(Arc::new(Breakers::new(BreakerPolicy::default())));
    let reads = AtomicUsize::new(0);
    let request = FailoverRequest {
        llm: LlmRef::named("claude"),
        bearer: Bearer::new("alice's own"),
        signed_in: false,
        form: || {
            reads.fetch_add(1, Ordering::SeqCst);
            "images"
        },
    };
    for (primary, expected) in [
        (Ok("central"), 0),
        (Err(FailureClass::Connect), 0),
        (Err(FailureClass::ServerError), 1),
        // The form has a breaker now, which may skip the primary, and which a success resets.
        (Ok("central"), 2),
        (Ok("central"), 2),
    ] {
        let call = || async move { primary.map(str::to_owned).map_err(PrimaryError) };
        router.run(&registry(), &request, call, &desk).await.result.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), expected, "{primary:?}");
    }
}
