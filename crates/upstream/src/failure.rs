//! Why an attempt gave no answer: the class of the failure, and what the caller gets of the upstream's error.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::meaning::ErrorMeaning;
use mcpctl_failover::FailureClass;
use mcpctl_tls::TlsProblem;

use crate::{
    AttemptTimeout, RefusedAddress,
    connect_error::{BoxError, LookupError, SendError, find, tls_problem},
};

/// A failed attempt, or a stream that broke.
///
/// Its `Display` and `Debug` are for logs: they contain class, status, host and cause, never a body, a key or a whole URL.
pub struct Failure {
    /// The class, which decides on retries and failover.
    pub class: FailureClass,
    /// The upstream's status, where a response head arrived.
    pub status: Option<StatusCode>,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: Box<HeaderMap>,
    /// The first [`Failure::MAX_BODY`] bytes of the upstream's error body, or of the data of an error event.
    pub body: Bytes,
    /// How long to wait before the next attempt, as the upstream requests.
    pub retry_after: Option<Duration>,
    /// Whether the account's quota is used up, so that a retry is of no use.
    pub quota_used_up: bool,
    /// The timeout that expired, if one did.
    pub timeout: Option<Box<AttemptTimeout>>,
    /// Where the upstream redirects to, without query and credentials. Requests are never sent there.
    pub redirect: Option<Box<str>>,
    before_content: Option<FailureClass>,
    stale: bool,
    for_logs_alone: bool,
    names_stream_options: bool,
    detail: Box<str>,
    source: Option<BoxError>,
}

impl Failure {
    /// The limit of an error body, in bytes. A primary's error is passed on whole, and real ones have a few KiB.
    pub const MAX_BODY: usize = 1024 * 1024;

    /// A failure without a response. `detail` is for logs, so it must contain nothing of the request or the answer.
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
            before_content: None,
            stale: false,
            for_logs_alone: false,
            names_stream_options: false,
            detail: detail.into(),
            source: None,
        }
    }

    /// Adds the cause.
    pub(crate) fn caused_by(mut self, error: impl Into<BoxError>) -> Self {
        self.source = Some(error.into());
        self
    }

    pub(crate) fn with_head(mut self, status: StatusCode, headers: &HeaderMap) -> Self {
        self.status = Some(status);
        self.headers = Box::new(headers.clone());
        self
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self = self.with_original_body(&body);
        self.body = body;
        self
    }

    pub(crate) fn meaning(mut self, meaning: Option<ErrorMeaning>) -> Self {
        self.quota_used_up = meaning == Some(ErrorMeaning::QuotaUsedUp);
        self
    }

    /// A failure because a timeout expired; `waited_for` names what did not arrive.
    pub fn timed_out(class: FailureClass, waited_for: &str, timeout: AttemptTimeout) -> Self {
        let mut failure = Self::new(class, format!("{waited_for} within {timeout}"));
        failure.timeout = Some(Box::new(timeout));
        failure
    }

    /// Notes what the unredacted error body contains.
    pub(crate) fn with_original_body(mut self, body: &[u8]) -> Self {
        self.names_stream_options |= names_stream_options(body);
        self
    }

    /// Whether the upstream may have rejected the request for its `stream_options`, which servers that check fields strictly do.
    pub fn refuses_stream_options(&self) -> bool {
        self.names_stream_options && matches!(self.class, FailureClass::Rejected | FailureClass::ServerError)
    }

    /// Notes the class that the cause of a broken stream has before the first content.
    pub(crate) fn caused_as(mut self, class: FailureClass) -> Self {
        self.before_content = Some(class);
        self
    }

    /// Whether another attempt may answer in place of a stream that broke: not where the request or its content caused it.
    pub fn may_resume(&self) -> bool {
        // An mcpd reports the break of its own provider's stream under the same class.
        let by_upstream =
            |class: FailureClass| class == FailureClass::BrokenStream || class.may_fail_over(&[]);
        self.class == FailureClass::BrokenStream && self.before_content.is_none_or(by_upstream)
    }

    /// Whether mcpd ended a stream because its caller may not have the answer any more.
    pub fn is_denial(&self) -> bool {
        self.before_content == Some(FailureClass::Denied)
    }

    pub(crate) fn on_stale_connection(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Whether a reused connection failed before the first byte of an answer. Servers close idle connections, so this is no sign
    /// of a failing server. The next attempt gets a new connection.
    pub fn is_stale_connection(&self) -> bool {
        self.stale
    }

    /// A failure of the same class as a closed port, so that a caller cannot find out what is behind an address.
    pub(crate) fn refused_address(error: RefusedAddress) -> Self {
        let mut failure = Self::new(FailureClass::Connect, error.to_string());
        failure.for_logs_alone = true;
        failure
    }

    /// Whether [`Failure::detail`] is for logs only: people who choose addresses must not learn which ones are denied.
    pub fn is_for_logs_alone(&self) -> bool {
        self.for_logs_alone
    }

    /// Whether the host's name could not be looked up.
    pub fn is_lookup(&self) -> bool {
        self.send_error().is_some_and(|error| find::<LookupError>(error).is_some())
    }

    /// What was wrong with TLS, where that failed.
    pub fn tls_problem(&self) -> Option<TlsProblem> {
        tls_problem(self.send_error()?)
    }

    fn send_error(&self) -> Option<&SendError> {
        self.source.as_deref()?.downcast_ref()
    }

    /// A short description that contains nothing of the request or the answer; it may name the host.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// Whether a text names `stream_options` in any spelling (`streamOptions`, `StreamOptions`), or the field inside it.
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
