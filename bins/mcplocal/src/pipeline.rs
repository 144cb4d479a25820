//! The life of a request at the agent, from top to bottom: who calls, the centre, and what stands in for it.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use jiff::Timestamp;
use mcpctl_api::ErrorKind;
use mcpctl_dialect::openai::request::{self, Fields, RequestError};
use mcpctl_engine::EngineGuard;
use mcpctl_failover::{
    Call as FailoverCall, FailureClass, Local, LocalError, Run, Served, Trail, machine::AccessGrant,
};
use mcpctl_relay::{Ending, Outcome, body::StreamBody};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{self as upstream, Answer, Failure, Operation, Request, Target};
use secrecy::SecretString;

use crate::{
    app::{App, Runtime},
    breakers::Place,
    http::error::{ERROR_SOURCE, FAILURE, LocalHttpError},
    identity::Caller,
    journal::Entry,
    providers::{Ready, Running},
};

const SERVED_BY: HeaderName = HeaderName::from_static("mcpctl-served-by");
const FAILOVER: HeaderName = HeaderName::from_static("mcpctl-failover");
const ATTEMPTS: HeaderName = HeaderName::from_static("mcpctl-attempts");

/// Before a provider's name, it asks for that provider itself, without the centre.
pub const OWN: &str = "local/";

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
}

/// Forward, and fail over as far as the centre allows.
///
/// # Errors
/// The agent's own errors; what the centre answers, errors included, is an answer.
pub async fn run(app: &Arc<App>, caller: Caller, call: Call) -> Result<Response, LocalHttpError> {
    // One configuration for the whole request, however long it takes.
    let runtime = app.runtime.load_full();
    let Call { operation, llm, headers, body } = call;
    // An Llm that the path names goes into the body, so that one route of mcpd serves both.
    let body = match &llm {
        Some(llm) => request::with_model(&body, llm).map_err(|error| malformed(&error))?,
        None => body,
    };
    let fields = Fields::read(&body).map_err(|error| malformed(&error))?;
    let llm = fields.require_model().map_err(|error| malformed(&error))?.to_owned();
    let request = Request { operation, body, stream: fields.stream, choices: fields.n, headers };

    if let Some(provider) = llm.strip_prefix(OWN) {
        return own(app, &runtime, &caller, provider, request, fields.include_usage).await;
    }

    let stand_in = runtime.registry.failover_for(&llm).is_some();
    let place = stand_in.then(|| runtime.breakers.admit(&llm, Instant::now()));
    let breaker_open = place.as_ref().is_some_and(Place::is_open);
    let primary_target = runtime.primary(SecretString::from(caller.bearer.expose()));
    let failover = FailoverCall { llm: llm.clone(), bearer: caller.bearer, breaker_open };
    let (client, target, sent) = (&app.client, &primary_target, &request);
    let primary = move || async move { ask_primary(client, target, sent).await };
    let local = LocalRun { app, request: &request, include_usage: fields.include_usage, llm: &llm };
    let Run { result, trail } = runtime.router.run(&runtime.registry, &failover, primary, &local).await;

    let skipped = place.as_ref().and_then(Place::last);
    if let Some(place) = place.filter(|_| trail.primary_called) {
        place.settle(trail.primary, Instant::now());
    }
    let class = trail.primary.or(skipped);
    account(app, &llm, &trail, class, &result)?;
    match result {
        Err(failure) => Ok(primary_error(&failure)),
        Ok(Served { value, via: None, .. }) => Ok(forwarded(value)),
        Ok(Served { value, via: Some(provider), .. }) => {
            let mut response = served_locally(app, value, &provider, !fields.include_usage);
            let headers = response.headers_mut();
            let why = class.unwrap_or(FailureClass::Connect);
            headers.insert(FAILOVER, HeaderValue::from_static(why.as_str()));
            headers.insert(ATTEMPTS, HeaderValue::from(u32::from(trail.primary_called) + 1));
            Ok(response)
        }
    }
}

/// The centre, and once more where the connection failed: a pooled one may have been stale.
async fn ask_primary(
    client: &upstream::Client,
    target: &Target,
    request: &Request,
) -> Result<Reply, Failure> {
    let reply = |answer| Reply { answer, guard: None };
    match upstream::send(client, target, request.clone()).await {
        Err(failure) if failure.class == FailureClass::Connect => {
            upstream::send(client, target, request.clone()).await.map(reply)
        }
        result => result.map(reply),
    }
}

/// How a local provider is made ready and asked for one request.
struct LocalRun<'a> {
    app: &'a App,
    request: &'a Request,
    include_usage: bool,
    llm: &'a str,
}

impl Local<Running, Reply> for LocalRun<'_> {
    type Ready = Ready;

    async fn prepare(&self, provider: &Running) -> Result<Ready, LocalError> {
        let ready = provider.ready().await;
        if let Some(engine) = &provider.engine {
            let outcome = if ready.is_ok() { "ready" } else { "failed" };
            let engine = engine.status().name;
            self.app.metrics.engine_start(Configured::resolved(&engine), outcome);
        }
        ready
    }

    async fn run(&self, provider: &Running, ready: Ready, _grant: AccessGrant) -> Result<Reply, LocalError> {
        tracing::info!(llm = self.llm, provider = %provider.provider.name, "allowed: a local provider stands in");
        ask_local(&self.app.client, ready, self.request, self.include_usage).await
    }
}

async fn ask_local(
    client: &upstream::Client,
    ready: Ready,
    request: &Request,
    include_usage: bool,
) -> Result<Reply, LocalError> {
    let Ready { target, guard } = ready;
    let mut request = request.clone();
    if request.stream && !include_usage && request.operation != Operation::Embeddings {
        // Usage is always asked for, and kept from callers who did not.
        request.body = request::with_include_usage(&request.body).map_err(|e| LocalError(e.to_string()))?;
    }
    let answer = upstream::send(client, &target, request).await.map_err(|e| LocalError(e.to_string()))?;
    Ok(Reply { answer, guard })
}

/// One's own provider, without the centre: for this machine's user alone.
async fn own(
    app: &Arc<App>,
    runtime: &Runtime,
    caller: &Caller,
    provider: &str,
    request: Request,
    include_usage: bool,
) -> Result<Response, LocalHttpError> {
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
    let Some(running) = runtime.registry.provider(provider) else {
        return Err(LocalHttpError::new(
            StatusCode::NOT_FOUND,
            ErrorKind::NotFoundError,
            "no_such_provider",
            format!("there is no local provider `{provider}`"),
        )
        .hint("`mcpctl local status` lists them"));
    };
    let reply = async {
        let ready = running.ready().await?;
        ask_local(&app.client, ready, &request, include_usage).await
    };
    match reply.await {
        Ok(reply) => Ok(served_locally(app, reply, provider, !include_usage)),
        Err(LocalError(reason)) => Err(LocalHttpError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::UpstreamError,
            "local_provider_failed",
            format!("the local provider `{provider}` did not answer: {reason}"),
        )
        .hint(format!("mcpctl local logs {provider}"))),
    }
}

/// Log, count and journal what happened; before the first byte goes out.
fn account(
    app: &App,
    llm: &str,
    trail: &Trail,
    class: Option<FailureClass>,
    result: &Result<Served<Reply>, Failure>,
) -> Result<(), LocalHttpError> {
    let Some(provider) = &trail.provider else { return Ok(()) };
    for access in &trail.probes {
        app.metrics.probe(access.as_str());
    }
    let served = result.as_ref().is_ok_and(|served| served.failover);
    let access = trail.probes.iter().map(|access| access.as_str()).collect::<Vec<_>>();
    // Forbidden and unreachable stay apart for those who watch.
    let (outcome, counted) = match (served, &trail.local_error) {
        (true, _) => ("served", "served"),
        (false, Some(_)) => ("failed", "failed"),
        (false, None) => ("refused", access.last().copied().unwrap_or("refused")),
    };
    let class = class.map(FailureClass::as_str);
    let reason = trail.local_error.clone().or_else(|| trail.probe_error.clone());
    app.metrics.traffic.failover(Configured::resolved(llm), class.unwrap_or("connect"), counted);
    let primary = match (result, trail.primary_called) {
        (_, false) => "rests",
        (Ok(served), true) if !served.failover => "answered after all",
        _ => "failed",
    };
    tracing::warn!(
        llm,
        provider,
        primary,
        class,
        ?access,
        outcome,
        reason,
        "a local provider was to stand in"
    );
    let entry = Entry::Failover {
        at: Timestamp::now(),
        request: mcpctl_server::request_id(),
        llm: llm.to_owned(),
        provider: provider.clone(),
        class: class.map(str::to_owned),
        access,
        outcome,
        reason,
    };
    match app.record(entry) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::error!(%error, "the journal cannot be written");
            // INVARIANT 14: nothing is done in the centre's place that is not on record.
            if served { Err(LocalHttpError::no_journal()) } else { Ok(()) }
        }
    }
}

/// What the centre answered, as it came.
fn forwarded(reply: Reply) -> Response {
    match reply.answer {
        Answer::Whole(whole) => with_headers((whole.status, whole.body).into_response(), &whole.headers),
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            let body = StreamBody::new(stream, false, |_| {});
            with_headers((status, Body::from_stream(body)).into_response(), &headers)
        }
    }
}

/// What a local provider answered; the guard goes with the last byte.
fn served_locally(app: &Arc<App>, reply: Reply, provider: &str, hide_usage: bool) -> Response {
    let Reply { answer, guard } = reply;
    let request = mcpctl_server::request_id();
    let app = Arc::clone(app);
    let ended = move |ending: Ending| {
        drop(guard);
        let usage = ending.usage.unwrap_or_default();
        let entry = Entry::Ended {
            at: Timestamp::now(),
            request,
            outcome: match ending.outcome {
                Outcome::Completed => "ok",
                Outcome::Broken(class) => class.as_str(),
                Outcome::Cancelled => FailureClass::Cancelled.as_str(),
            },
            model: ending.model,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
        };
        if let Err(error) = app.record(entry) {
            tracing::error!(%error, "the journal cannot be written");
        }
    };
    let mut response = match answer {
        Answer::Whole(whole) => {
            ended(Ending { outcome: Outcome::Completed, usage: whole.usage, model: whole.model });
            content((whole.status, whole.body).into_response(), &whole.headers)
        }
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            let body = StreamBody::new(stream, hide_usage, ended);
            content((status, Body::from_stream(body)).into_response(), &headers)
        }
    };
    if let Ok(name) = HeaderValue::from_str(provider) {
        response.headers_mut().insert(SERVED_BY, name);
    }
    response
}

/// INVARIANT 3: the primary's own error: status, body and headers as they came. Where nothing came, words of ours.
fn primary_error(failure: &Failure) -> Response {
    if let Some(status) = failure.status.filter(|status| !status.is_success()) {
        return with_headers((status, failure.body.clone()).into_response(), &failure.headers);
    }
    let class = failure.class;
    let (status, message) = match class {
        FailureClass::NoResponse | FailureClass::NoFirstToken => {
            (StatusCode::GATEWAY_TIMEOUT, "mcpd did not answer in time")
        }
        FailureClass::Connect => (StatusCode::BAD_GATEWAY, "mcpd cannot be reached"),
        _ => (StatusCode::BAD_GATEWAY, "mcpd's answer broke off"),
    };
    let error = LocalHttpError::new(status, ErrorKind::UpstreamError, class.as_str(), message);
    let mut response = error.into_response();
    response.headers_mut().insert(FAILURE, HeaderValue::from_static(class.as_str()));
    response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("mcplocal"));
    response
}

fn with_headers(mut response: Response, headers: &HeaderMap) -> Response {
    // What the framework guessed gives way to what was sent.
    for name in headers.keys() {
        response.headers_mut().remove(name);
    }
    for (name, value) in headers {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// Of a local server's headers, those that describe the body.
fn content(mut response: Response, headers: &HeaderMap) -> Response {
    for name in ["content-type", "cache-control"] {
        if let Some(value) = headers.get(name) {
            response.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    response
}

fn malformed(error: &RequestError) -> LocalHttpError {
    LocalHttpError::invalid(error.param().unwrap_or_default(), error.to_string())
}
