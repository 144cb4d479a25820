//! Describes why a request got no response head, for the person who can change the address: the host, and whether the cause was
//! DNS, the connection, TLS, a timeout, or a connection that was closed.

use std::{error::Error, fmt, io};

use mcpctl_api::visible;
use mcpctl_tls::TlsProblem;

use crate::TargetConfig;

/// Longest reason, in bytes. TLS errors repeat what the other side sent.
const MAX_REASON_BYTES: usize = 200;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request got no response, or a response no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the request cannot be built")]
    Request(#[source] BoxError),
    #[error("no connection")]
    Connect(#[source] BoxError),
    #[error("no connection in time")]
    ConnectTimeout,
    #[error("the connection failed")]
    Exchange(#[source] hyper::Error),
    #[error("the body cannot be decompressed")]
    Body(#[source] BoxError),
}

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("DNS lookup failed: {0}")]
pub(crate) struct LookupError(#[from] pub(crate) io::Error);

/// Displays where a target listens: `host:port`, or the path of a socket.
pub(crate) struct HostPort<'a>(pub(crate) &'a TargetConfig);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TargetConfig { base_url, socket, .. } = self.0;
        if let Some(socket) = socket {
            return write!(f, "`{}`", socket.display());
        }
        let host = base_url.host_str().unwrap_or_default();
        match base_url.port_or_known_default() {
            Some(port) => write!(f, "`{host}:{port}`"),
            None => write!(f, "`{host}`"),
        }
    }
}

/// The cause, without the host.
pub(crate) fn reason(error: &SendError) -> String {
    let reason = if let Some(lookup) = find::<LookupError>(error) {
        lookup.to_string()
    } else if let Some(tls) = tls_problem(error) {
        tls.reason
    } else if let Some(io) = chain(error).filter_map(as_system_error).last() {
        words(io)
    } else if find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message) {
        "it closed the connection without an answer".to_owned()
    } else {
        chain(error).last().map_or_else(|| error.to_string(), ToString::to_string)
    };
    visible::short(&reason, MAX_REASON_BYTES)
}

/// What was wrong with TLS; `None` where something else failed.
pub(crate) fn tls_problem(error: &SendError) -> Option<TlsProblem> {
    let found = find::<rustls::Error>(error).map(TlsProblem::of);
    found.or_else(|| find::<io::Error>(error).and_then(TlsProblem::of_words))
}

/// Whether a connector gave up waiting for an address.
pub(crate) fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut errors = chain(error).filter_map(|error| error.downcast_ref::<io::Error>());
    errors.any(|io| io.kind() == io::ErrorKind::TimedOut && io.raw_os_error().is_none())
}

/// An error of the operating system. An I/O error that only wraps another error is skipped.
fn as_system_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref::<io::Error>().filter(|io| io.get_ref().is_none())
}

fn words(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    // The names of kinds are lower case and without numbers. For an error without a kind, the system's message is better.
    if kind.contains("uncategorized") { error.to_string() } else { kind }
}

pub(crate) fn find<E: Error + 'static>(error: &SendError) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The causes, outermost first. The source of an I/O error that wraps another error is that error's source, so the wrapped
/// error is taken from `get_ref`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => cause.source(),
    })
}
