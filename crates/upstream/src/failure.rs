//! Why an attempt gave no answer: its class, and everything the caller may have to be shown unchanged.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::openai::meaning::ErrorMeaning;
use mcpctl_failover::FailureClass;

use crate::{AttemptTimeout, RefusedAddress};

/// A failed attempt, or a stream that broke.
///
/// Its `Display` and `Debug` are for logs: class, status, host and what happened, never a body, a key or a whole URL.
pub struct Failure {
    /// What may be done about it.
    pub class: FailureClass,
    /// The upstream's status, where a response head arrived.
    pub status: Option<StatusCode>,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: Box<HeaderMap>,
    /// The upstream's error body, or the data of the error event inside a stream; at most
    /// [`Failure::MAX_BODY`] bytes of it.
    pub body: Bytes,
    /// How long the upstream asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the account's quota is used up, so that asking again is of no use.
    pub quota_used_up: bool,
    /// The bound that passed, where it was one.
    pub timeout: Option<Box<AttemptTimeout>>,
    /// Where the upstream sends its callers, without query and credentials; requests never go there.
    pub redirect: Option<Box<str>>,
    stale: bool,
    for_logs_alone: bool,
    names_stream_options: bool,
    detail: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// The bound of an error body, in bytes: a primary's error is handed on whole, and real ones have a few KiB.
    pub const MAX_BODY: usize = 1024 * 1024;

    /// A failure without a response; `detail` is for logs, so it holds nothing of request or answer.
    pub fn new(class: FailureClass, detail: impl Into<Box<str>>) -> Self {
        Self {
            class,
            status: None,
            headers: Box::default(),
            body: Bytes::new(),
            retry_after: None,
            quota_used_up: false,
            timeout: None,
            redirect: None,
            stale: false,
            for_logs_alone: false,
            names_stream_options: false,
            detail: detail.into(),
            source: None,
        }
    }

    /// Adds the cause; the client's errors show their URL unless it is taken from them.
    pub(crate) fn caused_by(mut self, error: reqwest::Error) -> Self {
        self.source = Some(Box::new(error.without_url()));
        self
    }

    pub(crate) fn with_head(mut self, status: StatusCode, headers: &HeaderMap) -> Self {
        self.status = Some(status);
        self.headers = Box::new(headers.clone());
        self
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self = self.in_words(&body);
        self.body = body;
        self
    }

    pub(crate) fn meaning(mut self, meaning: Option<ErrorMeaning>) -> Self {
        self.quota_used_up = meaning == Some(ErrorMeaning::QuotaUsedUp);
        self
    }

    /// A bound passed while nothing came: `waited_for` says what of.
    pub fn timed_out(class: FailureClass, waited_for: &str, timeout: AttemptTimeout) -> Self {
        let mut failure = Self::new(class, format!("{waited_for} within {timeout}"));
        failure.timeout = Some(Box::new(timeout));
        failure
    }

    /// What the upstream wrote, before anything is hidden of it.
    pub(crate) fn in_words(mut self, words: &[u8]) -> Self {
        self.names_stream_options |= names_stream_options(words);
        self
    }

    /// Whether the upstream may have refused the request for its `stream_options`: many servers check requests strictly.
    pub fn refuses_stream_options(&self) -> bool {
        self.names_stream_options && matches!(self.class, FailureClass::Rejected | FailureClass::ServerError)
    }

    pub(crate) fn on_stale_connection(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Whether a connection that had been used before failed without a byte of an answer: servers close idle ones, so that
    /// this says nothing about the server. The next attempt gets a new connection.
    pub fn is_stale_connection(&self) -> bool {
        self.stale
    }

    pub(crate) fn no_client(error: reqwest::Error) -> Self {
        Self::new(FailureClass::Connect, "the HTTP client cannot be built").caused_by(error)
    }

    /// Of the same class as a closed port, so that a caller learns nothing of what is behind an address.
    pub(crate) fn refused_address(error: RefusedAddress) -> Self {
        let mut failure = Self::new(FailureClass::Connect, error.to_string());
        failure.for_logs_alone = true;
        failure
    }

    /// Whether what happened is for logs alone: which addresses are refused is not for those who choose them.
    pub fn is_for_logs_alone(&self) -> bool {
        self.for_logs_alone
    }

    /// What happened, in a few words without anything of the request or the answer; it may name the host.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// In whatever way it is spelt: `stream_options`, `streamOptions`, `StreamOptions`, or by the field inside.
fn names_stream_options(words: &[u8]) -> bool {
    let letters: Vec<u8> =
        words.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
    [&b"streamoptions"[..], b"includeusage"]
        .iter()
        .any(|name| letters.windows(name.len()).any(|window| window == *name))
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.class, self.detail)?;
        match self.status {
            Some(status) if !status.is_success() => write!(formatter, " (status {})", status.as_u16()),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Failure")
            .field("class", &self.class)
            .field("status", &self.status)
            .field("detail", &self.detail)
            .field("body_bytes", &self.body.len())
            .field("retry_after", &self.retry_after)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl mcpctl_failover::Classified for Failure {
    fn class(&self) -> FailureClass {
        self.class
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
