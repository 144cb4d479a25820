//! The life of an inference request, from top to bottom. Who calls, and in which snapshot, is known when it gets here.

mod unanswered;

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use mcpctl_access::Permit;
use mcpctl_api::{
    ErrorKind, Kind, Name, Spec, Verb,
    header::{ATTEMPTS, ERROR_SOURCE, FAILURE, SERVED_BY},
};
use mcpctl_dialect::openai::{
    error::{self, UpstreamError},
    request::{self, RequestFields},
};
use mcpctl_failover::FailureClass;
use mcpctl_relay::{RetryPolicy, body::StreamBody, retry};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{
    Answer, Failure, Operation, Request,
    hops::{self, HopError},
};

use crate::{
    app::App,
    audit,
    http::{caller::Caller, error::HttpError},
    inference::{self, Misconfigured, Route},
    usage::Account,
};

/// What a caller wants of a model.
pub struct Call {
    /// Which operation.
    pub operation: Operation,
    /// Name or id of the Llm; from the body's `model` where the path does not say it.
    pub llm: Option<String>,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

/// Authorize, route, relay, account.
///
/// # Errors
/// `mcpd`'s own errors; a provider's error is an answer.
pub async fn run(app: &Arc<App>, caller: Caller, call: Call) -> Result<Response, HttpError> {
    let arrived = Instant::now();
    // Before anything is looked up or put on record, so that a request in a circle costs as little as it can.
    hops::check(&call.headers, app.inference.client.instance()).map_err(in_a_circle)?;

    // Read before authorize, because the body names the Llm. Nothing of it is believed beyond that.
    let fields = RequestFields::read(&call.body).map_err(|error| malformed(&error))?;
    let named = match &call.llm {
        Some(llm) => llm.clone(),
        None => fields.require_model().map_err(|error| malformed(&error))?.to_owned(),
    };

    // Authorize in the snapshot that the caller was authenticated in, which is as new as the store was on arrival.
    let decision = caller.snapshot.authorize(&caller.principal, Verb::Run, Kind::Llm, &named);
    let recorded = audit::decision(app, &caller, Verb::Run, Kind::Llm, &named, &decision);
    let permit = match &decision {
        Ok(permit) => permit.clone(),
        Err(denied) => {
            recorded.await?;
            return Err(denied.clone().into());
        }
    };
    if let Err(error) = check_choice(&fields, &permit) {
        recorded.await?;
        return Err(error);
    }
    let revision = permit.revision();
    tracing::debug!(llm = %permit.resource().name(), %revision, "allowed");

    // From the permit follows where the request goes; the credential is opened only now.
    let route = inference::route(permit.clone(), &caller.snapshot, &app.store)
        .map_err(|error| misconfigured(&caller, &permit, &error))?;
    let account = Account::open(app, &caller, &route.permit, call.operation, fields.stream, arrived);

    // The decision is put on record while the provider works, and before the first byte goes out (INVARIANT 14).
    let (sent, recorded) = tokio::join!(relay(app, &route, &fields, &call, arrived), recorded);
    recorded?;

    let retry::RetryOutcome { result, attempts } = sent?;
    let mut response = match result {
        Ok(Answer::Whole(whole)) => {
            account.close_whole(&whole, attempts).await?;
            let mut response = (whole.status, whole.body).into_response();
            copy_headers(&whole.headers, &mut response);
            response
        }
        Ok(Answer::Stream(stream)) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            // Usage is always asked for, and kept from callers who did not.
            let body = StreamBody::new(stream, !fields.include_usage, account.on_end(attempts));
            let mut response = (status, Body::from_stream(body)).into_response();
            copy_headers(&headers, &mut response);
            response
        }
        Err(failure) => {
            account.close_failed(&failure, attempts).await?;
            let llm = route.permit.resource().name();
            let may = |verb| {
                caller.snapshot.authorize_name(&caller.principal, verb, Kind::Llm, llm.as_str()).is_ok()
            };
            failed(&failure, llm, may(Verb::View) && may(Verb::Edit))
        }
    };
    let headers = response.headers_mut();
    headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    if let Ok(name) = HeaderValue::from_str(route.permit.resource().name().as_str()) {
        headers.insert(SERVED_BY, name);
    }
    Ok(response)
}

async fn relay(
    app: &App,
    route: &Route,
    fields: &RequestFields,
    call: &Call,
    arrived: Instant,
) -> Result<retry::RetryOutcome, HttpError> {
    let llm = route.permit.resource();
    let stream_usage = &app.inference.stream_usage;
    let asks_for_usage = fields.stream
        && !fields.include_usage
        && call.operation != Operation::Embeddings
        && route.llm.stream_usage
        && !stream_usage.is_rejected(llm, arrived);
    let body = if asks_for_usage {
        request::with_include_usage(&call.body).map_err(|error| malformed(&error))?
    } else {
        call.body.clone()
    };
    let request = Request {
        operation: call.operation,
        stream: fields.stream,
        choices: fields.n,
        headers: call.headers.clone(),
        body,
    };
    let policy = RetryPolicy {
        max: route.llm.retries.max.into(),
        // One deadline over all attempts, waits included.
        deadline: arrived + route.llm.timeouts.answer.0,
    };
    let name = Configured::resolved(llm.name().as_str());
    let budget = app.inference.budget(llm.id());
    let send = async |request: &Request| {
        let on_retry = |class: FailureClass| {
            app.metrics.traffic.attempt(name, class.as_str());
            app.metrics.traffic.retry(name);
        };
        let (client, target) = (&app.inference.client, &route.target);
        let sent = retry::send(client, target, request, policy, &budget, on_retry).await;
        let outcome = sent.result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok");
        app.metrics.traffic.attempt(name, outcome);
        sent
    };
    let sent = send(&request).await;
    match &sent.result {
        // What the caller did not ask for must not be why it gets no answer.
        Err(failure) if asks_for_usage && failure.refuses_stream_options() => {
            let again = send(&Request { body: call.body.clone(), ..request }).await;
            if again.result.is_ok() {
                tracing::info!(llm = %llm.name(), "the provider refuses `stream_options`: usage of its streams is unknown");
                stream_usage.rejected(llm, Instant::now());
            }
            Ok(retry::RetryOutcome { result: again.result, attempts: sent.attempts + again.attempts })
        }
        _ => Ok(sent),
    }
}

/// A credential of ours that cannot be used is not the provider's fault. Where it is kept is for those who may correct it.
fn misconfigured(caller: &Caller, permit: &Permit, error: &Misconfigured) -> HttpError {
    tracing::error!(error = error as &dyn std::error::Error, "a permitted Llm cannot be asked");
    let name = permit.resource().name();
    let may =
        |verb| caller.snapshot.authorize_name(&caller.principal, verb, Kind::Llm, name.as_str()).is_ok();
    let (message, hint) = if may(Verb::View) && may(Verb::Edit) {
        let hint = match error {
            Misconfigured::Unsendable { .. } => "write the value of the secret again",
            _ => "an account that may use the secret can write the Llm's `apiKey` again",
        };
        (error.to_string(), hint)
    } else {
        let hint = "ask an administrator of mcpd to correct the Llm";
        (format!("the Llm `{name}` has no credential that can be used"), hint)
    };
    HttpError::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "misconfigured", message)
        .hint(hint)
        .class(FailureClass::UpstreamCredentials)
}

/// 508 for what came back or passed too many daemons. It never fails over: another target would be asked in a circle too.
fn in_a_circle(error: HopError) -> HttpError {
    let http = match error {
        HopError::Malformed => HttpError::invalid("", error.to_string()),
        HopError::Loop | HopError::TooMany => HttpError::new(
            StatusCode::LOOP_DETECTED,
            ErrorKind::UpstreamError,
            "loop_detected",
            error.to_string(),
        )
        .hint("an administrator can correct the `url` of the Llms on the way"),
    };
    http.class(FailureClass::Rejected)
}

fn malformed(error: &request::RequestError) -> HttpError {
    let http = HttpError::invalid(error.param().unwrap_or_default(), error.to_string());
    match error.hint() {
        Some(hint) => http.hint(hint),
        None => http,
    }
    .class(FailureClass::Rejected)
}

/// Only the Llm that was authorized answers: fields by which its provider would choose another model are refused, unless
/// the Llm names them. After the permit, so that only those who may run the Llm learn what it allows.
fn check_choice(fields: &RequestFields, permit: &Permit) -> Result<(), HttpError> {
    let Spec::Llm(llm) = &permit.resource().resource.spec else { return Ok(()) };
    let Some(key) = fields.routing_keys.iter().find(|key| !llm.allow_fields.contains(key)) else {
        return Ok(());
    };
    let name = permit.resource().name();
    let message = format!("`{key}` would let the provider choose the model or the place by itself");
    Err(HttpError::invalid(key, message)
        .hint(format!("leave it out, or have `{key}` listed in `allowFields` of the Llm `{name}`"))
        .class(FailureClass::Rejected))
}

/// The answer to a failed request: the provider's own error where there is one that the caller may see.
fn failed(failure: &Failure, llm: &Name, may_edit: bool) -> Response {
    let class = failure.class;
    tracing::warn!(%llm, class = class.as_str(), error = %failure, "the provider failed");
    let own = |status, code: &str, message: &str| {
        HttpError::new(status, ErrorKind::UpstreamError, code, message).class(class).into_response()
    };
    let mut response = match (class, failure.status.filter(|status| !status.is_success())) {
        // What a provider says about our key is not for callers.
        (FailureClass::UpstreamCredentials, _) => own(
            StatusCode::BAD_GATEWAY,
            "upstream_credentials",
            "the provider refused the credential of this Llm",
        ),
        // The caller named the Llm, which exists; the model is the Llm's.
        (FailureClass::ModelUnavailable, _) => {
            let words = UpstreamError::read(&failure.body).message.unwrap_or_default();
            HttpError::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::UpstreamError,
                class.as_str(),
                format!("the provider does not have the model of this Llm: {words}"),
            )
            .hint("an account that may edit the Llm can change its `model`")
            .class(class)
            .into_response()
        }
        (_, Some(status)) if unanswered::is_answer(status) => {
            let mut response = (status, failure.body.clone()).into_response();
            copy_headers(&failure.headers, &mut response);
            response
        }
        (_, None) if let Some(response) = in_band(failure) => response,
        (_, Some(_) | None) => unanswered::error(failure, llm, may_edit).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(ERROR_SOURCE, HeaderValue::from_static("upstream"));
    headers.insert(FAILURE, HeaderValue::from_static(class.as_str()));
    response
}

/// An error that came under status 200, whole or as the first event: the provider's words under the status that its class has.
fn in_band(failure: &Failure) -> Option<Response> {
    let UpstreamError { message, kind, code, .. } = UpstreamError::read(&failure.body);
    let named = || code.as_deref()?.parse().ok().filter(|code| (400..=499).contains(code));
    let status = match failure.class {
        FailureClass::Rejected | FailureClass::ContextLength => named().unwrap_or(400),
        FailureClass::RateLimited => 429,
        _ => 502,
    };
    let body = error::error_body(&message?, kind.as_deref(), code.as_deref());
    let json = [(header::CONTENT_TYPE, "application/json")];
    Some((StatusCode::from_u16(status).ok()?, json, body).into_response())
}

/// Headers of a provider's answer that mean something to callers; all others stay behind.
const PASSED: [&str; 6] = [
    "content-type",
    "cache-control",
    "retry-after",
    "x-request-id",
    "openai-processing-ms",
    "openai-version",
];

fn copy_headers(from: &HeaderMap, response: &mut Response) {
    for (name, value) in from {
        if PASSED.contains(&name.as_str()) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
}
