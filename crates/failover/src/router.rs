//! Drives the [machine](crate::machine) for one request: attempts the primary, asks mcpd, attempts the local provider. The
//! router holds the primary's breakers: it admits each request, and settles it as soon as the primary's attempt has ended.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Access, AccessProbe, Bearer, BreakerPermit, BreakerPolicy, Breakers, FailureClass, ProbeAnswer,
    ProbeRequest, ProviderRegistry, RequestForm,
    access::{AccessVerdict, Allowance},
    denial::FailoverRule,
    lease::{LeaseBook, LeaseCaller, LeaseCover, LeaseTime},
    llm::{LlmId, LlmRef},
    llm_ids::LlmIds,
    machine::{AccessGrant, Action, Event, FailoverState, Setup},
};

/// An error of the primary that has a failure class.
pub trait Classified {
    /// What went wrong.
    fn class(&self) -> FailureClass;
}

/// One attempt at a local provider of type `P`, for an answer of type `T`.
pub trait LocalAttempt<P, T> {
    /// Keeps a prepared provider ready until the request has run.
    type Ready: Send;

    /// Makes the provider ready; may take as long as an engine's start. `trail` is what happened so far.
    fn prepare(
        &self,
        provider: &P,
        trail: &Trail,
    ) -> impl Future<Output = Result<Self::Ready, LocalError>> + Send;

    /// Runs the request. The grant proves that mcpd allowed it a moment ago.
    fn run(
        &self,
        provider: &P,
        ready: Self::Ready,
        grant: AccessGrant,
        trail: &Trail,
    ) -> impl Future<Output = Result<T, LocalError>> + Send;
}

/// Why a local provider did not answer. The reason is for logs and the journal, never for a caller of the primary; the cause
/// may be shown to callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LocalError {
    /// The kind of error.
    pub cause: LocalCause,
    /// What happened.
    pub reason: String,
}

/// What kept a local provider from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCause {
    /// It did not become ready, or failed the request.
    Failed,
    /// Its program or a file that it needs is missing now.
    Unavailable,
    /// Its queue is full.
    Busy {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The caller's access ended meanwhile, or could not be confirmed any more: the code of the error.
    AccessEnded(&'static str),
    /// The journal could not be written, so the request was not sent.
    NotRecorded,
    /// The request needs something that its model cannot do, in one word, such as `tools`.
    Lacks(&'static str),
}

impl LocalError {
    /// It did not become ready, or failed the request.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self { cause: LocalCause::Failed, reason: reason.to_string() }
    }
}

/// What the router has to know of a request.
#[derive(Debug, Clone)]
pub struct FailoverRequest<R = fn()> {
    /// The central Llm.
    pub llm: LlmRef,
    /// The caller's own credential.
    pub bearer: Bearer,
    /// Whether the caller is the user who is signed in on this machine.
    pub signed_in: bool,
    /// Reads the form, which selects the breaker, where some form has failed.
    pub form: R,
}

/// An answer, and which upstream gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served<T> {
    /// The answer.
    pub value: T,
    /// Whether a local provider gave it.
    pub failover: bool,
    /// The local provider's name, where one did.
    pub via: Option<String>,
}

/// What happened on the way, for logs, metrics and the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// How the primary failed; `None` where it answered, or was skipped by the breaker.
    pub primary: Option<FailureClass>,
    /// How the primary failed before, where the breaker skipped it.
    pub skipped: Option<FailureClass>,
    /// Whether the primary was attempted.
    pub primary_called: bool,
    /// The local provider to fall back to.
    pub provider: Option<String>,
    /// The results of the probes, in order.
    pub probes: Vec<Access>,
    /// Why the last probe had no result, where it had none; also where a lease covers the request.
    pub probe_error: Option<String>,
    /// The rule of the Llm by which the last probe denied, where the caller may view the Llm.
    pub denied_by: Option<FailoverRule>,
    /// The id of the Llm, where the caller, a probe or a lease named it.
    pub llm_id: Option<LlmId>,
    /// What mcpd signed, where it was verified: the proof of the last probe, or the lease.
    pub token: Option<Arc<str>>,
    /// When the last probe was sent.
    pub asked_at: Option<Instant>,
    /// What the last probe allowed; `None` where a lease covers the request.
    pub allowance: Option<Allowance>,
    /// Why the local provider did not answer, where the caller was allowed.
    pub local_error: Option<LocalError>,
}

impl Trail {
    /// Why the request fell back: how the primary failed, now or before the breaker skipped it.
    pub fn class(&self) -> Option<FailureClass> {
        self.primary.or(self.skipped)
    }

    /// Adds what a probe found.
    fn probed(&mut self, verdict: &AccessVerdict) {
        self.probes.push(verdict.access());
        (self.probe_error, self.token, self.allowance) = (None, None, None);
        self.denied_by = None;
        match verdict {
            AccessVerdict::Allowed(allowance) => {
                self.llm_id = allowance.llm.clone().or(self.llm_id.take());
                self.token.clone_from(&allowance.proof);
                self.allowance = Some(allowance.clone());
            }
            AccessVerdict::Leased { cover, reason } => {
                self.probe_error = Some(reason.clone());
                self.llm_id = Some(cover.llm.clone());
                self.token = Some(cover.token.as_str().into());
            }
            AccessVerdict::Forbidden { rule, .. } => self.denied_by = *rule,
            AccessVerdict::Unreachable(reason) => self.probe_error = Some(reason.clone()),
        }
    }
}

/// How a request ended.
#[derive(Debug)]
pub struct Routed<T, E> {
    /// The answer, or the primary's own error.
    pub result: Result<Served<T>, E>,
    /// What happened on the way.
    pub trail: Trail,
}

/// Falls back from central Llms to local providers, as far as mcpd allows.
#[derive(Debug, Clone)]
pub struct FailoverRouter<A, F = ()> {
    probe: A,
    breakers: Arc<Breakers<F>>,
    leases: Option<Arc<LeaseBook>>,
    ids: Arc<LlmIds>,
    also_on: Vec<FailureClass>,
    /// By Llm; the others have the breakers' own policy and `also_on`.
    policies: HashMap<String, FailoverPolicy>,
    reprobe_after: Duration,
    clock: Clock,
}

/// When requests to one Llm fall back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverPolicy {
    /// When the primary is skipped.
    pub breaker: BreakerPolicy,
    /// Classes that do not fail over by default.
    pub also_on: Vec<FailureClass>,
}

/// The router's source of time.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl<A> FailoverRouter<A> {
    /// How long a local start may take before mcpd is asked again.
    pub const REPROBE_AFTER: Duration = Duration::from_secs(1);

    /// A router that asks mcpd through `probe`, with breakers of the default policy.
    pub fn new(probe: A) -> Self {
        Self {
            probe,
            breakers: Arc::new(Breakers::new(BreakerPolicy::default())),
            leases: None,
            ids: Arc::default(),
            also_on: Vec::new(),
            policies: HashMap::new(),
            reprobe_after: Self::REPROBE_AFTER,
            clock: Clock(Arc::new(Instant::now)),
        }
    }
}

impl<A, F: RequestForm> FailoverRouter<A, F> {
    /// Replaces the breakers, for example by those of an earlier router.
    #[must_use]
    pub fn with_breakers<G: RequestForm>(self, breakers: Arc<Breakers<G>>) -> FailoverRouter<A, G> {
        let Self { probe, leases, ids, also_on, policies, reprobe_after, clock, .. } = self;
        FailoverRouter { probe, breakers, leases, ids, also_on, policies, reprobe_after, clock }
    }

    /// Keeps the leases that probes bring in this book, and uses them where no verdict can be had.
    #[must_use]
    pub fn with_leases(mut self, leases: Arc<LeaseBook>) -> Self {
        self.leases = Some(leases);
        self
    }

    /// Keeps the ids of Llms that probes bring here.
    #[must_use]
    pub fn with_ids(mut self, ids: Arc<LlmIds>) -> Self {
        self.ids = ids;
        self
    }

    /// The ids of Llms that probes have brought.
    pub fn ids(&self) -> &Arc<LlmIds> {
        &self.ids
    }

    /// The primary's breakers.
    pub fn breakers(&self) -> &Arc<Breakers<F>> {
        &self.breakers
    }

    /// Adds classes that do not fail over by default.
    #[must_use]
    pub fn also_on(mut self, classes: impl IntoIterator<Item = FailureClass>) -> Self {
        self.also_on = classes.into_iter().collect();
        self
    }

    /// Sets the policy of one Llm.
    #[must_use]
    pub fn with_policy(mut self, llm: impl Into<String>, policy: FailoverPolicy) -> Self {
        self.policies.insert(llm.into(), policy);
        self
    }

    fn policy(&self, llm: &str) -> FailoverPolicy {
        let default = || FailoverPolicy { breaker: self.breakers.policy(), also_on: self.also_on.clone() };
        self.policies.get(llm).cloned().unwrap_or_else(default)
    }

    /// Sets how long a local start may take before mcpd is asked again.
    #[must_use]
    pub fn reprobe_after(mut self, limit: Duration) -> Self {
        self.reprobe_after = limit;
        self
    }

    /// Replaces the clock, [`Instant::now`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    fn now(&self) -> Instant {
        (self.clock.0)()
    }

    /// Now, as if the clock had run while the machine was suspended since `begun`.
    fn awake_now(&self, begun: (Instant, Option<LeaseTime>)) -> Instant {
        let (now, (instant, time)) = (self.now(), begun);
        let passed = now.saturating_duration_since(instant);
        let since = |time: LeaseTime| self.leases.as_ref()?.now()?.boot.checked_sub(time.boot);
        let suspended = time.and_then(since).unwrap_or_default().saturating_sub(passed);
        now.checked_add(suspended).unwrap_or(now)
    }
}

impl<A: AccessProbe + Sync, F: RequestForm> FailoverRouter<A, F> {
    /// Asks mcpd whether this caller may use this Llm now; where mcpd does not decide, a lease does.
    pub async fn check_access(&self, llm: &LlmRef, bearer: &Bearer, signed_in: bool) -> AccessVerdict {
        let request = ProbeRequest { llm: llm.asked.clone(), bearer: bearer.clone() };
        let digest = bearer.digest();
        // Before the probe is sent: a lease is counted from here.
        let sent = self.leases.as_ref().and_then(|leases| leases.now());
        match self.probe.probe(&request).await {
            Ok(ProbeAnswer::Allowed { allowance, lease }) => {
                if let Some(id) = &allowance.llm {
                    self.ids.learn(llm, id, self.now());
                }
                if let (Some(leases), Some(id), Some(_)) = (&self.leases, &allowance.llm, &allowance.proof) {
                    leases.allowed(LeaseCaller { bearer: &digest, signed_in }, llm, id, lease, sent);
                }
                AccessVerdict::Allowed(allowance)
            }
            Ok(ProbeAnswer::Forbidden(denial)) => {
                if let Some(leases) = &self.leases {
                    leases.denied(&digest, llm, &denial);
                }
                AccessVerdict::Forbidden { authenticated: denial.signed.is_some(), rule: denial.rule }
            }
            // INVARIANT 8: not knowing is not being allowed, unless mcpd signed for this time before.
            Err(error) => match self.cover(llm, bearer) {
                Some(cover) => AccessVerdict::Leased { cover, reason: error.0 },
                None => AccessVerdict::Unreachable(error.0),
            },
        }
    }

    /// Whether the lease that a grant rests on still covers the request; true of a grant that rests on none.
    fn is_in_force(&self, grant: &AccessGrant, llm: &LlmRef, bearer: &Bearer) -> bool {
        let Some(found) = grant.lease() else { return true };
        self.cover(llm, bearer).is_some_and(|cover| cover.llm == found.llm)
    }

    /// The lease that covers this caller and Llm now, should no verdict be had.
    pub fn cover(&self, llm: &LlmRef, bearer: &Bearer) -> Option<LeaseCover> {
        self.leases.as_ref()?.cover(&bearer.digest(), llm)
    }

    /// The clocks of leases; `None` where they cannot be read.
    pub fn lease_time(&self) -> Option<LeaseTime> {
        self.leases.as_ref()?.now()
    }

    /// Runs a request: the primary first, a local provider if need be and if mcpd allows it, else returns the primary's own
    /// error.
    ///
    /// `primary` is called once, or not at all where its breaker is open and the local provider answers.
    pub async fn run<P, T, E, L, R>(
        &self,
        registry: &ProviderRegistry<P>,
        request: &FailoverRequest<R>,
        mut primary: impl PrimaryAttempt<T, E>,
        local: &L,
    ) -> Routed<T, E>
    where
        P: Sync,
        E: Classified,
        L: LocalAttempt<P, T> + Sync,
        R: Fn() -> F + Sync,
    {
        let FailoverRequest { llm, bearer, signed_in, form } = request;
        let fallback = registry.failover_for(&llm.name);
        let FailoverPolicy { breaker, also_on } = self.policy(&llm.name);
        let admit = || {
            let form = self.breakers.knows_forms(&llm.name).then(form);
            self.breakers.admit_under(breaker, &llm.name, form, Some(bearer), self.now())
        };
        let mut permit = fallback.map(|_| admit());
        let breaker_open = permit.as_ref().is_some_and(BreakerPermit::is_open);
        let setup =
            Setup { breaker_open, has_local: fallback.is_some(), also_on, reprobe_after: self.reprobe_after };
        let skipped = permit.as_ref().filter(|_| breaker_open).and_then(BreakerPermit::last_failure);
        let llm_id = (llm.asked != llm.name).then(|| LlmId::new(&llm.asked));
        let mut trail = Trail { skipped, llm_id, ..Trail::default() };
        let (mut answer, mut ready) = (None, None);
        let begun = (self.now(), self.leases.as_ref().and_then(|leases| leases.now()));
        let (mut state, mut action) = FailoverState::start().on(Event::Begin, &setup, begun.0);
        loop {
            let event = match (action, fallback) {
                (Action::CallPrimary, _) => {
                    trail.primary_called = true;
                    // Before the primary's attempt, which may take minutes: the local provider is released meanwhile.
                    ready = None;
                    let result = primary.call().await;
                    let event = match &result {
                        Ok(_) => Event::PrimaryOk,
                        Err(error) => Event::PrimaryFailed(error.class()),
                    };
                    trail.primary = result.as_ref().err().map(Classified::class);
                    // Before the local provider answers, which may take minutes: other requests use what was learned.
                    if let Some(permit) = &mut permit {
                        permit.read_form(trail.primary, form);
                        permit.settle(trail.primary, self.now());
                    }
                    answer = Some(result.map(|value| Served { value, failover: false, via: None }));
                    event
                }
                (Action::Probe, Some((name, _))) => {
                    trail.provider = Some(name.to_owned());
                    trail.asked_at = Some(self.now());
                    let verdict = self.check_access(llm, bearer, *signed_in).await;
                    trail.probed(&verdict);
                    if let (AccessVerdict::Allowed(_), Some(permit)) = (&verdict, &mut permit) {
                        permit.accept_caller(self.now());
                    }
                    Event::Probed(verdict)
                }
                (Action::Prepare, Some((_, provider))) => match local.prepare(provider, &trail).await {
                    Ok(prepared) => {
                        ready = Some(prepared);
                        Event::Prepared
                    }
                    Err(error) => {
                        trail.local_error = Some(error);
                        Event::PrepareFailed
                    }
                },
                // INVARIANT 1: a lease may have ended since it was found, or a denial of another request may have destroyed it.
                (Action::RunLocal(grant), Some(_)) if !self.is_in_force(&grant, llm, bearer) => {
                    trail.local_error = Some(LocalError::failed("the lease ended while the engine started"));
                    Event::LocalFailed
                }
                (Action::RunLocal(grant), Some((name, provider))) => match ready.take() {
                    None => Event::LocalFailed,
                    Some(prepared) => match local.run(provider, prepared, grant, &trail).await {
                        Ok(value) => {
                            answer = Some(Ok(Served { value, failover: true, via: Some(name.to_owned()) }));
                            Event::LocalOk
                        }
                        Err(error) => {
                            trail.local_error = Some(error);
                            Event::LocalFailed
                        }
                    },
                },
                (Action::Probe, None) => {
                    Event::Probed(AccessVerdict::Unreachable("there is no local provider".to_owned()))
                }
                (Action::Prepare | Action::RunLocal(_), None) => Event::LocalFailed,
                (Action::ReturnPrimary | Action::ReturnLocal, _) => match answer {
                    Some(result) => return Routed { result, trail },
                    // The machine returns only what was attempted; if that were ever wrong, the primary decides.
                    None => {
                        let result = primary.call().await;
                        let result = result.map(|value| Served { value, failover: false, via: None });
                        return Routed { result, trail };
                    }
                },
            };
            (state, action) = state.on(event, &setup, self.awake_now(begun));
        }
    }
}

/// One attempt at the primary.
pub trait PrimaryAttempt<T, E>: Send {
    /// Sends the request to the primary.
    fn call(&mut self) -> impl Future<Output = Result<T, E>> + Send;
}

impl<T, E, F, Fut> PrimaryAttempt<T, E> for F
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
{
    fn call(&mut self) -> impl Future<Output = Result<T, E>> + Send {
        self()
    }
}
