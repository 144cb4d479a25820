//! One request to a local provider: as a fallback that mcpd allowed, or to the user's own provider by its name.

use std::sync::{Arc, atomic::Ordering};

use jiff::Timestamp;
use mcpctl_dialect::{self as dialect, Operation};
use mcpctl_engine::{Engine, EngineGuard, EngineStatus};
use mcpctl_failover::{
    FailureClass, LlmRef, LocalAttempt, LocalCause, LocalError, Trail, machine::AccessGrant,
};
use mcpctl_relay::{Exchange, ExchangeError, NextAttempt, RetryOutcome, Sender, StreamAccount, retry};
use mcpctl_upstream::{Answer, Client, Failure, Request, Target};
use tokio::sync::watch;

use super::{CallError, Content, ContentBody, ModelRequest, Outcome, access, account};
use crate::{
    access::AccessWatch,
    app::Runtime,
    capabilities::{ALLOW_FIELDS, CONTEXT_LENGTH, TRANSLATION},
    identity::Caller,
    journal::{FailoverOutcome, JournalEntry},
    prewarm,
    providers::{LocalProvider, NotReady, ReadyProvider},
};
use account::Recorded;

/// A local provider that a request waits for, to start or to answer.
#[derive(Clone)]
pub struct LocalWait {
    /// Its name.
    pub provider: String,
    /// How the primary failed; `None` where it may still be called.
    pub failed: Option<FailureClass>,
    /// The status of its engine, where the agent starts it.
    pub progress: Option<watch::Receiver<EngineStatus>>,
}

/// A provider that is ready, and the request as its server gets it.
pub(super) struct PreparedProvider {
    ready: ReadyProvider,
    exchange: Exchange,
    /// The watch over the caller's access; none of the user's own provider.
    access: Option<Arc<AccessWatch>>,
}

impl PreparedProvider {
    /// The watch over the caller's access, which the last probe or a lease has confirmed.
    pub(super) fn renewed(&self, trail: &Trail, grant: &AccessGrant) -> Option<Arc<AccessWatch>> {
        let access = self.access.clone()?;
        if let Some(asked_at) = trail.asked_at {
            access.renew(asked_at, grant);
        }
        Some(access)
    }
}

/// The fallback of one request to the Llm's local provider.
pub(super) struct FailoverAttempt<'a> {
    pub(super) request: &'a ModelRequest,
    pub(super) llm: &'a LlmRef,
}

impl FailoverAttempt<'_> {
    /// Writes the journal's entry of a failover in this class.
    ///
    /// INVARIANT 14: recorded before the prompt goes to the provider, or it does not go.
    pub(super) async fn record(
        &self,
        prepared: &PreparedProvider,
        class: Option<FailureClass>,
        trail: &Trail,
    ) -> Result<Recorded, LocalError> {
        let provider = &prepared.ready.provider.config.name;
        let access = trail.probes.last().map(|access| access.as_str());
        tracing::info!(llm = self.llm.name, %provider, access, "the failover to a local provider is allowed");
        let entry = JournalEntry::Failover {
            at: Timestamp::now(),
            served: account::served(
                &self.request.caller,
                Some((self.llm, trail.llm_id.as_ref())),
                provider.as_str(),
            ),
            class: class.map(|class| class.as_str().to_owned()),
            access: trail.probes.iter().map(|access| access.as_str().to_owned()).collect(),
            outcome: FailoverOutcome::Served,
            reason: None,
            proof: trail.token.as_deref().map(str::to_owned),
        };
        let access = prepared.access.as_ref();
        Recorded::before(&self.request.app, entry, access).await.map_err(|error| LocalError {
            cause: LocalCause::NotRecorded,
            reason: format!("the journal cannot be written: {error}"),
        })
    }
}

impl LocalAttempt<LocalProvider, Content> for FailoverAttempt<'_> {
    type Ready = PreparedProvider;

    async fn prepare(&self, provider: &LocalProvider, trail: &Trail) -> Result<PreparedProvider, LocalError> {
        // The Llm's `allowFields` are mcpd's to check; a local provider is another server, with a list of its own.
        if let Some(key) = self.request.field_not_allowed(provider) {
            let reason = format!("`{key}` is not in its `allowFields`");
            return Err(LocalError { cause: LocalCause::Lacks(ALLOW_FIELDS), reason });
        }
        // After the probe and before the wait: the start continues if this caller leaves.
        prewarm::start_detached(provider);
        let successor = |runtime: &Runtime| {
            let (_, now) = runtime.registry.failover_for(&self.llm.name)?;
            (now.config.name == provider.config.name).then(|| now.clone())
        };
        let access = access::watch(self.request, trail);
        let preparing = prepare(self.request, provider, trail.primary, successor);
        let ready = access::while_allowed(self.request, &access, preparing).await?;
        let exchange = exchange(self.request, &ready).map_err(|error| LocalError {
            cause: LocalCause::Lacks(TRANSLATION),
            reason: format!("its server speaks another dialect: {error}"),
        })?;
        Ok(PreparedProvider { ready, exchange, access: Some(access) })
    }

    async fn run(
        &self,
        _: &LocalProvider,
        prepared: PreparedProvider,
        grant: AccessGrant,
        trail: &Trail,
    ) -> Result<Content, LocalError> {
        let recorded = self.record(&prepared, trail.class(), trail).await?;
        let access = prepared.renewed(trail, &grant);
        let answering = attempt(self.request, prepared, recorded);
        let Some(access) = access else { return answering.await.map_err(|failure| local_error(&failure)) };
        let answering = async { answering.await.map_err(|failure| local_error(&failure)) };
        let content = access::while_allowed(self.request, &access, answering).await?;
        if let ContentBody::Stream(body) = &content.body {
            let _ = self.request.cutter.set(body.cutter());
            access::cut_when_ended(self.request, &access);
        }
        Ok(content)
    }
}

/// A request to the user's own provider, without mcpd.
pub(super) async fn run_own(request: &ModelRequest, name: &str) -> Outcome {
    let ModelRequest { app, runtime, caller, .. } = request;
    let provider = match own_provider(runtime, caller, name) {
        Ok(provider) => provider,
        Err(error) => return Outcome::Rejected(error),
    };
    if let Some(key) = request.field_not_allowed(provider) {
        return Outcome::Rejected(CallError::FieldNotAllowed {
            provider: name.to_owned(),
            key: key.to_owned(),
        });
    }
    let successor = |runtime: &Runtime| runtime.registry.provider(name).cloned();
    let ready = match prepare(request, provider, None, successor).await {
        Ok(ready) => ready,
        Err(error) => return Outcome::LocalFailed { provider: name.to_owned(), error },
    };
    let exchange = match exchange(request, &ready) {
        Ok(exchange) => exchange,
        Err(error) => return Outcome::Rejected(error.into()),
    };
    let served = account::served(caller, None, name);
    let entry = JournalEntry::Own { at: Timestamp::now(), served: served.clone() };
    // INVARIANT 14, as for a failover.
    let Ok(recorded) = Recorded::before(app, entry, None).await else {
        return Outcome::Rejected(CallError::NoJournal);
    };
    let provider = name.to_owned();
    let attempted = attempt(request, PreparedProvider { ready, exchange, access: None }, recorded).await;
    if let Err(failure) = &attempted {
        account::ended_without_answer(app, served, failure.class);
    }
    match attempted {
        Ok(content) => Outcome::Local { provider, failover: None, content },
        // The refusal of a key is about the one in `apiKeyFile`, not about the caller's.
        Err(failure) if is_client_error(&failure) && failure.class != FailureClass::UpstreamCredentials => {
            Outcome::LocalRejected { provider, failure }
        }
        Err(failure) => Outcome::LocalFailed { provider, error: local_error(&failure) },
    }
}

/// The local provider of that name, for this machine's user alone.
///
/// # Errors
/// When another caller asks, or there is no such provider.
pub fn own_provider<'a>(
    runtime: &'a Runtime,
    caller: &Caller,
    name: &str,
) -> Result<&'a LocalProvider, CallError> {
    // The agent cannot judge a bearer of mcpd's, and mcpd is not asked about providers that are not its own.
    if !caller.local {
        return Err(CallError::LocalKeyNeeded { provider: name.to_owned() });
    }
    let provider = runtime.registry.provider(name);
    provider.ok_or_else(|| CallError::NoSuchProvider { provider: name.to_owned() })
}

/// Makes a provider ready. Where the configuration changed meanwhile, `successor` finds the provider in the new one.
async fn prepare(
    request: &ModelRequest,
    provider: &LocalProvider,
    failed: Option<FailureClass>,
    successor: impl Fn(&Runtime) -> Option<LocalProvider>,
) -> Result<ReadyProvider, LocalError> {
    let ModelRequest { app, wait, .. } = request;
    let needs = request.needs();
    let announce = |provider: &LocalProvider| {
        let progress = provider.engine.as_ref().map(Engine::progress);
        wait.send_replace(Some(LocalWait { provider: provider.config.name.to_string(), failed, progress }));
    };
    announce(provider);
    let mut provider = provider.clone();
    let mut ready = provider.ready(&app.http, needs).await;
    if let (Err(NotReady::Retired), Some(now)) = (&ready, successor(&app.runtime.load())) {
        provider = now;
        announce(&provider);
        ready = provider.ready(&app.http, needs).await;
    }
    provider.count_start(&app.metrics, ready.is_ok());
    ready.map_err(|error| match error {
        NotReady::Local(error) => error,
        NotReady::Retired => LocalError::failed("the new configuration does not have its engine"),
    })
}

/// The request as the provider's server gets it.
fn exchange(request: &ModelRequest, ready: &ReadyProvider) -> Result<Exchange, ExchangeError> {
    exchange_of(request, &request.request, ready)
}

/// The request, or its continuation, as the provider's server gets it.
fn exchange_of(
    request: &ModelRequest,
    asked: &dialect::Request,
    ready: &ReadyProvider,
) -> Result<Exchange, ExchangeError> {
    let ReadyProvider { provider, target, extra, .. } = ready;
    let upstream = asked.operation.at(provider.config.dialect(), *extra);
    let ask_for_usage = provider.config.stream_usage && !provider.refuses_usage.load(Ordering::Relaxed);
    Exchange::new(asked, target, upstream, ask_for_usage, &request.headers)
}

/// The beginning of an answer for a model that can continue it, as the provider's server gets it, and how many bytes of `prefix`
/// it has. `None` where the model is not known to.
fn continuation(request: &ModelRequest, ready: &ReadyProvider, prefix: &str) -> Option<(Exchange, usize)> {
    let ReadyProvider { provider, extra, .. } = ready;
    if provider.capabilities().prefill != Some(true) {
        return None;
    }
    let upstream = request.request.operation.at(provider.config.dialect(), *extra);
    // Anthropic's API refuses a beginning that ends with white space.
    let given = if upstream == Operation::Messages { prefix.trim_end() } else { prefix };
    let asked = request.request.continued(given)?;
    exchange_of(request, &asked, ready).ok().map(|exchange| (exchange, given.len()))
}

/// Sends the request to a ready provider, or first the continuation of what was delivered, where its model can continue that; its
/// journal entry is written already.
///
/// # Errors
/// Why no stream goes on with what was delivered.
pub(super) async fn resume(
    request: &ModelRequest,
    prepared: PreparedProvider,
    recorded: Recorded,
    prefix: Option<&str>,
) -> Result<NextAttempt, LocalError> {
    let PreparedProvider { ready, exchange, access } = prepared;
    let app = &request.app;
    let meter = ready.provider.meter.begin();
    let one = OneAttempt { client: &app.client, target: &ready.target };
    let mut begun = None;
    if let Some((continued, bytes)) = prefix.and_then(|prefix| continuation(request, &ready, prefix)) {
        let result = continued.send(&one).await.outcome.result;
        // The server does not take the form. The whole request is another matter.
        if !result.as_ref().is_err_and(is_client_error) {
            begun = Some((result, Some(bytes), continued));
        }
    }
    let (result, continues, exchange) = match begun {
        Some(begun) => begun,
        None => (exchange.send(&one).await.outcome.result, None, exchange),
    };
    let served = recorded.responded();
    let ReadyProvider { provider, guard, .. } = ready;
    match result {
        Ok(answer) => {
            let (on_end, on_piece) = account::accounts(app, served, guard, meter, access);
            let account = StreamAccount::new(on_end).on_content(on_piece);
            match answer {
                Answer::Stream(answer) => {
                    Ok(NextAttempt { answer, operation: exchange.operation(), continues, account })
                }
                Answer::Whole(_) => Err(LocalError::failed("it answered a streamed request with no stream")),
            }
        }
        Err(failure) => Err(failed(&provider, guard, &failure)),
    }
}

/// A healthy server answers, or rejects the request. This one may hang, or another server or another model may have taken its
/// place.
fn failed(provider: &LocalProvider, guard: Option<EngineGuard>, failure: &Failure) -> LocalError {
    if !is_client_error(failure) {
        guard.into_iter().for_each(EngineGuard::release_suspect);
    }
    provider.models.forget();
    local_error(failure)
}

/// Sends the request to a ready provider; its journal entry is written already.
async fn attempt(
    request: &ModelRequest,
    prepared: PreparedProvider,
    recorded: Recorded,
) -> Result<Content, Failure> {
    let PreparedProvider { ready: ReadyProvider { provider, target, guard, .. }, exchange, access } =
        prepared;
    let app = &request.app;
    let meter = provider.meter.begin();
    let sent = exchange.send(&OneAttempt { client: &app.client, target: &target }).await;
    let served = recorded.responded();
    if sent.rejects_usage {
        provider.refuses_usage.store(true, Ordering::Relaxed);
    }
    match sent.outcome.result {
        Ok(answer) => Ok(account::accounted(app, answer, served, guard, meter, access, &exchange)),
        Err(failure) => {
            failed(&provider, guard, &failure);
            Err(failure)
        }
    }
}

/// A local provider gets a request once.
struct OneAttempt<'a> {
    client: &'a Client,
    target: &'a Target,
}

impl Sender for OneAttempt<'_> {
    async fn send(&self, request: &Request) -> RetryOutcome {
        RetryOutcome { result: retry::once(self.client, self.target, request).await, attempts: 1 }
    }
}

fn is_client_error(failure: &Failure) -> bool {
    failure.status.is_some_and(|status| status.is_client_error())
}

fn local_error(failure: &Failure) -> LocalError {
    let cause = match failure.class {
        FailureClass::ContextLength => LocalCause::Lacks(CONTEXT_LENGTH),
        FailureClass::UpstreamCredentials => LocalCause::Unavailable,
        _ => LocalCause::Failed,
    };
    LocalError { cause, reason: failure.to_string() }
}
