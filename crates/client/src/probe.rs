//! The probe: may this caller see this Llm now? One HEAD request with the caller's own bearer.
//!
//! Bounds of docs/contract.md: no redirects, no proxies of the environment, 300 ms to connect, 1 s in all, never cached, a
//! response head of at most 16 KiB. Each probe has a connection of its own, which is closed after it, so that the probe sees
//! all that the server sends: a response that is malformed, or that mcpd would not send, is an error ([`shape`]). That keeps
//! portals and wrong addresses from passing for mcpd. It proves nothing: a program at mcpd's address can imitate mcpd; only
//! TLS prevents that.

mod shape;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONNECTION, HOST},
    response::Parts as Head,
};
use http_body_util::Empty;
use hyper::client::conn::http1::{Builder, Parts};
use hyper_util::rt::TokioIo;
use mcpctl_failover::{Access, AccessProbe, ProbeError, ProbeRequest};
use mcpctl_owner::TrustedUsers;
use mcpctl_trace::{Span, attribute};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};
use url::Url;

use crate::{
    dial::{DialError, Dialer},
    error::{ClientError, one_line, reason},
};

/// How long the probe waits after the response for the server to close the connection, or to send a body that HEAD forbids.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Asks one mcpd whether a caller may view an Llm.
#[derive(Debug, Clone)]
pub struct Probe {
    server: Url,
    dialer: Dialer,
}

impl Probe {
    /// Until the connection is established.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
    /// Until the response is complete.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// Maximum length of a response head, in bytes.
    pub const MAX_HEAD_BYTES: usize = 16 * 1024;

    /// A probe of the mcpd at this address.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn new(server: Url) -> Result<Self, ClientError> {
        Self::trusting(server, TrustedUsers::default())
    }

    /// As [`Probe::new`]; over plain http the server must be a program of one of these users.
    ///
    /// # Errors
    /// As [`Probe::new`].
    pub fn trusting(server: Url, trusted: TrustedUsers) -> Result<Self, ClientError> {
        let dialer = Dialer::new(&server, trusted, Self::CONNECT_TIMEOUT)?;
        Ok(Self { server, dialer })
    }

    fn request(&self, asked: &ProbeRequest) -> Result<(Uri, Request<Empty<Bytes>>), ProbeError> {
        let failed = |error: http::Error| ProbeError(format!("the request of the probe: {error}"));
        let base = self.server.as_str().trim_end_matches('/');
        let uri: Uri = format!("{base}{}", asked.path())
            .parse()
            .map_err(|error: http::uri::InvalidUri| failed(error.into()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", asked.bearer.expose()))
            .map_err(|_| ProbeError("the credential cannot be sent".to_owned()))?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(Method::HEAD)
            .uri(uri.path())
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header(CACHE_CONTROL, "no-store")
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(failed)?;
        Ok((uri, request))
    }

    async fn ask(&self, asked: &ProbeRequest, span: &Span) -> Result<u16, ProbeError> {
        let (uri, mut request) = self.request(asked)?;
        if let Some(position) = span.traceparent() {
            position.write(request.headers_mut(), true);
        }
        let interim = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |_| seen.store(true, Ordering::Release));

        let stream = self.dialer.connect(uri).await.map_err(|error| match error {
            DialError::TooLate => late(),
            DialError::Failed(reason) => ProbeError(reason),
        })?;
        let mut builder = Builder::new();
        let handshake = builder.max_buf_size(Self::MAX_HEAD_BYTES).handshake(stream);
        let (mut sender, connection) = handshake.await.map_err(|error| no_response(&error))?;
        let answering = async move { sender.send_request(request).await };
        let (answer, ended) = tokio::join!(answering, connection.without_shutdown());
        let head = answer.map_err(|error| no_response(&error))?.into_parts().0;

        if interim.load(Ordering::Acquire) {
            return Err(shape::not_mcpd("an interim answer came first"));
        }
        shape::check(&head)?;
        // A connection that failed after the head was read has nothing left to check.
        if let Ok(Parts { io, read_buf, .. }) = ended {
            nothing_follows(&head, &read_buf, TokioIo::new(io)).await?;
        }
        Ok(head.status.as_u16())
    }
}

impl AccessProbe for Probe {
    async fn head(&self, request: &ProbeRequest) -> Result<u16, ProbeError> {
        let span = Span::client(|| "HEAD /api/v1/llms/{idOrName}".into());
        let asking = timeout(Self::TIMEOUT, self.ask(request, &span));
        let answer = asking.await.unwrap_or_else(|_| Err(late()));
        span.set(attribute::HTTP_METHOD, ProbeRequest::METHOD);
        match &answer {
            Ok(status) => {
                span.count(attribute::HTTP_STATUS, u64::from(*status));
                span.set(attribute::ACCESS, Access::from_status(*status).as_str());
            }
            Err(_) => {
                span.set(attribute::ACCESS, Access::Unreachable.as_str());
                span.fail(Access::Unreachable.as_str());
            }
        }
        span.end();
        answer
    }
}

fn late() -> ProbeError {
    ProbeError("no answer in time".to_owned())
}

fn no_response(error: &(dyn std::error::Error + 'static)) -> ProbeError {
    ProbeError(one_line(&reason(error)))
}

/// A response to HEAD has no body (RFC 9110, section 9.3.2), and after `connection: close` no other response follows.
async fn nothing_follows(
    head: &Head,
    already: &[u8],
    mut connection: impl AsyncRead + Unpin,
) -> Result<(), ProbeError> {
    let more = if already.is_empty() {
        // Nothing follows on a connection that is reset, or open and silent, either.
        matches!(timeout(CLOSE_TIMEOUT, connection.read(&mut [0])).await, Ok(Ok(1..)))
    } else {
        true
    };
    match more {
        true => Err(shape::not_mcpd(&format!(
            "something follows its answer with status {}",
            head.status.as_u16()
        ))),
        false => Ok(()),
    }
}
