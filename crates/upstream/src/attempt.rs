//! The attempt itself, read from top to bottom: prepare, send, head, then either the whole body or the events
//! up to the first one with content.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, AUTHORIZATION, CONTENT_TYPE},
};
use mcpctl_api::visible;
use mcpctl_dialect::openai::{
    chunk::{AnswerBody, ChunkKind},
    error::UpstreamError,
    meaning::ErrorMeaning,
    request::with_model,
};
use mcpctl_failover::FailureClass;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use crate::{
    Answer, AttemptTimeout, Client, Failure, Held, Operation, RefusedAddress, Request, StreamAnswer,
    StreamEvent, StreamEvents, Target, TimeoutKind, UpstreamKind, WholeAnswer,
    classify::{classify, classify_in_band, retry_after},
    client::Lease,
    connect_error::{Place, find, reason},
    head::{encoded, incoming, is_event_stream},
    peek::peek,
    reader::{Break, Reader},
    request::outgoing,
    reuse::{self, Connection},
    screen::Screen,
};

/// How many start-up events are held (CONTRACT.md, "First event"). Comments are no events.
const MAX_HELD_EVENTS: usize = 64;
/// How many events are held, comments and blank lines included.
const MAX_HELD_FRAMES: usize = 4096;
/// How many bytes are held, comments included.
const MAX_HELD_BYTES: usize = 256 * 1024;
/// The longest that a stream goes on, though content keeps coming: as long as the longest time limit of an Llm.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest address of a redirect that is named, bytes.
const MAX_REDIRECT: usize = 300;

/// Makes one attempt. Dropping the future, or later the answer, cancels the request at the upstream at once.
///
/// # Errors
/// A [`Failure`] of the class that CONTRACT.md's table gives. Where the table leaves room: after the response head,
/// a body or stream that is cut, ends early or cannot be read before its first content is `server_error`, for
/// nothing was delivered and the server was there; a whole answer that exceeds its bound is `rejected`, for
/// asking again would give the same.
pub async fn send(client: &Client, target: &Target, request: Request) -> Result<Answer, Failure> {
    let streams = request.stream && request.operation != Operation::Embeddings;
    let timeouts = target.timeouts;
    let begun = Instant::now();

    let (pool, outgoing) = prepare(client, target, &request)?;
    let head_timeout = match streams {
        true => AttemptTimeout { kind: TimeoutKind::Response, duration: timeouts.response },
        false => AttemptTimeout { kind: TimeoutKind::Answer, duration: timeouts.answer },
    };
    let sending = timeout_at(after(begun, head_timeout.duration), outgoing.send());
    let response = match reuse::watch(sending).await {
        (Ok(Ok(response)), _) => response,
        (Ok(Err(error)), connection) => {
            let was_reused = connection == Connection::Reused && !error.is_connect();
            let failure = not_sent(error, target);
            // Bytes that are no HTTP are an answer.
            if !was_reused || failure.class != FailureClass::Connect {
                return Err(failure);
            }
            client.retire(&pool);
            return Err(failure.on_stale_connection());
        }
        (Err(_), connection) => {
            if connection == Connection::Reused {
                // It may have gone deaf, and with HTTP/2 the next request would get the same one.
                client.retire(&pool);
            }
            return Err(Failure::timed_out(FailureClass::NoResponse, "no response head", head_timeout));
        }
    };
    let screen = Screen::of(target);
    let status = response.status();
    if !status.is_success() && !status.is_client_error() && !status.is_server_error() {
        return Err(not_an_answer(target, &request, &response, &screen));
    }
    let headers = incoming(response.headers(), target.kind, &screen);

    if !status.is_success() {
        return Err(refused(target, response, headers, &screen).await);
    }
    if let Some(failure) = encoded(status, &headers) {
        return Err(failure);
    }
    let whole_until = after(begun, timeouts.answer);
    // A server that ignores `stream` answers with JSON, and one that does not may say so: the content shows which it is.
    let (mut response, mut headers) = (response, headers);
    let (start, is_stream) = match streams {
        true if is_event_stream(&headers) => (Bytes::new(), true),
        true => {
            let timeout = AttemptTimeout { kind: TimeoutKind::FirstToken, duration: timeouts.first_token };
            let until = after(Instant::now(), timeout.duration).min(whole_until);
            let late = || no_content(timeout).with_head(status, &headers);
            peek(&mut response, until).await.ok_or_else(late)?
        }
        false => (Bytes::new(), false),
    };
    if is_stream {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        hold(target, Reader::new(response, &start, request.choices, screen), status, headers, begun)
            .await
            .map(Answer::Stream)
    } else {
        // A stream's wish gave the head `timeouts.response`; the body has what `timeouts.answer` leaves.
        whole(target, response, start, headers, whole_until, &screen).await.map(Answer::Whole)
    }
}

fn prepare(
    client: &Client,
    target: &Target,
    request: &Request,
) -> Result<(Lease, reqwest::RequestBuilder), Failure> {
    let body = match &target.model {
        Some(model) => with_model(&request.body, model)
            .map_err(|_| Failure::new(FailureClass::Rejected, "the request body cannot be read"))?,
        None => request.body.clone(),
    };
    let mut headers = outgoing(request, target.kind, client.instance());
    // After the caller's headers, so that nothing of theirs can stand beside it.
    if let Some(credential) = &target.credential {
        // A key that was read from a file ends with the file's line end, which is no part of it. What is inside is sent as it
        // is or not at all, so that no key adds a header.
        let key = credential.expose_secret().trim_end_matches(['\r', '\n']);
        let mut bearer = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
            Failure::new(FailureClass::UpstreamCredentials, "the credential cannot be sent in a header")
        })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    let pool = client.pool(target)?;
    let outgoing = pool.http.post(target.endpoint(request.operation)).headers(headers).body(body);
    Ok((pool, outgoing))
}

/// A failure before the response head.
fn not_sent(error: reqwest::Error, target: &Target) -> Failure {
    if let Some(refused) = find::<RefusedAddress>(&error) {
        return Failure::refused_address(refused.clone());
    }
    let place = Place(target);
    if error.is_connect() && error.is_timeout() {
        let timeout = AttemptTimeout { kind: TimeoutKind::Connect, duration: target.timeouts.connect };
        let waited_for = format!("no connection to {place}");
        return Failure::timed_out(FailureClass::Connect, &waited_for, timeout).caused_by(error);
    }
    let reason = reason(&error);
    let (class, detail) = if error.is_builder() {
        (FailureClass::Rejected, "the request cannot be built".to_owned())
    } else if error.is_connect() {
        (FailureClass::Connect, format!("cannot connect to {place}: {reason}"))
    } else if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
        // Bytes came that are no HTTP: the server answered, so it is not `connect`.
        (FailureClass::ServerError, format!("the response head of {place} cannot be read: {reason}"))
    } else {
        (FailureClass::Connect, format!("the connection to {place} failed before a response: {reason}"))
    };
    Failure::new(class, detail).caused_by(error)
}

/// A status that is neither a success nor an error. A redirect is never followed: the prompt and our key are for the
/// target's address alone. `rejected`, for as long as the address is the wrong one no other attempt does better, and a
/// local model that answers instead would hide it.
fn not_an_answer(
    target: &Target,
    request: &Request,
    response: &reqwest::Response,
    screen: &Screen,
) -> Failure {
    let status = response.status();
    let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
    let redirect = location.and_then(|location| {
        let wanted = target.endpoint(request.operation).join(location.to_str().ok()?).ok()?;
        let shown = format!("{}{}", wanted.origin().ascii_serialization(), wanted.path());
        // The path may repeat our key.
        let shown = screen.text(Bytes::from(shown));
        Some(visible::short(std::str::from_utf8(&shown).ok()?, MAX_REDIRECT))
    });
    let to = redirect.as_ref().map(|to| format!(" and redirects to `{to}`")).unwrap_or_default();
    let detail = format!("{} answers with status {}{to}", Place(target), status.as_u16());
    let mut failure = Failure::new(FailureClass::Rejected, detail).with_head(status, &HeaderMap::new());
    failure.redirect = redirect.map(Into::into);
    failure
}

/// An error answer, whole as far as it comes in time: its status is what counts.
async fn refused(
    target: &Target,
    response: reqwest::Response,
    mut headers: HeaderMap,
    screen: &Screen,
) -> Failure {
    let status = response.status();
    let until = after(Instant::now(), target.timeouts.idle.min(target.timeouts.response));
    let (body, _) = read_body(response, Bytes::new(), Failure::MAX_BODY, until).await;
    let error = UpstreamError::read(&body);
    let class = classify(target.kind, status, &headers, &error);
    let words = body.clone();
    let body = screen.error_body(body, status, &mut headers);
    let mut failure = Failure::new(class, "the upstream answered with an error")
        .with_head(status, &headers)
        .in_words(&words)
        .with_body(body)
        .meaning(error.meaning);
    failure.retry_after = retry_after(&headers, SystemTime::now());
    failure
}

async fn whole(
    target: &Target,
    response: reqwest::Response,
    start: Bytes,
    headers: HeaderMap,
    until: Instant,
    screen: &Screen,
) -> Result<WholeAnswer, Failure> {
    let status = response.status();
    let fail = |class, detail: &str| Failure::new(class, detail).with_head(status, &headers);
    let (body, end) = read_body(response, start, WholeAnswer::MAX_BODY, until).await;
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
    match AnswerBody::read(&body) {
        Some(AnswerBody { error: Some(error), .. }) => {
            let class = classify_in_band(target.kind, &error);
            Err(fail(class, "the upstream reported an error inside the answer")
                .with_body(bounded(body))
                .meaning(error.meaning))
        }
        Some(AnswerBody { model, usage, error: None }) => {
            Ok(WholeAnswer { status, headers, body, usage, model })
        }
        None => {
            // No answer and no error of a known shape; what it says may still be a refusal.
            let class = unknown_shape(target.kind, &UpstreamError::read(&body));
            let failure = fail(class, "the answer cannot be read");
            Err(if class == FailureClass::ServerError { failure } else { failure.with_body(bounded(body)) })
        }
    }
}

/// Reads events up to the first one with content, so that failing over until then is silent.
async fn hold(
    target: &Target,
    mut reader: Reader,
    status: StatusCode,
    headers: HeaderMap,
    begun: Instant,
) -> Result<StreamAnswer, Failure> {
    let timeouts = target.timeouts;
    let (mut held, mut events, mut bytes) = (Vec::new(), 0_usize, 0_usize);
    let held_until = loop {
        let until = after(begun, timeouts.answer);
        let event = match next_by(&mut reader, timeouts.first_token, until).await {
            Some(Ok(Some(event))) => event,
            // Only `[DONE]` or a finish reason completes a stream, and both have ended the loop.
            Some(Ok(None)) => break Held::Done,
            Some(Err(Break::Stalled(duration))) => {
                return Err(no_content(AttemptTimeout { kind: TimeoutKind::FirstToken, duration })
                    .with_head(status, &headers));
            }
            Some(Err(broken)) => {
                return Err(before_content(target.kind, broken).with_head(status, &headers));
            }
            None => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Answer, duration: timeouts.answer };
                return Err(no_content(timeout).with_head(status, &headers));
            }
        };
        let kind = event.chunk.kind.clone();
        bytes = bytes.saturating_add(event.frame.raw.len());
        events = events.saturating_add(usize::from(kind != ChunkKind::Silent));
        held.push(event);
        match kind {
            ChunkKind::Content => break Held::Content,
            ChunkKind::Done => break Held::Done,
            _ if events > MAX_HELD_EVENTS || bytes > MAX_HELD_BYTES || held.len() > MAX_HELD_FRAMES => {
                break Held::Overflow;
            }
            _ => {}
        }
    };
    let last = after(begun, LONGEST_STREAM);
    let begun = Begun { reader, headers: headers.clone(), content_at: Instant::now() };
    let rest = stream::unfold(Some(begun), move |begun| async move {
        let mut begun = begun?;
        // Comments and empty deltas keep a stream alive, but not for ever.
        let until = after(begun.content_at, timeouts.answer).min(last);
        let failure = match next_by(&mut begun.reader, timeouts.idle, until).await {
            Some(Ok(Some(event))) => {
                if event.chunk.kind == ChunkKind::Content {
                    begun.content_at = Instant::now();
                }
                return Some((Ok(event), Some(begun)));
            }
            Some(Ok(None)) => return None,
            Some(Err(Break::Stalled(duration))) => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Idle, duration };
                Failure::timed_out(FailureClass::BrokenStream, "the stream stalled: nothing came", timeout)
            }
            Some(Err(broken)) => after_content(broken),
            None => {
                let timeout = AttemptTimeout { kind: TimeoutKind::Answer, duration: timeouts.answer };
                Failure::timed_out(FailureClass::BrokenStream, "no more content", timeout)
            }
        };
        Some((Err(failure.with_head(status, &begun.headers)), None))
    });
    Ok(StreamAnswer { status, headers, held_until, held, rest: StreamEvents(rest.boxed()) })
}

/// The next event; none once `until` has passed, however fast events come: a timer alone is asked only where none is there.
async fn next_by(
    reader: &mut Reader,
    idle: Duration,
    until: Instant,
) -> Option<Result<Option<StreamEvent>, Break>> {
    if Instant::now() >= until {
        return None;
    }
    timeout_at(until, reader.next(Some(idle))).await.ok()
}

/// A stream whose first content arrived.
struct Begun {
    reader: Reader,
    /// Of its response, for what breaks it.
    headers: HeaderMap,
    /// When content last came.
    content_at: Instant,
}

fn no_content(timeout: AttemptTimeout) -> Failure {
    Failure::timed_out(FailureClass::NoFirstToken, "no content", timeout)
}

/// The class of what is under status 200 and has no known shape.
fn unknown_shape(kind: UpstreamKind, error: &UpstreamError) -> FailureClass {
    match error.meaning {
        Some(ErrorMeaning::Content | ErrorMeaning::Unsupported | ErrorMeaning::ContextLength) => {
            classify_in_band(kind, error)
        }
        _ => FailureClass::ServerError,
    }
}

fn before_content(kind: UpstreamKind, broken: Break) -> Failure {
    let class = match &broken {
        Break::Unreadable(data) => unknown_shape(kind, &UpstreamError::read(data)),
        Break::InBand(error, _) => classify_in_band(kind, error),
        _ => FailureClass::ServerError,
    };
    broken_as(class, broken)
}

/// INVARIANT 13: what broke after content had begun is said to be broken, whatever the reason.
fn after_content(broken: Break) -> Failure {
    broken_as(FailureClass::BrokenStream, broken)
}

fn broken_as(class: FailureClass, broken: Break) -> Failure {
    let failure = Failure::new(class, broken.detail());
    match broken {
        Break::Cut(error) => failure.caused_by(error),
        Break::Unreadable(data) if class != FailureClass::ServerError => failure.with_body(bounded(data)),
        Break::InBand(error, data) => failure.with_body(bounded(data)).meaning(error.meaning),
        _ => failure,
    }
}

enum BodyEnd {
    Complete,
    Cut(reqwest::Error),
    TooLate,
    TooLarge,
}

/// What arrives of a body until a bound of size or time, and how it ended; `start` came already.
async fn read_body(
    mut response: reqwest::Response,
    start: Bytes,
    max: usize,
    until: Instant,
) -> (Bytes, BodyEnd) {
    let mut body = BytesMut::from(start);
    loop {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                let room = max.saturating_sub(body.len());
                body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                if bytes.len() > room {
                    return (body.freeze(), BodyEnd::TooLarge);
                }
            }
            Ok(Ok(None)) => return (body.freeze(), BodyEnd::Complete),
            Ok(Err(error)) => return (body.freeze(), BodyEnd::Cut(error)),
            Err(_) => return (body.freeze(), BodyEnd::TooLate),
        }
    }
}

/// An instant later than the clock can say is a year away: a bound, still.
fn after(begun: Instant, duration: Duration) -> Instant {
    begun.checked_add(duration).unwrap_or_else(|| begun + Duration::from_secs(365 * 24 * 60 * 60))
}

fn bounded(mut body: Bytes) -> Bytes {
    body.truncate(Failure::MAX_BODY);
    body
}
