//! Follows `GET /api/v1/feed`: what mcpd shows of a caller's access while the agent answers for that caller.
//!
//! The connection has the rules of the probe's: nothing is shared with inference, no proxy of the environment, no redirect is
//! followed, and over plain HTTP a trusted user must hold the other end before the bearer is sent.

use std::{
    collections::BTreeSet,
    future::{Future as _, poll_fn},
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST},
};
use http_body_util::Empty;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::{Builder, Connection},
};
use mcpctl_api::feed::{FeedEnded, FeedHeartbeat, FeedState};
use mcpctl_dialect::sse::{Decoder, Frame};
use mcpctl_failover::Bearer;
use tokio::time::timeout;
use url::Url;

use crate::{
    dial::{DialError, Dialer, Stream},
    error::{ClientError, one_line, reason},
    trust::Trust,
};

/// Follows feeds of one mcpd.
#[derive(Debug, Clone)]
pub struct FeedClient {
    server: Url,
    dialer: Dialer,
}

/// Why there is no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// mcpd does not accept the credential.
    #[error("mcpd does not accept the credential")]
    Denied,
    /// There are too many feeds.
    #[error("mcpd has too many feeds")]
    TooMany,
    /// Another answer, none, or one that cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// An event of a feed.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedEvent {
    /// What the caller may do.
    State(FeedState),
    /// That it holds still.
    Heartbeat(FeedHeartbeat),
    /// That the credential is not valid any more.
    Ended(FeedEnded),
}

/// What moves the bytes of a feed; kept apart from its body.
type FeedConnection = Pin<Box<Connection<Stream, Empty<Bytes>>>>;

/// A feed that is open.
pub struct FeedStream {
    /// When it was asked for; `asOf` of its events counts from a moment after this.
    pub asked_at: Instant,
    connection: Option<FeedConnection>,
    body: Incoming,
    decoder: Decoder,
}

impl FeedClient {
    /// Until the connection is established, and from then until the response's head.
    pub const TIMEOUT: Duration = Duration::from_secs(3);
    /// Maximum length of a response head, in bytes.
    const MAX_HEAD_BYTES: usize = 16 * 1024;
    /// Maximum length of an event, in bytes: 64 Llms have less than 8 KiB.
    const MAX_EVENT_BYTES: usize = 32 * 1024;

    /// Feeds of the mcpd at this address, where it is the right one.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn trusting(server: Url, trust: &Trust) -> Result<Self, ClientError> {
        let dialer = Dialer::new(&server, trust, Self::TIMEOUT)?;
        Ok(Self { server, dialer })
    }

    /// Opens a feed about these Llms, by names or ids.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(&self, bearer: &Bearer, llms: &BTreeSet<String>) -> Result<FeedStream, FeedError> {
        let (uri, request) = self.request(bearer, llms)?;
        let asked_at = Instant::now();
        let stream = self.dialer.connect(uri).await.map_err(|error| match error {
            DialError::TooLate => late(),
            DialError::Refused(reason) | DialError::Failed(reason) => FeedError::Failed(reason),
        })?;
        let asking = async {
            let mut builder = Builder::new();
            let handshake = builder.max_buf_size(Self::MAX_HEAD_BYTES).handshake(stream);
            let (mut sender, connection) = handshake.await.map_err(|error| failed(&error))?;
            let mut connection = Box::pin(connection);
            let mut connection_ended = false;
            let mut answering = Box::pin(sender.send_request(request));
            let answer = poll_fn(|context| {
                if !connection_ended {
                    connection_ended = connection.as_mut().poll(context).is_ready();
                }
                answering.as_mut().poll(context)
            });
            let answer = answer.await.map_err(|error| failed(&error))?;
            Ok((answer, (!connection_ended).then_some(connection)))
        };
        let (answer, connection) = timeout(Self::TIMEOUT, asking).await.map_err(|_| late())??;
        let (head, body) = answer.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        match head.status {
            StatusCode::OK if kind.starts_with(b"text/event-stream") => {
                let decoder = Decoder::new(Self::MAX_EVENT_BYTES);
                Ok(FeedStream { asked_at, connection, body, decoder })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(FeedError::Denied),
            StatusCode::TOO_MANY_REQUESTS => Err(FeedError::TooMany),
            status => {
                Err(FeedError::Failed(format!("the answer to the feed has status {}", status.as_u16())))
            }
        }
    }

    fn request(
        &self,
        bearer: &Bearer,
        llms: &BTreeSet<String>,
    ) -> Result<(Uri, Request<Empty<Bytes>>), FeedError> {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1", "feed"]);
        }
        // Names have no comma.
        let llms = llms.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        url.query_pairs_mut().append_pair("llms", &llms);
        let uri: Uri = url.as_str().parse().map_err(|error| failed(&error))?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()));
        let mut bearer = bearer.map_err(|_| FeedError::Failed("the credential cannot be sent".to_owned()))?;
        bearer.set_sensitive(true);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::get(target)
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "text/event-stream")
            .header(CACHE_CONTROL, "no-store")
            .body(Empty::new())
            .map_err(|error| failed(&error))?;
        Ok((uri, request))
    }
}

impl FeedStream {
    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or an event cannot be read.
    pub async fn next(&mut self) -> Result<Option<FeedEvent>, FeedError> {
        loop {
            while let Some(frame) = self.decoder.next_frame().map_err(|error| failed(&error))? {
                if let Some(event) = event(&frame)? {
                    return Ok(Some(event));
                }
            }
            match self.bytes().await {
                Some(Ok(bytes)) => self.decoder.push(&bytes),
                Some(Err(error)) => return Err(failed(&error)),
                None => return Ok(None),
            }
        }
    }

    async fn bytes(&mut self) -> Option<hyper::Result<Bytes>> {
        poll_fn(|context| {
            if let Some(connection) = &mut self.connection
                && connection.as_mut().poll(context).is_ready()
            {
                self.connection = None;
            }
            loop {
                match Pin::new(&mut self.body).poll_frame(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(frame))) => {
                        // Trailers are skipped.
                        if let Ok(bytes) = frame.into_data() {
                            return Poll::Ready(Some(Ok(bytes)));
                        }
                    }
                }
            }
        })
        .await
    }
}

/// The event of a frame; none where it is a comment, or of a kind that this version does not know.
fn event(frame: &Frame) -> Result<Option<FeedEvent>, FeedError> {
    let (Some(kind), Some(data)) = (&frame.event, &frame.data) else { return Ok(None) };
    let event = match &**kind {
        b"state" => serde_json::from_slice(data).map(FeedEvent::State),
        b"heartbeat" => serde_json::from_slice(data).map(FeedEvent::Heartbeat),
        b"ended" => serde_json::from_slice(data).map(FeedEvent::Ended),
        _ => return Ok(None),
    };
    event.map(Some).map_err(|error| failed(&error))
}

fn late() -> FeedError {
    FeedError::Failed("no answer in time".to_owned())
}

fn failed(error: &(dyn std::error::Error + 'static)) -> FeedError {
    FeedError::Failed(one_line(&reason(error)))
}
