//! The life of a request at the agent, from top to bottom: who calls, the centre, and what stands in for it.

mod account;
mod answer;
mod waiting;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use mcpctl_api::ErrorKind;
use mcpctl_dialect::openai::request::{self, Fields, RequestError};
use mcpctl_engine::{Engine, EngineGuard};
use mcpctl_failover::{
    Call as FailoverCall, FailureClass, Local, LocalCause, LocalError, Run, Served, machine::AccessGrant,
};
use mcpctl_upstream::{self as upstream, Answer, Failure, Operation, Request, Target};
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{
    app::{App, Runtime},
    breakers::Place,
    capabilities::{CONTEXT_LENGTH, Needs},
    http::error::LocalHttpError,
    identity::Caller,
    meter::Measured,
    prewarm::{self, Trouble},
    providers::{NotReady, Ready, Running},
};
use waiting::Cold;

/// Before a provider's name, it asks for that provider itself, without the centre.
pub const OWN: &str = "local/";

/// A centre that has not answered within this share of the time that it has is in trouble, though it may yet answer: one
/// in so many. The stand-in has the rest of the time to become ready.
const SLOW: u32 = 4;

/// What a caller wants of a model.
pub struct Call {
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
    measured: Option<Measured>,
}

/// A request as it came, and the configuration that it began with.
struct Incoming {
    app: Arc<App>,
    runtime: Arc<Runtime>,
    request: Request,
    include_usage: bool,
    needs: Needs,
    /// Told when an engine is being started for it.
    cold: watch::Sender<Option<Cold>>,
}

/// Forward, and fail over as far as the centre allows.
///
/// # Errors
/// The agent's own errors; what the centre answers, errors included, is an answer.
pub async fn run(
    app: &Arc<App>,
    runtime: Arc<Runtime>,
    caller: Caller,
    call: Call,
) -> Result<Response, LocalHttpError> {
    let Call { operation, llm, headers, body } = call;
    // An Llm that the path names goes into the body, so that one route of mcpd serves both.
    let body = match &llm {
        Some(llm) => request::with_model(&body, llm).map_err(|error| malformed(&error))?,
        None => body,
    };
    let fields = Fields::read(&body).map_err(|error| malformed(&error))?;
    let llm = fields.require_model().map_err(|error| malformed(&error))?.to_owned();
    let needs = Needs::of(operation, &fields);
    let (cold, starting) = watch::channel(None);
    let incoming = Incoming {
        app: Arc::clone(app),
        runtime,
        request: Request { operation, body, stream: fields.stream, choices: fields.n, headers },
        include_usage: fields.include_usage,
        needs,
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
    let Incoming { app, runtime, request, include_usage, .. } = incoming;
    let stand_in = runtime.registry.failover_for(llm).is_some();
    let place = stand_in.then(|| runtime.breakers.admit(llm, Instant::now()));
    let breaker_open = place.as_ref().is_some_and(Place::is_open);
    let skipped = place.as_ref().and_then(Place::last);
    let place = Mutex::new(place);
    let target = runtime.primary(SecretString::from(caller.bearer.expose()));
    let trouble = Trouble::watch(app, runtime, llm, &caller.bearer);
    let failover = FailoverCall { llm: llm.to_owned(), bearer: caller.bearer, breaker_open };
    let failed = OnceLock::new();
    let (target, trouble_seen, failure, place) = (&target, trouble.as_ref(), &failed, &place);
    let primary = move || async move {
        let reply = ask_primary(&app.client, target, request, trouble_seen).await;
        let class = reply.as_ref().err().map(|error| error.class);
        if let Some(class) = class {
            let _ = failure.set(class);
        }
        // Now, and not when a stand-in has answered: that may take minutes, and others wait for what was learned.
        if let Some(place) = place.lock().unwrap_or_else(PoisonError::into_inner).take() {
            place.settle(class, Instant::now());
        }
        reply
    };
    let local = LocalRun { incoming, llm, failed: &failed };
    let Run { result, trail } = runtime.router.run(&runtime.registry, &failover, primary, &local).await;

    let class = trail.primary.or(skipped);
    account::account(app, llm, &trail, class, &result)?;
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
    trouble: Option<&Trouble>,
) -> Result<Reply, Failure> {
    let reply = |answer| Reply { answer, guard: None, measured: None };
    let shown = |how| trouble.iter().for_each(|trouble| trouble.shown(how));
    let asked = async {
        match upstream::send(client, target, request.clone()).await {
            // An answer that says so is mcpd's word on its own provider, whom it asked more than once.
            Err(failure) if failure.class == FailureClass::Connect && failure.status.is_none() => {
                shown("it could not be connected to at once");
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
    failed: &'a OnceLock<FailureClass>,
}

impl Local<Running, Reply> for LocalRun<'_> {
    type Ready = Ready;

    async fn prepare(&self, running: &Running) -> Result<Ready, LocalError> {
        prewarm::go_on_without(running);
        // Whoever stands in for this Llm now, if it is still the one that was on its way.
        let now = |runtime: &Runtime| {
            let (_, now) = runtime.registry.failover_for(self.llm)?;
            (now.provider.name == running.provider.name).then(|| now.clone())
        };
        prepare(self.incoming, running, self.failed.get().copied(), now).await
    }

    async fn run(&self, _: &Running, ready: Ready, _grant: AccessGrant) -> Result<Reply, LocalError> {
        let provider = &ready.running.provider.name;
        tracing::info!(llm = self.llm, %provider, "allowed: a local provider stands in");
        ask_local(self.incoming, ready).await.map_err(|failure| local_error(&failure))
    }
}

/// Makes a provider ready. Where the configuration changed meanwhile, `now` finds the provider in what is in force.
async fn prepare(
    incoming: &Incoming,
    running: &Running,
    failed: Option<FailureClass>,
    now: impl Fn(&Runtime) -> Option<Running>,
) -> Result<Ready, LocalError> {
    let Incoming { app, needs, cold, .. } = incoming;
    let tell = |running: &Running| {
        let progress = running.engine.as_ref().map(Engine::progress);
        cold.send_replace(Some(Cold { provider: running.provider.name.to_string(), failed, progress }));
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

async fn ask_local(incoming: &Incoming, ready: Ready) -> Result<Reply, Failure> {
    let Ready { running, target, guard } = ready;
    let mut request = incoming.request.clone();
    if request.stream && !incoming.include_usage && request.operation != Operation::Embeddings {
        // Usage is always asked for, and kept from callers who did not.
        request.body = request::with_include_usage(&request.body)
            .map_err(|_| Failure::new(FailureClass::Rejected, "the request body cannot be read"))?;
    }
    let measured = Some(running.meter.begin());
    match upstream::send(&incoming.app.client, &target, request).await {
        Ok(answer) => Ok(Reply { answer, guard, measured }),
        Err(failure) => {
            // What is well answers, or says what is wrong with the request. This one may hang, or another server may
            // stand there, or one that serves another model now.
            if !failure.status.is_some_and(|status| status.is_client_error()) {
                guard.into_iter().for_each(EngineGuard::suspect);
            }
            running.known.forget();
            Err(failure)
        }
    }
}

fn local_error(failure: &Failure) -> LocalError {
    let cause = match failure.class {
        FailureClass::ContextLength => LocalCause::Lacks(CONTEXT_LENGTH),
        _ => LocalCause::Failed,
    };
    LocalError { cause, reason: failure.to_string() }
}

/// One's own provider, without the centre: for this machine's user alone.
async fn own(incoming: &Incoming, caller: &Caller, provider: &str) -> Result<Response, LocalHttpError> {
    // A bearer of mcpd's cannot be judged here, and the centre is not asked about what is not the centre's.
    if !caller.local {
        return Err(LocalHttpError::new(
            StatusCode::FORBIDDEN,
            ErrorKind::PermissionError,
            "local_key_needed",
            format!("`{OWN}{provider}` is for this machine's user"),
        )
        .hint("use the key that `mcpctl local env` prints"));
    }
    let Some(running) = incoming.runtime.registry.provider(provider) else {
        return Err(LocalHttpError::new(
            StatusCode::NOT_FOUND,
            ErrorKind::NotFoundError,
            "no_such_provider",
            format!("there is no local provider `{provider}`"),
        )
        .hint("`mcpctl local status` lists them"));
    };
    let now = |runtime: &Runtime| runtime.registry.provider(provider).cloned();
    let ready = match prepare(incoming, running, None, now).await {
        Ok(ready) => ready,
        Err(error) => return Ok(answer::own_error(provider, &error)),
    };
    Ok(match ask_local(incoming, ready).await {
        Ok(reply) => answer::served_locally(&incoming.app, reply, provider, !incoming.include_usage),
        Err(failure) => answer::own_refusal(provider, &failure)
            .unwrap_or_else(|| answer::own_error(provider, &local_error(&failure))),
    })
}

fn malformed(error: &RequestError) -> LocalHttpError {
    LocalHttpError::invalid(error.param().unwrap_or_default(), error.to_string())
}
