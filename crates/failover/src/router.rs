//! Drives the [machine](crate::machine) for one request: calls the primary, asks the centre, calls the local provider.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Access, AccessProbe, Bearer, FailureClass, ProbeError, ProbeRequest, ProviderRegistry,
    machine::{AccessGrant, Action, Event, FailoverState, Setup},
};

/// An error of the primary that knows its class.
pub trait Classified {
    /// What went wrong.
    fn class(&self) -> FailureClass;
}

/// How local providers of type `P` are asked for a `T`.
pub trait LocalAttempt<P, T> {
    /// What keeps a prepared provider ready until the request has run.
    type Ready: Send;

    /// Makes the provider ready; may take as long as an engine's start.
    fn prepare(&self, provider: &P) -> impl Future<Output = Result<Self::Ready, LocalError>> + Send;

    /// Runs the request. The grant says that the centre allowed it a moment ago.
    fn run(
        &self,
        provider: &P,
        ready: Self::Ready,
        grant: AccessGrant,
    ) -> impl Future<Output = Result<T, LocalError>> + Send;
}

/// Why a local provider could not take over. The words are for logs and the journal, never for a caller of the centre;
/// the cause may be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LocalError {
    /// What kind of thing it is.
    pub cause: LocalCause,
    /// What happened.
    pub reason: String,
}

/// What kept a local provider from taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCause {
    /// It could not be made ready, or did not answer.
    Failed,
    /// Its program or a file that it needs is not there now.
    Unavailable,
    /// As many requests run on it and wait for it as may.
    Busy {
        /// When there may be room.
        retry_after: Duration,
    },
    /// What it does could not be recorded, so it was not asked.
    NotRecorded,
    /// The request needs something that its model cannot do, in one word, such as `tools`.
    Lacks(&'static str),
}

impl LocalError {
    /// It could not be made ready, or did not answer.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self { cause: LocalCause::Failed, reason: reason.to_string() }
    }
}

/// What a request is about.
#[derive(Debug, Clone)]
pub struct FailoverRequest {
    /// Name or id of the central Llm.
    pub llm: String,
    /// The caller's own credential.
    pub bearer: Bearer,
    /// Whether the breaker lets the primary rest.
    pub breaker_open: bool,
}

/// An answer, and who gave it.
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
    /// Why the primary did not answer; `None` where it did, or was skipped by the breaker.
    pub primary: Option<FailureClass>,
    /// Whether the primary was called.
    pub primary_called: bool,
    /// The local provider that was to take over.
    pub provider: Option<String>,
    /// What the centre said, in the order in which it was asked.
    pub probes: Vec<Access>,
    /// Why the centre could not be asked, where it could not.
    pub probe_error: Option<String>,
    /// Why the local provider did not answer, where it was let.
    pub local_error: Option<LocalError>,
}

/// The end of a request.
#[derive(Debug)]
pub struct Routed<T, E> {
    /// The answer, or the primary's own error.
    pub result: Result<Served<T>, E>,
    /// What happened on the way.
    pub trail: Trail,
}

/// Lets local providers stand in for central Llms, as far as the centre allows.
#[derive(Debug, Clone)]
pub struct FailoverRouter<A> {
    probe: A,
    also_on: Vec<FailureClass>,
    reprobe_after: Duration,
    clock: Clock,
}

/// Where the router takes the time from.
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl<A: AccessProbe + Sync> FailoverRouter<A> {
    /// How long a local start may take before the centre is asked again.
    pub const REPROBE_AFTER: Duration = Duration::from_secs(1);

    /// A router that asks the centre through `probe`.
    pub fn new(probe: A) -> Self {
        let clock = Clock(Arc::new(Instant::now));
        Self { probe, also_on: Vec::new(), reprobe_after: Self::REPROBE_AFTER, clock }
    }

    /// Adds classes that do not fail over by default.
    #[must_use]
    pub fn also_on(mut self, classes: impl IntoIterator<Item = FailureClass>) -> Self {
        self.also_on = classes.into_iter().collect();
        self
    }

    /// Sets how long a local start may take before the centre is asked again.
    #[must_use]
    pub fn reprobe_after(mut self, limit: Duration) -> Self {
        self.reprobe_after = limit;
        self
    }

    /// Takes the time from elsewhere than [`Instant::now`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    /// Asks the centre whether this caller may see this Llm now.
    pub async fn check_access(&self, llm: &str, bearer: &Bearer) -> Access {
        self.ask(llm, bearer).await.0
    }

    async fn ask(&self, llm: &str, bearer: &Bearer) -> (Access, Option<String>) {
        let request = ProbeRequest { llm: llm.to_owned(), bearer: bearer.clone() };
        match self.probe.head(&request).await {
            Ok(status) => (Access::from_status(status), None),
            // INVARIANT 8: not knowing is not being allowed.
            Err(ProbeError(reason)) => (Access::Unreachable, Some(reason)),
        }
    }

    /// Runs a request: the primary first, a local stand-in if need be and if the centre allows it, else the primary's
    /// own error.
    ///
    /// `primary` is called once, or not at all where the breaker is open and the stand-in answers.
    pub async fn run<P, T, E, L>(
        &self,
        registry: &ProviderRegistry<P>,
        call: &FailoverRequest,
        mut primary: impl PrimaryAttempt<T, E>,
        local: &L,
    ) -> Routed<T, E>
    where
        P: Sync,
        E: Classified,
        L: LocalAttempt<P, T> + Sync,
    {
        let stand_in = registry.failover_for(&call.llm);
        let setup = Setup {
            breaker_open: call.breaker_open,
            has_local: stand_in.is_some(),
            also_on: self.also_on.clone(),
            reprobe_after: self.reprobe_after,
        };
        let mut trail = Trail::default();
        let (mut answer, mut ready) = (None, None);
        let (mut state, mut action) = FailoverState::start().on(Event::Begin, &setup, (self.clock.0)());
        loop {
            let event = match (action, stand_in) {
                (Action::CallPrimary, _) => {
                    trail.primary_called = true;
                    // Asked after all, it may take minutes: the local provider is not held ready meanwhile.
                    ready = None;
                    let result = primary.call().await;
                    let event = match &result {
                        Ok(_) => Event::PrimaryOk,
                        Err(error) => Event::PrimaryFailed(error.class()),
                    };
                    trail.primary = result.as_ref().err().map(Classified::class);
                    answer = Some(result.map(|value| Served { value, failover: false, via: None }));
                    event
                }
                (Action::Probe, Some((name, _))) => {
                    trail.provider = Some(name.to_owned());
                    let (access, reason) = self.ask(&call.llm, &call.bearer).await;
                    trail.probes.push(access);
                    trail.probe_error = reason;
                    Event::Probed(access)
                }
                (Action::Prepare, Some((_, provider))) => match local.prepare(provider).await {
                    Ok(prepared) => {
                        ready = Some(prepared);
                        Event::Prepared
                    }
                    Err(error) => {
                        trail.local_error = Some(error);
                        Event::PrepareFailed
                    }
                },
                (Action::RunLocal(grant), Some((name, provider))) => match ready.take() {
                    None => Event::LocalFailed,
                    Some(prepared) => match local.run(provider, prepared, grant).await {
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
                (Action::Probe, None) => Event::Probed(Access::Unreachable),
                (Action::Prepare | Action::RunLocal(_), None) => Event::LocalFailed,
                (Action::ReturnPrimary | Action::ReturnLocal, _) => match answer {
                    Some(result) => return Routed { result, trail },
                    // The machine returns only what was called; if that were ever wrong, the primary decides.
                    None => {
                        let result = primary.call().await;
                        let result = result.map(|value| Served { value, failover: false, via: None });
                        return Routed { result, trail };
                    }
                },
            };
            (state, action) = state.on(event, &setup, (self.clock.0)());
        }
    }
}

/// How the primary is asked.
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
