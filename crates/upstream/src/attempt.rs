//! One attempt, from top to bottom: prepare, send, read the head, then read either the whole body or the events up to the
//! first one with content.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{self, CONTENT_TYPE},
};
use mcpctl_api::visible;
use mcpctl_dialect::{AnswerBody, EventMeaning, error::UpstreamError, meaning::ErrorMeaning, usage::Usage};
use mcpctl_failover::FailureClass;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Answer, AttemptTimeout, Client, Failure, RefusedAddress, Request, StreamAnswer, StreamEvent,
    StreamEvents, Target, TimeoutKind, UpstreamKind, WholeAnswer,
    body::{Body, BodyEnd, read_body},
    classify::{classify, classify_in_band, retry_after},
    connect_error::{HostPort, SendError, find, reason},
    connection::Connection,
    head::{encoded, incoming, is_event_stream},
    milestones,
    patience::{Expired, Patience, after, before},
    peek::peek,
    progress,
    reader::{Reader, StreamError},
    request::{authorize, message, outgoing},
    screen::Screen,
};

/// How many start-up events are held at most (`docs/reference/contract.md`). Comments are not events.
const MAX_HELD_EVENTS: usize = 64;
/// How many events are held at most, comments and blank lines included.
const MAX_HELD_FRAMES: usize = 4096;
/// How many bytes are held at most, comments included.
const MAX_HELD_BYTES: usize = 256 * 1024;
/// How long a stream may last while content keeps coming: the longest timeout that an Llm can have.
const MAX_STREAM_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest address of a redirect that an error message names, in bytes.
const MAX_REDIRECT_BYTES: usize = 300;

/// Makes one attempt. Dropping the future, or later the answer, cancels the request at the upstream at once.
///
/// # Errors
/// A [`Failure`] of the class that the table of `docs/reference/contract.md` gives. Where the table leaves room: a body or stream that is
/// cut, ends early or cannot be read after the response head and before its first content is `server_error`, because nothing was
/// delivered and the server was reachable; a whole answer that exceeds its limit is `rejected`, because a retry would give the
/// same.
pub async fn send(client: &Client, target: &Target, request: &Request) -> Result<Answer, Failure> {
    let streams = request.stream && request.operation.may_stream();
    let timeouts = target.timeouts;
    let begun = Instant::now();
    let whole_until = after(begun, timeouts.answer);

    let (head_timeout, head_until) = match streams {
        true => {
            let timeout = AttemptTimeout { kind: TimeoutKind::Response, duration: timeouts.response };
            (timeout, after(begun, timeout.duration))
        }
        false => (AttemptTimeout { kind: TimeoutKind::Answer, duration: timeouts.answer }, whole_until),
    };
    let mut timer = pin!(sleep_until(head_until));
    let response = respond(client, target, request, timer.as_mut(), head_timeout).await?;
    progress::received();
    milestones::note(|reached| &mut reached.head);
    let screen = Screen::of(target, request.operation);
    let status = response.status();
    if !status.is_success() && !status.is_client_error() && !status.is_server_error() {
        return Err(not_an_answer(target, request, &response, &screen));
    }
    let headers = incoming(response.headers(), target.kind, &screen);

    if !status.is_success() {
        timer.as_mut().reset(after(Instant::now(), timeouts.idle.min(timeouts.response)));
        return Err(error_answer(target, response, headers, &screen, timer).await);
    }
    if let Some(failure) = encoded(status, &headers) {
        return Err(failure);
    }
    // A server may ignore `stream` and answer with JSON, or stream under another content type: the first bytes show which.
    let (mut body, mut headers) = (response.into_body(), headers);
    let (start, is_stream) = match streams {
        true if is_event_stream(&headers) => (Bytes::new(), true),
        true => {
            let timeout = AttemptTimeout { kind: TimeoutKind::FirstToken, duration: timeouts.first_token };
            timer.as_mut().reset(after(Instant::now(), timeout.duration).min(whole_until));
            let late = || no_content(timeout).with_head(status, &headers);
            let peeked = peek(&mut body, timer.as_mut()).await.ok_or_else(late)?;
            timer.as_mut().reset(whole_until);
            peeked
        }
        false => (Bytes::new(), false),
    };
    if is_stream {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // A stream whose first event does not come is waited for as long as the whole answer may take.
        let patience = Patience::new(timeouts.first_token, timeouts.answer, begun);
        let reader = Box::new(Reader::new(body, start, request, screen, patience));
        hold(target, reader, status, headers, begun).await.map(Answer::Stream)
    } else {
        // `timeouts.response` applied to the head; the body has what is left of `timeouts.answer`.
        let read = read_body(body, start, WholeAnswer::MAX_BODY, timer).await;
        whole(target, request, status, read, headers, &screen).map(Answer::Whole)
    }
}

/// Sends the request, and returns the response with its head read.
async fn respond(
    client: &Client,
    target: &Target,
    request: &Request,
    timer: Pin<&mut Sleep>,
    timeout: AttemptTimeout,
) -> Result<Response<Body>, Failure> {
    let mut headers = outgoing(request, target, client.instance());
    // After the caller's headers, so that it replaces any of theirs.
    authorize(&mut headers, target)?;
    let (pool, path) = match (client.pool(target), target.path(request.operation)) {
        (Ok(pool), Ok(path)) => (pool, path),
        (Err(error), _) | (_, Err(error)) => return Err(not_sent(error, target)),
    };
    let outgoing = message(Method::POST, path, headers, request.body.clone());
    let mut is_reused = false;
    let sending = async {
        let connection = Connection::of(&pool).await?;
        is_reused = connection.is_reused;
        connection.send(outgoing).await
    };
    match before(timer, sending).await {
        Some(Ok(response)) => Ok(response),
        Some(Err(error)) => {
            let failure = not_sent(error, target);
            // A server that sent bytes, even if they are not HTTP, is reachable: then the connection was not stale.
            if !is_reused || failure.class != FailureClass::Connect {
                return Err(failure);
            }
            client.retire(&pool);
            Err(failure.on_stale_connection())
        }
        None => {
            if is_reused {
                // The connection may be dead, and with HTTP/2 the next request would use it again.
                client.retire(&pool);
            }
            Err(Failure::timed_out(FailureClass::NoResponse, "no response head", timeout))
        }
    }
}

/// A failure before the response head.
fn not_sent(error: SendError, target: &Target) -> Failure {
    if let Some(refused) = find::<RefusedAddress>(&error) {
        return Failure::refused_address(refused.clone());
    }
    let place = HostPort(target);
    let reason = reason(&error);
    let (class, detail) = match &error {
        SendError::ConnectTimeout => {
            let timeout = AttemptTimeout { kind: TimeoutKind::Connect, duration: target.timeouts.connect };
            let waited_for = format!("no connection to {place}");
            return Failure::timed_out(FailureClass::Connect, &waited_for, timeout).caused_by(error);
        }
        SendError::Request(_) => (FailureClass::Rejected, "the request cannot be built".to_owned()),
        SendError::Connect(_) => (FailureClass::Connect, format!("cannot connect to {place}: {reason}")),
        // The server answered, though not in HTTP, so the class is not `connect`.
        SendError::Exchange(http) if http.is_parse() => {
            (FailureClass::ServerError, format!("the response head of {place} cannot be read: {reason}"))
        }
        SendError::Exchange(_) | SendError::Body(_) => {
            (FailureClass::Connect, format!("the connection to {place} failed before a response: {reason}"))
        }
    };
    Failure::new(class, detail).caused_by(error)
}

/// The failure for a status that is neither a success nor an error. A redirect is never followed, because the prompt and our
/// key are for the target's address only. The class is `rejected`: while the address is wrong, no other attempt succeeds, and a
/// local model that answers instead would hide the mistake.
fn not_an_answer(target: &Target, request: &Request, response: &Response<Body>, screen: &Screen) -> Failure {
    let status = response.status();
    let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
    let redirect = location.and_then(|location| {
        let wanted = target.endpoint(request.operation).join(location.to_str().ok()?).ok()?;
        let shown = format!("{}{}", wanted.origin().ascii_serialization(), wanted.path());
        // The path may contain our key.
        let shown = screen.text(Bytes::from(shown));
        Some(visible::short(std::str::from_utf8(&shown).ok()?, MAX_REDIRECT_BYTES))
    });
    let to = redirect.as_ref().map(|to| format!(" and redirects to `{to}`")).unwrap_or_default();
    let detail = format!("{} answers with status {}{to}", HostPort(target), status.as_u16());
    let mut failure = Failure::new(FailureClass::Rejected, detail).with_head(status, &HeaderMap::new());
    failure.redirect = redirect.map(Into::into);
    failure
}

/// The failure for an error answer. A body that is late or too long is cut: the class follows from the status first.
async fn error_answer(
    target: &Target,
    response: Response<Body>,
    mut headers: HeaderMap,
    screen: &Screen,
    timer: Pin<&mut Sleep>,
) -> Failure {
    let status = response.status();
    let (body, _) = read_body(response.into_body(), Bytes::new(), Failure::MAX_BODY, timer).await;
    let error = UpstreamError::read(&body);
    let class = classify(target.kind, status, &headers, &error);
    let original = body.clone();
    let body = screen.error_body(body, status, &mut headers);
    let mut failure = Failure::new(class, "the upstream answered with an error")
        .with_head(status, &headers)
        .with_original_body(&original)
        .with_body(body)
        .meaning(error.meaning);
    failure.retry_after = retry_after(&headers, SystemTime::now());
    failure
}

fn whole(
    target: &Target,
    request: &Request,
    status: StatusCode,
    (body, end): (Bytes, BodyEnd),
    headers: HeaderMap,
    screen: &Screen,
) -> Result<WholeAnswer, Failure> {
    let fail = |class, detail: &str| Failure::new(class, detail).with_head(status, &headers);
    match end {
        BodyEnd::Complete => {}
        BodyEnd::Cut(error) => {
            return Err(fail(FailureClass::ServerError, "the answer was cut").caused_by(error));
        }
        BodyEnd::TooLate => {
            let timeout = AttemptTimeout { kind: TimeoutKind::Answer, duration: target.timeouts.answer };
            let failure = Failure::timed_out(FailureClass::NoResponse, "no whole answer", timeout);
            return Err(failure.with_head(status, &headers));
        }
        BodyEnd::TooLarge => {
            let detail = format!("the answer is larger than {} bytes", WholeAnswer::MAX_BODY);
            return Err(fail(FailureClass::Rejected, &detail));
        }
    }
    let body = screen.text(body);
    match AnswerBody::read(request.operation, &body) {
        Some(AnswerBody { error: Some(error), .. }) => {
            let class = classify_in_band(target.kind, &error);
            Err(fail(class, "the upstream reported an error inside the answer")
                .with_body(bounded(body))
                .meaning(error.meaning))
        }
        Some(AnswerBody { model, usage, error: None }) => {
            Ok(WholeAnswer { status, headers, body, usage: usage.and_then(Usage::plausible), model })
        }
        None => {
            // Neither an answer nor an error in a known shape, but its text may still be a refusal of content.
            let class = unknown_shape(target.kind, &UpstreamError::read(&body));
            let failure = fail(class, "the answer cannot be read");
            Err(if class == FailureClass::ServerError { failure } else { failure.with_body(bounded(body)) })
        }
    }
}

/// Reads events up to the first one with content. Until then the caller has received nothing, so that a failover is invisible.
/// A stream with more start-up events than may be held counts as begun: its failures from here on are `broken_stream`.
async fn hold(
    target: &Target,
    mut reader: Box<Reader>,
    status: StatusCode,
    headers: HeaderMap,
    begun: Instant,
) -> Result<StreamAnswer, Failure> {
    let timeouts = target.timeouts;
    let (mut held, mut events, mut bytes) = (Vec::new(), 0_usize, 0_usize);
    loop {
        let event = match poll_fn(|context| reader.poll_next(context)).await {
            Ok(Some(event)) => event,
            // Only `[DONE]` or a finish reason completes a stream, and both have ended the loop.
            Ok(None) => break,
            Err(StreamError::Late(expired)) => {
                let timeout = match expired {
                    Expired::Idle(duration) => AttemptTimeout { kind: TimeoutKind::FirstToken, duration },
                    Expired::Content => {
                        AttemptTimeout { kind: TimeoutKind::Answer, duration: timeouts.answer }
                    }
                };
                return Err(no_content(timeout).with_head(status, &headers));
            }
            Err(broken) => return Err(before_content(target.kind, broken).with_head(status, &headers)),
        };
        let (is_silent, begins) = match event.event.meaning {
            EventMeaning::Content | EventMeaning::Done => (false, true),
            EventMeaning::Silent => (true, false),
            _ => (false, false),
        };
        bytes = bytes.saturating_add(event.frame.raw.len());
        events = events.saturating_add(usize::from(!is_silent));
        held.push(event);
        let is_full = events > MAX_HELD_EVENTS || bytes > MAX_HELD_BYTES || held.len() > MAX_HELD_FRAMES;
        if begins || is_full {
            break;
        }
    }
    reader.patience.go_on(timeouts.idle, after(begun, MAX_STREAM_DURATION));
    let open =
        OpenStream { reader, kind: target.kind, answer: timeouts.answer, status, headers: headers.clone() };
    Ok(StreamAnswer { status, headers, held, rest: StreamEvents::open(open) })
}

/// A stream whose held events were handed on.
pub(crate) struct OpenStream {
    reader: Box<Reader>,
    kind: UpstreamKind,
    /// The longest time between two events with content.
    answer: Duration,
    /// The head of the response, for a later failure.
    status: StatusCode,
    headers: HeaderMap,
}

impl OpenStream {
    /// The next event; nothing follows an error.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamEvent, Failure>>> {
        self.reader.poll_next(context).map(|next| next.map_err(|broken| self.broken(broken)).transpose())
    }

    /// The next event of the bytes that have arrived.
    pub(crate) fn arrived(&mut self) -> Option<Result<StreamEvent, Failure>> {
        let next = self.reader.arrived()?;
        Some(next.map_err(|broken| self.broken(broken)))
    }

    fn broken(&self, broken: StreamError) -> Failure {
        let failure = match broken {
            StreamError::Late(Expired::Idle(duration)) => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Idle, duration };
                Failure::timed_out(FailureClass::BrokenStream, "the stream stalled: nothing came", timeout)
            }
            StreamError::Late(Expired::Content) => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Answer, duration: self.answer };
                Failure::timed_out(FailureClass::BrokenStream, "no more content", timeout)
            }
            broken => after_content(self.kind, broken),
        };
        failure.with_head(self.status, &self.headers)
    }
}

fn no_content(timeout: AttemptTimeout) -> Failure {
    Failure::timed_out(FailureClass::NoFirstToken, "no content", timeout)
}

/// The class of a body with status 200 in an unknown shape.
fn unknown_shape(kind: UpstreamKind, error: &UpstreamError) -> FailureClass {
    match error.meaning {
        Some(ErrorMeaning::Content | ErrorMeaning::Unsupported | ErrorMeaning::ContextLength) => {
            classify_in_band(kind, error)
        }
        _ => FailureClass::ServerError,
    }
}

fn before_content(kind: UpstreamKind, broken: StreamError) -> Failure {
    broken_as(class_before_content(kind, &broken), broken)
}

fn class_before_content(kind: UpstreamKind, broken: &StreamError) -> FailureClass {
    match broken {
        StreamError::Unreadable(data) => unknown_shape(kind, &UpstreamError::read(data)),
        StreamError::InBand(error, _) => classify_in_band(kind, error),
        _ => FailureClass::ServerError,
    }
}

/// INVARIANT 13: a stream that breaks after its first content is reported as broken, for any reason.
fn after_content(kind: UpstreamKind, broken: StreamError) -> Failure {
    let class = class_before_content(kind, &broken);
    broken_as(FailureClass::BrokenStream, broken).caused_as(class)
}

fn broken_as(class: FailureClass, broken: StreamError) -> Failure {
    let failure = Failure::new(class, broken.detail());
    match broken {
        StreamError::Cut(error) => failure.caused_by(error),
        StreamError::Unreadable(data) if class != FailureClass::ServerError => {
            failure.with_body(bounded(data))
        }
        StreamError::InBand(error, data) => failure.with_body(bounded(data)).meaning(error.meaning),
        _ => failure,
    }
}

fn bounded(mut body: Bytes) -> Bytes {
    body.truncate(Failure::MAX_BODY);
    body
}
