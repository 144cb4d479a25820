//! The attempt itself, read from top to bottom: prepare, send, head, then either the whole body or the events
//! up to the first one with content.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, AUTHORIZATION, CONTENT_TYPE},
};
use mcpctl_dialect::openai::{
    chunk::{Kind, Whole},
    error::UpstreamError,
    request::with_model,
};
use mcpctl_failover::FailureClass;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use crate::{
    Answer, Client, Events, Failure, Held, Operation, Peer, RefusedAddress, Request, StreamAnswer, Target,
    WholeAnswer,
    classify::{classify, classify_in_band, retry_after},
    reader::{Break, Reader},
    request::outgoing,
    screen::Screen,
};

/// How many start-up events are held (CONTRACT.md, "First event"). Comments are no events.
const MAX_HELD_EVENTS: usize = 64;
/// How many bytes are held, comments included.
const MAX_HELD_BYTES: usize = 256 * 1024;

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

    let outgoing = prepare(client, target, &request)?;
    let head_bound = if streams { timeouts.response } else { timeouts.answer };
    let response = match timeout_at(after(begun, head_bound), outgoing.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(not_sent(error)),
        Err(_) => {
            let detail = format!("no response head within {head_bound:?}");
            return Err(Failure::new(FailureClass::NoResponse, detail));
        }
    };
    let screen = Screen::of(target);
    let headers = incoming(response.headers(), target.peer, &screen);

    let status = response.status();
    if !status.is_success() {
        return Err(refused(target, response, headers, &screen).await);
    }
    // A server that ignores `stream` answers with JSON; the content type tells, not the wish.
    if streams && is_event_stream(&headers) {
        hold(target, Reader::new(response, request.choices, screen), status, headers)
            .await
            .map(Answer::Stream)
    } else {
        // A stream's wish gave the head `timeouts.response`; the body has what `timeouts.answer` leaves.
        whole(target, response, headers, after(begun, timeouts.answer), &screen).await.map(Answer::Whole)
    }
}

fn prepare(client: &Client, target: &Target, request: &Request) -> Result<reqwest::RequestBuilder, Failure> {
    let body = match &target.model {
        Some(model) => with_model(&request.body, model)
            .map_err(|_| Failure::new(FailureClass::Rejected, "the request body cannot be read"))?,
        None => request.body.clone(),
    };
    let mut headers = outgoing(request, target.peer, client.instance());
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
    Ok(pool.post(target.endpoint(request.operation)).headers(headers).body(body))
}

/// A failure before the response head.
fn not_sent(error: reqwest::Error) -> Failure {
    if let Some(refused) = cause::<RefusedAddress>(&error) {
        return Failure::refused_address(refused.clone());
    }
    let (class, detail) = if error.is_builder() {
        (FailureClass::Rejected, "the request cannot be built")
    } else if error.is_connect() && error.is_timeout() {
        (FailureClass::Connect, "not connected in time")
    } else if error.is_connect() {
        (FailureClass::Connect, "cannot connect")
    } else if is_unreadable_head(&error) {
        (FailureClass::ServerError, "the response head cannot be read")
    } else {
        (FailureClass::Connect, "the connection was closed before a response")
    };
    Failure::new(class, detail).caused_by(error)
}

/// Bytes came that are no HTTP: the server answered, so it is not `connect`.
fn is_unreadable_head(error: &reqwest::Error) -> bool {
    cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
}

fn cause<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
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
    let (body, _) = read_body(response, Failure::MAX_BODY, until).await;
    let error = UpstreamError::read(&body);
    let class = classify(target.peer, status, &headers, &error);
    let body = screen.error_body(body, status, &mut headers);
    let mut failure = Failure::new(class, "the upstream answered with an error")
        .with_head(status, &headers)
        .with_body(body)
        .meaning(error.meaning);
    failure.retry_after = retry_after(&headers, SystemTime::now());
    failure
}

async fn whole(
    target: &Target,
    response: reqwest::Response,
    headers: HeaderMap,
    until: Instant,
    screen: &Screen,
) -> Result<WholeAnswer, Failure> {
    let status = response.status();
    let fail = |class, detail: &str| Failure::new(class, detail).with_head(status, &headers);
    let (body, end) = read_body(response, WholeAnswer::MAX_BODY, until).await;
    match end {
        BodyEnd::Complete => {}
        BodyEnd::Cut(error) => {
            return Err(fail(FailureClass::ServerError, "the answer was cut").caused_by(error));
        }
        BodyEnd::TooLate => {
            let detail = format!("no whole answer within {:?}", target.timeouts.answer);
            return Err(fail(FailureClass::NoResponse, &detail));
        }
        BodyEnd::TooLarge => {
            let detail = format!("the answer is larger than {} bytes", WholeAnswer::MAX_BODY);
            return Err(fail(FailureClass::Rejected, &detail));
        }
    }
    let body = screen.text(body);
    match Whole::read(&body) {
        Some(Whole { error: Some(error), .. }) => {
            let class = classify_in_band(target.peer, &error);
            Err(fail(class, "the upstream reported an error inside the answer")
                .with_body(bounded(body))
                .meaning(error.meaning))
        }
        Some(Whole { model, usage, error: None }) => Ok(WholeAnswer { status, headers, body, usage, model }),
        None => Err(fail(FailureClass::ServerError, "the answer cannot be read")),
    }
}

/// Reads events up to the first one with content, so that failing over until then is silent.
async fn hold(
    target: &Target,
    mut reader: Reader,
    status: StatusCode,
    headers: HeaderMap,
) -> Result<StreamAnswer, Failure> {
    let until = after(Instant::now(), target.timeouts.first_token);
    let (mut held, mut events, mut bytes) = (Vec::new(), 0_usize, 0_usize);
    let held_until = loop {
        let event = match timeout_at(until, reader.next(None)).await {
            Ok(Ok(Some(event))) => event,
            // Only `[DONE]` or a finish reason completes a stream, and both have ended the loop.
            Ok(Ok(None)) => break Held::Done,
            Ok(Err(broken)) => {
                return Err(before_content(target.peer, broken).with_head(status, &headers));
            }
            Err(_) => {
                let detail = format!("no content within {:?}", target.timeouts.first_token);
                return Err(Failure::new(FailureClass::NoFirstToken, detail).with_head(status, &headers));
            }
        };
        let kind = event.chunk.kind.clone();
        bytes = bytes.saturating_add(event.frame.raw.len());
        events = events.saturating_add(usize::from(kind != Kind::Silent));
        held.push(event);
        match kind {
            Kind::Content => break Held::Content,
            Kind::Done => break Held::Done,
            _ if events > MAX_HELD_EVENTS || bytes > MAX_HELD_BYTES => break Held::Overflow,
            _ => {}
        }
    };
    let idle = target.timeouts.idle;
    let failure_head = headers.clone();
    let rest = stream::unfold(Some((reader, failure_head)), move |state| async move {
        let (mut reader, headers) = state?;
        match reader.next(Some(idle)).await {
            Ok(Some(event)) => Some((Ok(event), Some((reader, headers)))),
            Ok(None) => None,
            Err(broken) => Some((Err(after_content(broken).with_head(status, &headers)), None)),
        }
    });
    Ok(StreamAnswer { status, headers, held_until, held, rest: Events(rest.boxed()) })
}

fn before_content(peer: Peer, broken: Break) -> Failure {
    let class = match &broken {
        Break::InBand(error, _) => classify_in_band(peer, error),
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

/// What arrives of a body until a bound of size or time, and how it ended.
async fn read_body(mut response: reqwest::Response, max: usize, until: Instant) -> (Bytes, BodyEnd) {
    let mut body = BytesMut::new();
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
fn after(begun: Instant, bound: Duration) -> Instant {
    begun.checked_add(bound).unwrap_or_else(|| begun + Duration::from_secs(365 * 24 * 60 * 60))
}

fn bounded(mut body: Bytes) -> Bytes {
    body.truncate(Failure::MAX_BODY);
    body
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The upstream's headers that may be handed on: not those of its connection (RFC 9110, section 7.6.1), not the
/// length, which the server in front writes itself, and of a provider neither cookies nor words that are ours.
fn incoming(headers: &HeaderMap, peer: Peer, screen: &Screen) -> HeaderMap {
    let named_by_connection: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let hop_by_hop = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "connection"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "content-length"
        ) || named_by_connection.contains(name)
    };
    let not_theirs = |name: &HeaderName| {
        peer == Peer::Provider && (name.as_str().starts_with("mcpctl-") || *name == header::SET_COOKIE)
    };
    headers
        .iter()
        .filter(|(name, value)| !hop_by_hop(name) && !not_theirs(name) && screen.may_pass(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
