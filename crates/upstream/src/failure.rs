//! Why an attempt gave no answer: its class, and everything the caller may have to be shown unchanged.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::openai::meaning::Meaning;
use mcpctl_failover::FailureClass;

use crate::RefusedAddress;

/// A failed attempt, or a stream that broke.
///
/// Its `Display` and `Debug` are for logs: class, status and what happened, never a body, a key or a URL.
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
        self.body = body;
        self
    }

    pub(crate) fn meaning(mut self, meaning: Option<Meaning>) -> Self {
        self.quota_used_up = meaning == Some(Meaning::QuotaUsedUp);
        self
    }

    pub(crate) fn no_client(error: reqwest::Error) -> Self {
        Self::new(FailureClass::Connect, "the HTTP client cannot be built").caused_by(error)
    }

    /// Of the same class as a closed port, so that a caller learns nothing of what is behind an address.
    pub(crate) fn refused_address(error: RefusedAddress) -> Self {
        Self::new(FailureClass::Connect, error.to_string())
    }

    /// What happened, in a few words without anything of the request or the answer.
    pub fn detail(&self) -> &str {
        &self.detail
    }
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
