//! The probe: may this caller see this Llm now? One HEAD request with the caller's own bearer.
//!
//! Bounds of docs/reference/contract.md: no redirects, no proxies of the environment, 300 ms to connect, 1 s in all, never cached, a
//! response head of at most 16 KiB. Each probe has a connection of its own, which is closed after it, so that the probe sees
//! all that the server sends: a response that is malformed, or that mcpd would not send, is an error ([`shape`]). That keeps
//! portals and wrong addresses from passing for mcpd. It proves nothing: a program at mcpd's address can imitate mcpd. What proves
//! who answered is the signature of mcpd's pinned key over the nonce of this one probe ([`judge`]).

mod judge;
mod shape;

use std::{
    fmt,
    pin::Pin,
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
use mcpctl_access::proof::{BearerHash, ProofQuestion, PublicKey};
use mcpctl_api::{
    Id,
    header::{AGENT, PROBE_NONCE},
};
use mcpctl_failover::{Access, AccessProbe, ProbeAnswer, ProbeError, ProbeRequest};
use mcpctl_trace::{Span, attribute};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};
use url::Url;

use crate::{
    dial::{DialError, Dialer},
    error::{ClientError, one_line, reason},
    pins::OtherKeys,
    trust::Trust,
};

/// How long the probe waits after the response for the server to close the connection, or to send a body that HEAD forbids.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Asks one mcpd whether a caller may use an Llm.
#[derive(Debug, Clone)]
pub struct Probe {
    server: Url,
    dialer: Dialer,
    agent: Option<ProbingAgent>,
}

/// The agent that probes.
#[derive(Debug, Clone)]
struct ProbingAgent {
    id: Id,
    keys: Arc<dyn ProofKeys>,
}

/// The keys of mcpd that answers have to be signed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinnedKeys {
    /// None is pinned: answers count by their status.
    None,
    /// One of these, the current one first.
    Keys(Vec<PublicKey>),
    /// They cannot be read, for this reason: no answer counts.
    Unreadable(String),
}

/// Where the pinned keys are kept.
pub trait ProofKeys: fmt::Debug + Send + Sync {
    /// The keys that are pinned now.
    fn pinned(&self) -> Pin<Box<dyn Future<Output = PinnedKeys> + Send + '_>>;

    /// An answer was signed by another key than the first one: mcpd's keys were rotated, or the answer is not mcpd's.
    fn rotated(&self);

    /// An answer was judged by these keys: `None` where it is verified, else why it counts for nothing.
    fn judged(&self, failure: Option<&ProbeError>);
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
        Self::trusting(server, &Trust::default())
    }

    /// As [`Probe::new`], of a server that proves itself by this.
    ///
    /// # Errors
    /// As [`Probe::new`].
    pub fn trusting(server: Url, trust: &Trust) -> Result<Self, ClientError> {
        let dialer = Dialer::new(&server, trust, Self::CONNECT_TIMEOUT)?;
        Ok(Self { server, dialer, agent: None })
    }

    /// Asks for signed answers as the agent with this id, and goes by them where keys are pinned.
    #[must_use]
    pub fn of_agent(self, id: Id, keys: Arc<dyn ProofKeys>) -> Self {
        Self { agent: Some(ProbingAgent { id, keys }), ..self }
    }

    /// What this probe asks; `None` where no proof is asked for.
    fn question(&self, asked: &ProbeRequest) -> Result<Option<ProofQuestion>, ProbeError> {
        let Some(agent) = &self.agent else { return Ok(None) };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| ProbeError(format!("there is no nonce: {error}")))?;
        Ok(Some(ProofQuestion {
            nonce: nonce.into(),
            agent: agent.id.clone(),
            bearer: Some(BearerHash::of(asked.bearer.expose())),
            asked: asked.llm.clone(),
        }))
    }

    fn request(
        &self,
        asked: &ProbeRequest,
        question: Option<&ProofQuestion>,
    ) -> Result<(Uri, Request<Empty<Bytes>>), ProbeError> {
        let failed = |error: http::Error| ProbeError(format!("the request of the probe: {error}"));
        let base = self.server.as_str().trim_end_matches('/');
        let uri: Uri = format!("{base}{}", asked.path())
            .parse()
            .map_err(|error: http::uri::InvalidUri| failed(error.into()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", asked.bearer.expose()))
            .map_err(|_| ProbeError("the credential cannot be sent".to_owned()))?;
        bearer.set_sensitive(true);
        let request = Request::builder();
        let request = question.into_iter().fold(request, |request, question| {
            request.header(PROBE_NONCE, question.nonce.to_string()).header(AGENT, question.agent.as_str())
        });
        let request = request
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

    async fn ask(&self, asked: &ProbeRequest, span: &Span) -> Result<ProbeAnswer, ProbeError> {
        // Before the request is sent, so that keys that cannot be read keep the bearer here.
        let pinned = match &self.agent {
            Some(agent) => agent.keys.pinned().await,
            None => PinnedKeys::None,
        };
        if let PinnedKeys::Unreadable(reason) = pinned {
            return Err(ProbeError(format!("the pinned keys of mcpd cannot be read: {reason}")));
        }
        let question = self.question(asked)?;
        let head = self.head(asked, question.as_ref(), span).await?;
        span.count(attribute::HTTP_STATUS, u64::from(head.status.as_u16()));
        match (pinned, &question, &self.agent) {
            (PinnedKeys::Keys(keys), Some(question), Some(agent)) => {
                let judged = judge::by_keys(&keys, question, head.status, &head.headers);
                if judged.rotated {
                    agent.keys.rotated();
                }
                let answer = if judged.by_other_key {
                    let hint = OtherKeys::hint(&self.server);
                    Err(ProbeError(format!("mcpd signs with a key that is not pinned: {hint}")))
                } else {
                    judged.answer
                };
                agent.keys.judged(answer.as_ref().err());
                answer
            }
            _ => judge::by_status(question.as_ref(), head.status, &head.headers),
        }
    }

    /// Sends the request and returns the head of a response that may be mcpd's.
    async fn head(
        &self,
        asked: &ProbeRequest,
        question: Option<&ProofQuestion>,
        span: &Span,
    ) -> Result<Head, ProbeError> {
        let (uri, mut request) = self.request(asked, question)?;
        if let Some(position) = span.traceparent() {
            position.write(request.headers_mut(), true);
        }
        let interim = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&interim);
        hyper::ext::on_informational(&mut request, move |_| seen.store(true, Ordering::Release));

        let stream = self.dialer.connect(uri).await.map_err(|error| match error {
            DialError::TooLate => late(),
            DialError::Refused(reason) | DialError::Failed(reason) => ProbeError(reason),
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
        Ok(head)
    }
}

impl AccessProbe for Probe {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeAnswer, ProbeError> {
        let span = Span::client(|| "HEAD /api/v1/llms/{idOrName}".into());
        let asking = timeout(Self::TIMEOUT, self.ask(request, &span));
        let answer = asking.await.unwrap_or_else(|_| Err(late()));
        span.set(attribute::HTTP_METHOD, ProbeRequest::METHOD);
        let access = match &answer {
            Ok(ProbeAnswer::Allowed { .. }) => Access::Allowed,
            Ok(ProbeAnswer::Forbidden(_)) => Access::Forbidden,
            Err(_) => Access::Unreachable,
        };
        span.set(attribute::ACCESS, access.as_str());
        if access == Access::Unreachable {
            span.fail(access.as_str());
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
