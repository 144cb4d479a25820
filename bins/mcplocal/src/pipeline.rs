//! The life of a request at the agent, from top to bottom: who calls, the centre, and what stands in for it.

mod account;
mod answer;
mod passed;
mod waiting;
mod witness;

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Instant,
};

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use jiff::Timestamp;
use mcpctl_api::{ErrorKind, visible::short};
use mcpctl_dialect::openai::request::{self, RequestError, RequestFields};
use mcpctl_engine::{Engine, EngineGuard};
use mcpctl_failover::{
    FailoverRequest, FailureClass, LocalAttempt, LocalCause, LocalError, Routed, Served, machine::AccessGrant,
};
use mcpctl_relay::retry;
use mcpctl_upstream::{self as upstream, Answer, Failure, Operation, Request, Target};
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{
    app::{App, Runtime},
    capabilities::{ALLOW_FIELDS, CONTEXT_LENGTH, Needs},
    http::error::LocalHttpError,
    identity::Caller,
    journal::{FailoverOutcome, JournalEntry, who},
    meter::AnswerMeter,
    prewarm::{self, PrewarmTrigger},
    providers::{LocalProvider, NotReady, ReadyProvider},
};
use account::Recorded;
use waiting::ColdStart;
use witness::{Witness, WitnessedProbe};

/// Before a provider's name, it asks for that provider itself, without the centre.
pub const OWN: &str = "local/";

/// Bytes of the model that a request may name: more than any Llm or provider is called by.
const MAX_MODEL: usize = 256;

/// A centre that has not answered within this share of the time that it has is in trouble, though it may yet answer: one
/// in so many. The stand-in has the rest of the time to become ready.
const SLOW: u32 = 4;

/// What a caller wants of a model.
pub struct InferenceCall {
    /// Which operation.
    pub operation: Operation,
    /// The Llm, where the path says it.
    pub llm: Option<String>,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

/// An answer, and what it needs while it lasts.
struct Reply {
    answer: Answer,
    guard: Option<EngineGuard>,
    measured: Option<AnswerMeter>,
}

/// A request as it came, and the configuration that it began with.
struct Incoming {
    app: Arc<App>,
    runtime: Arc<Runtime>,
    request: Request,
    include_usage: bool,
    needs: Needs,
    /// Keys by which a server may choose the model by itself.
    routing_keys: Vec<String>,
    /// Told when an engine is being started for it.
    cold: watch::Sender<Option<ColdStart>>,
}

impl Incoming {
    /// The first key by which the provider's server might choose the model by itself, and that its list does not name.
    fn not_allowed(&self, running: &LocalProvider) -> Option<&str> {
        let allowed = &running.provider.allow_fields;
        self.routing_keys.iter().find(|key| !allowed.contains(key)).map(String::as_str)
    }
}

/// Forward, and fail over as far as the centre allows.
///
/// # Errors
/// The agent's own errors; what the centre answers, errors included, is an answer.
pub async fn run(
    app: &Arc<App>,
    runtime: Arc<Runtime>,
    caller: Caller,
    call: InferenceCall,
) -> Result<Response, LocalHttpError> {
    let InferenceCall { operation, llm, headers, body } = call;
    // An Llm that the path names goes into the body, so that one route of mcpd serves both.
    let body = match &llm {
        Some(llm) => request::with_model(&body, llm).map_err(|error| malformed(&error))?,
        None => body,
    };
    let fields = RequestFields::read(&body).map_err(|error| malformed(&error))?;
    let llm = fields.require_model().map_err(|error| malformed(&error))?;
    if llm.len() > MAX_MODEL {
        // Before it is copied, repeated or looked up.
        let message = format!("`model` has {} bytes, and no Llm's name has more than {MAX_MODEL}", llm.len());
        return Err(LocalHttpError::invalid("model", message));
    }
    let llm = llm.to_owned();
    let needs = Needs::of(operation, &fields);
    let (cold, starting) = watch::channel(None);
    let incoming = Incoming {
        app: Arc::clone(app),
        runtime,
        request: Request { operation, body, stream: fields.stream, choices: fields.n, headers },
        include_usage: fields.include_usage,
        needs,
        routing_keys: fields.routing_keys,
        cold,
    };
    let streams = fields.stream && operation != Operation::Embeddings;
    let work = async move {
        match llm.strip_prefix(OWN) {
            Some(provider) => own(&incoming, &caller, provider).await,
            None => central(&incoming, caller, &llm).await,
        }
    };
    if streams { waiting::with_comments(work, starting).await } else { work.await }
}

async fn central(incoming: &Incoming, caller: Caller, llm: &str) -> Result<Response, LocalHttpError> {
    let Incoming { app, runtime, request, include_usage, needs, .. } = incoming;
    let who = who(caller.user.as_deref(), &caller.bearer);
    let stand_in = runtime.registry.failover_for(llm).is_some();
    let place = stand_in.then(|| runtime.breakers.admit(llm, needs.form(), &caller.bearer, Instant::now()));
    let witness = Witness::new(place);
    let (breaker_open, skipped) = (witness.breaker_open(), witness.last_failure());
    let target = runtime.primary(SecretString::from(caller.bearer.expose()));
    let trouble = PrewarmTrigger::watch(app, runtime, llm, &caller.bearer);
    let failover = FailoverRequest { llm: llm.to_owned(), bearer: caller.bearer, breaker_open };
    let failed = OnceLock::new();
    let (target, trouble_seen, failure, seen) = (&target, trouble.as_ref(), &failed, &witness);
    let primary = move || async move {
        let reply = ask_primary(&app.client, target, request, trouble_seen).await;
        if let Err(failure) = &reply {
            tracing::warn!(llm, error = %failure, "mcpd gave no answer");
        }
        let class = reply.as_ref().err().map(|error| error.class);
        if let Some(class) = class {
            let _ = failure.set(class);
        }
        // Now, and not when a stand-in has answered: that may take minutes, and others wait for what was learned.
        seen.primary_ended(class);
        reply
    };
    let local = LocalRun { incoming, llm, who: &who, failed: &failed, skipped, witness: &witness };
    let router = runtime.router(WitnessedProbe { probe: &runtime.probe, witness: &witness });
    let Routed { result, trail } = router.run(&runtime.registry, &failover, primary, &local).await;

    let class = trail.primary.or(skipped);
    account::account(app, llm, &who, &trail, class, &result);
    let local_error = trail.local_error.as_ref();
    Ok(match result {
        Err(failure) => match (local_error.map(|error| error.cause), &trail.provider) {
            (Some(LocalCause::Busy { retry_after }), Some(provider)) => answer::busy(provider, retry_after),
            _ => answer::primary_error(&failure, local_error),
        },
        Ok(Served { value, via: None, .. }) => answer::forwarded(value, trouble),
        Ok(Served { value, via: Some(provider), .. }) => {
            let response = answer::served_locally(app, value, &provider, !include_usage);
            answer::stood_in(response, class.unwrap_or(FailureClass::Connect), trail.primary_called)
        }
    })
}

/// The centre, and once more where the connection failed: a pooled one may have been stale.
async fn ask_primary(
    client: &upstream::Client,
    target: &Target,
    request: &Request,
    trouble: Option<&PrewarmTrigger>,
) -> Result<Reply, Failure> {
    let reply = |answer| Reply { answer, guard: None, measured: None };
    let shown = |how| trouble.iter().for_each(|trouble| trouble.shown(how));
    let asked = async {
        match upstream::send(client, target, request.clone()).await {
            // An answer that says so is mcpd's word on its own provider, whom it asked more than once.
            Err(failure) if failure.class == FailureClass::Connect && failure.status.is_none() => {
                // A stale connection is no trouble of mcpd's.
                if !failure.is_stale_connection() {
                    shown("it could not be connected to at once");
                }
                upstream::send(client, target, request.clone()).await.map(reply)
            }
            result => result.map(reply),
        }
    };
    tokio::pin!(asked);
    let patience = if request.stream { target.timeouts.response } else { target.timeouts.answer };
    tokio::select! {
        result = &mut asked => result,
        () = tokio::time::sleep(patience / SLOW), if trouble.is_some() => {
            shown("it is slow to answer");
            asked.await
        }
    }
}

/// How a local provider is made ready and asked for one request.
struct LocalRun<'a> {
    incoming: &'a Incoming,
    llm: &'a str,
    who: &'a str,
    failed: &'a OnceLock<FailureClass>,
    /// Why the primary failed before, where the breaker skipped it.
    skipped: Option<FailureClass>,
    witness: &'a Witness,
}

impl LocalAttempt<LocalProvider, Reply> for LocalRun<'_> {
    type Ready = ReadyProvider;

    async fn prepare(&self, running: &LocalProvider) -> Result<ReadyProvider, LocalError> {
        // mcpd decides what its Llm allows; a local provider is another one, with a list of its own.
        if let Some(key) = self.incoming.not_allowed(running) {
            let reason = format!("`{key}` is not in its `allowFields`");
            return Err(LocalError { cause: LocalCause::Lacks(ALLOW_FIELDS), reason });
        }
        prewarm::go_on_without(running);
        // Whoever stands in for this Llm now, if it is still the one that was on its way.
        let now = |runtime: &Runtime| {
            let (_, now) = runtime.registry.failover_for(self.llm)?;
            (now.provider.name == running.provider.name).then(|| now.clone())
        };
        prepare(self.incoming, running, self.failed.get().copied(), now).await
    }

    async fn run(
        &self,
        _: &LocalProvider,
        ready: ReadyProvider,
        _grant: AccessGrant,
    ) -> Result<Reply, LocalError> {
        let provider = ready.running.provider.name.clone();
        tracing::info!(llm = self.llm, %provider, "allowed: a local provider stands in");
        let request = mcpctl_server::request_id();
        let entry = JournalEntry::Failover {
            at: Timestamp::now(),
            request: request.clone(),
            who: self.who.to_owned(),
            llm: self.llm.to_owned(),
            provider: provider.to_string(),
            class: self.failed.get().copied().or(self.skipped).map(FailureClass::as_str),
            access: self.witness.access(),
            outcome: FailoverOutcome::Served,
            reason: None,
        };
        // INVARIANT 14: on record before the prompt goes there, or not at all.
        let recorded = Recorded::before(&self.incoming.app, request, entry).map_err(|error| LocalError {
            cause: LocalCause::NotRecorded,
            reason: format!("the journal cannot be written: {error}"),
        })?;
        let answered = ask_local(self.incoming, ready).await;
        recorded.answered();
        answered.map_err(|failure| local_error(&failure))
    }
}

/// Makes a provider ready. Where the configuration changed meanwhile, `now` finds the provider in what is in force.
async fn prepare(
    incoming: &Incoming,
    running: &LocalProvider,
    failed: Option<FailureClass>,
    now: impl Fn(&Runtime) -> Option<LocalProvider>,
) -> Result<ReadyProvider, LocalError> {
    let Incoming { app, needs, cold, .. } = incoming;
    let tell = |running: &LocalProvider| {
        let progress = running.engine.as_ref().map(Engine::progress);
        cold.send_replace(Some(ColdStart { provider: running.provider.name.to_string(), failed, progress }));
    };
    tell(running);
    let mut running = running.clone();
    let mut ready = running.ready(&app.http, *needs).await;
    if let (Err(NotReady::Retired), Some(successor)) = (&ready, now(&app.runtime.load())) {
        running = successor;
        tell(&running);
        ready = running.ready(&app.http, *needs).await;
    }
    running.count_start(&app.metrics, ready.is_ok());
    ready.map_err(|error| match error {
        NotReady::Local(error) => error,
        NotReady::Retired => LocalError::failed("its engine is not wanted any more"),
    })
}

async fn ask_local(incoming: &Incoming, ready: ReadyProvider) -> Result<Reply, Failure> {
    let ReadyProvider { running, target, guard } = ready;
    let measured = Some(running.meter.begin());
    match send_local(incoming, &running, &target).await {
        Ok(answer) => Ok(Reply { answer, guard, measured }),
        Err(failure) => {
            // What is well answers, or says what is wrong with the request. This one may hang, or another server may
            // stand there, or one that serves another model now.
            if !failure.status.is_some_and(|status| status.is_client_error()) {
                guard.into_iter().for_each(EngineGuard::release_suspect);
            }
            running.known.forget();
            Err(failure)
        }
    }
}

/// Asks for usage too, which is kept from callers who did not; a server that refuses that is asked without it, from now on.
async fn send_local(
    incoming: &Incoming,
    running: &LocalProvider,
    target: &Target,
) -> Result<Answer, Failure> {
    let Incoming { app, request, include_usage, .. } = incoming;
    let asks_for_usage = request.stream
        && !include_usage
        && request.operation != Operation::Embeddings
        && running.provider.stream_usage
        && !running.refuses_usage.load(Ordering::Relaxed);
    if !asks_for_usage {
        return retry::once(&app.client, target, request).await;
    }
    let body = request::with_include_usage(&request.body)
        .map_err(|_| Failure::new(FailureClass::Rejected, "the request body cannot be read"))?;
    match retry::once(&app.client, target, &Request { body, ..request.clone() }).await {
        Err(failure) if failure.refuses_stream_options() => {
            let again = retry::once(&app.client, target, request).await;
            if again.is_ok() {
                running.refuses_usage.store(true, Ordering::Relaxed);
            }
            again
        }
        result => result,
    }
}

fn local_error(failure: &Failure) -> LocalError {
    let cause = match failure.class {
        FailureClass::ContextLength => LocalCause::Lacks(CONTEXT_LENGTH),
        _ => LocalCause::Failed,
    };
    LocalError { cause, reason: failure.to_string() }
}

/// One's own provider of that name: for this machine's user alone.
///
/// # Errors
/// 403 for other callers, 404 where there is none.
pub fn own_provider<'a>(
    runtime: &'a Runtime,
    caller: &Caller,
    provider: &str,
) -> Result<&'a LocalProvider, LocalHttpError> {
    // A bearer of mcpd's cannot be judged here, and the centre is not asked about what is not the centre's.
    if !caller.local {
        return Err(LocalHttpError::new(
            StatusCode::FORBIDDEN,
            ErrorKind::PermissionError,
            "local_key_needed",
            format!("`{OWN}{}` is for this machine's user", short(provider, MAX_MODEL)),
        )
        .hint("use the key that `mcpctl local env` prints"));
    }
    runtime.registry.provider(provider).ok_or_else(|| {
        LocalHttpError::new(
            StatusCode::NOT_FOUND,
            ErrorKind::NotFoundError,
            "no_such_provider",
            format!("there is no local provider `{}`", short(provider, MAX_MODEL)),
        )
        .hint("`mcpctl local status` lists them")
    })
}

/// A request to one's own provider, without the centre.
async fn own(incoming: &Incoming, caller: &Caller, provider: &str) -> Result<Response, LocalHttpError> {
    let running = own_provider(&incoming.runtime, caller, provider)?;
    if let Some(key) = incoming.not_allowed(running) {
        let message = format!("`{key}` would let the server choose the model or the place by itself");
        let hint = format!(
            "leave it out, or list `{key}` in `allowFields` of the provider `{provider}` in mcplocal.yaml"
        );
        return Err(LocalHttpError::invalid(key, message).hint(hint));
    }
    let now = |runtime: &Runtime| runtime.registry.provider(provider).cloned();
    let ready = match prepare(incoming, running, None, now).await {
        Ok(ready) => ready,
        Err(error) => return Ok(answer::own_error(provider, &error)),
    };
    let request = mcpctl_server::request_id();
    let entry = JournalEntry::Own {
        at: Timestamp::now(),
        request: request.clone(),
        who: who(caller.user.as_deref(), &caller.bearer),
        provider: provider.to_owned(),
    };
    // INVARIANT 14, as for what stands in for the centre.
    let recorded =
        Recorded::before(&incoming.app, request, entry).map_err(|_| LocalHttpError::no_journal())?;
    let answered = ask_local(incoming, ready).await;
    recorded.answered();
    Ok(match answered {
        Ok(reply) => answer::served_locally(&incoming.app, reply, provider, !incoming.include_usage),
        Err(failure) => answer::own_refusal(provider, &failure)
            .unwrap_or_else(|| answer::own_error(provider, &local_error(&failure))),
    })
}

fn malformed(error: &RequestError) -> LocalHttpError {
    let http = LocalHttpError::invalid(error.param().unwrap_or_default(), error.to_string());
    match error.hint() {
        Some(hint) => http.hint(hint),
        None => http,
    }
}
