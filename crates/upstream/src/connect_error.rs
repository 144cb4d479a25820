//! Why a request got no response head, in words for the person who can change the address: the host, and whether it was
//! DNS, the connection, TLS, time, or a connection that was closed.

use std::{error::Error, fmt, io};

use mcpctl_api::visible;

use crate::Target;

/// Longest reason, bytes: TLS errors repeat what the other side sent.
const MAX_REASON: usize = 200;

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("DNS lookup failed: {0}")]
pub(crate) struct LookupError(#[from] pub(crate) io::Error);

/// Where a target is reached: `host:port`, or the path of a socket.
pub(crate) struct Place<'a>(pub(crate) &'a Target);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { base_url, socket, .. } = self.0;
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

/// What went wrong, without the host.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let reason = if let Some(lookup) = find::<LookupError>(error) {
        lookup.to_string()
    } else if let Some(tls) = find::<rustls::Error>(error) {
        match tls {
            rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
            other => format!("TLS: {other}"),
        }
    } else if let Some(io) = chain(error).filter_map(as_system_error).last() {
        words(io)
    } else if find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message) {
        "it closed the connection without an answer".to_owned()
    } else {
        chain(error).last().map_or_else(|| error.to_string(), ToString::to_string)
    };
    visible::short(&reason, MAX_REASON)
}

/// The system's own errors; those that only carry another one say nothing.
fn as_system_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref::<io::Error>().filter(|io| io.get_ref().is_none())
}

fn words(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    // The kinds are lower case and without numbers; where there is none, the system's own words are better.
    if kind.contains("uncategorized") { error.to_string() } else { kind }
}

pub(crate) fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// The causes from the outside in. An I/O error that was made of another error shows that one's source and not itself.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => cause.source(),
    })
}
