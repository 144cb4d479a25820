//! The errors of a request to mcpd, with messages for the person who made it. No message holds a password or a token.

use std::{error::Error, io, ops::Deref};

use mcpctl_api::{ApiError, ErrorKind, header, visible};
use mcpctl_dialect::error::UpstreamError;
use mcpctl_tls::{TlsFault, TlsProblem};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName},
};
use url::Url;

use crate::guard::ForeignPeer;

/// Why a request failed. Each prints as one line.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The text is not the address of a server.
    #[error("`{server}` is not the address of a server: {reason}")]
    Address {
        /// The address, without its credentials.
        server: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token has characters that no token has.
    #[error("the token cannot be sent: it holds characters that no token has")]
    Token,
    /// The text is neither a name nor an id, but a path.
    #[error("`{0}` is neither a name nor an id")]
    Segment(String),
    /// Nothing responds at the address.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        server: String,
        /// Why.
        reason: String,
    },
    /// The program at the address belongs to another user, or its user is not known.
    #[error("{server} is not trusted: {peer}")]
    Foreign {
        /// The address.
        server: String,
        /// The other end of the connection.
        peer: ForeignPeer,
    },
    /// TLS failed: the certificate does not prove that the server is the named one.
    #[error("{server} cannot be trusted: {}", problem.reason)]
    Tls {
        /// The address.
        server: String,
        /// Why, and what to do about it.
        problem: TlsProblem,
    },
    /// The server responded with an error.
    #[error("{error}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its body and headers.
        error: Box<ErrorResponse>,
    },
    /// The server redirects, which the client never follows: the token is for this address.
    #[error("{server} redirects to {location}")]
    Redirected {
        /// The address.
        server: String,
        /// Where it redirects to.
        location: String,
    },
    /// The response is not mcpd's.
    #[error("{server} gave an answer that is not mcpd's: {reason}")]
    Unreadable {
        /// The address.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The client cannot work.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

/// An error response: its body, and the headers that name its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{body}")]
pub struct ErrorResponse {
    body: ApiError,
    /// `mcpctl-error-source`: `mcpd`, `mcplocal` or `upstream`.
    pub source_name: Option<String>,
    /// `mcpctl-failure`: the class of the failure.
    pub failure: Option<String>,
    /// `mcpctl-attempts`: how many attempts mcpd made at the provider.
    pub attempts: Option<u32>,
    /// `mcpctl-no-failover`: why no local provider answered.
    pub no_failover: Option<String>,
}

impl Deref for ErrorResponse {
    type Target = ApiError;

    fn deref(&self) -> &ApiError {
        &self.body
    }
}

impl ErrorResponse {
    /// Reads an error response of mcpd or mcplocal; `None` where it is neither's. mcpd passes a provider's error on as the
    /// provider wrote it, so its shape is not known; the header proves that it came through mcpd.
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let source_name = text(headers, &header::ERROR_SOURCE);
        let mut body = match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => error,
            Err(_) => {
                source_name.as_ref()?;
                let upstream = UpstreamError::read(body);
                let message = upstream.message.unwrap_or_else(|| format!("status {status} without a reason"));
                let mut error = ApiError::new(ErrorKind::Other, "", message);
                error.error.code = upstream.code;
                error
            }
        };
        // A provider's text may be printed on a terminal, where control characters are commands.
        body.error.message = one_line(&body.error.message);
        body.error.hint = body.error.hint.map(|hint| one_line(&hint));
        body.error.code = body.error.code.map(|code| one_line(&code));
        body.error.param = body.error.param.map(|param| one_line(&param));
        let attempts = text(headers, &header::ATTEMPTS).and_then(|attempts| attempts.parse().ok());
        let (failure, no_failover) = (text(headers, &header::FAILURE), text(headers, &header::NO_FAILOVER));
        Some(Self { body, source_name, failure, attempts, no_failover })
    }
}

impl ErrorResponse {
    /// The same error with another next step.
    pub(crate) fn with_hint(mut self, hint: String) -> Self {
        self.body.error.hint = Some(hint);
        self
    }
}

impl ClientError {
    pub(crate) fn setup(error: &reqwest::Error) -> Self {
        Self::Setup(reason(error))
    }

    /// Classifies the error of a request that got no response.
    pub(crate) fn unanswered(server: String, error: &reqwest::Error) -> Self {
        if let Some(tls) = tls_problem(error) {
            return Self::Tls { server, problem: tls };
        }
        if let Some(peer) = innermost::<ForeignPeer>(error) {
            return Self::Foreign { server, peer: peer.clone() };
        }
        let reason = reason(error);
        if innermost::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
            return Self::Unreadable { server, reason };
        }
        Self::Unreachable { server, reason }
    }

    /// The next step for a person, where there is one.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Address { .. } => "write it like https://mcpd.example.com",
            Self::Token => "copy it again, whole and without line breaks",
            Self::Unreachable { .. } => "check the address, and that mcpd runs there",
            Self::Foreign { peer, .. } => return Some(peer.hint()),
            // The client does not send tokens over plain http to other machines, so the hint does not suggest it.
            Self::Tls { problem, server } if problem.fault == TlsFault::Plain => {
                match server.parse::<Url>() {
                    Ok(url) if is_loopback(&url) => "it speaks plain http: write http:// here",
                    _ => PLAIN_MCPD,
                }
            }
            Self::Tls { problem, .. } => problem.hint?,
            Self::Refused { error, .. } => return error.body.error.hint.clone(),
            Self::Redirected { .. } => "use that address, where you trust it",
            Self::Unreadable { .. } => "check the address: is it mcpd that answers there?",
            Self::Segment(_) | Self::Setup(_) => return None,
        };
        Some(text.to_owned())
    }

    /// The status of an error response.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server may answer the same request later: it restarts, or its database does, or it has too much to do.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }

    /// Whether the server has no such resource, or the caller may not know of it.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// The code of the server's error.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => error.body.error.code.as_deref(),
            _ => None,
        }
    }

    /// The field that the server rejected.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => error.body.error.param.as_deref(),
            _ => None,
        }
    }
}

/// Hint for a server on another machine that speaks plain http.
pub const PLAIN_MCPD: &str = "use https: mcpd serves it with `tls` in its configuration, or a reverse proxy in front of it does; or a tunnel \
                              (ssh -N -L 3100:127.0.0.1:3100 HOST) and http://127.0.0.1:3100";

/// Whether an address is of this machine.
pub fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// The address of a server: http or https, and nothing in it but host, port and path.
///
/// Credentials would end up in messages. A query would come between the address and the path that the client appends, so that
/// a request for one resource would ask for the root.
///
/// # Errors
/// Another scheme, no host, credentials, a query or a fragment.
pub fn check_address(server: &Url) -> Result<(), ClientError> {
    let reason = if !matches!(server.scheme(), "http" | "https") {
        "it is neither http nor https"
    } else if server.host_str().is_none_or(str::is_empty) {
        "it has no host"
    } else if !server.username().is_empty() || server.password().is_some() {
        "it has credentials in it"
    } else if server.query().is_some() || server.fragment().is_some() {
        "it has a query or a fragment"
    } else {
        return Ok(());
    };
    Err(ClientError::Address { server: shown(server), reason })
}

/// A server's address for messages, without credentials, query and fragment.
pub fn shown(server: &Url) -> String {
    let mut server = server.clone();
    // These fail for addresses that cannot have credentials, which then have none.
    let _ = server.set_username("");
    let _ = server.set_password(None);
    server.set_query(None);
    server.set_fragment(None);
    server.as_str().trim_end_matches('/').to_owned()
}

/// A text without line breaks and other control characters; other invisible characters are escaped.
pub(crate) fn one_line(text: &str) -> String {
    let parts = text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    visible::one_line(&parts.join(" ")).into_owned()
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The innermost cause, which is the most specific one.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let late = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref().is_some_and(reqwest::Error::is_timeout)
            || cause.downcast_ref().is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::TimedOut)
    };
    if late(error) || chain(error).any(late) {
        return "no answer in time".to_owned();
    }
    if let Some(tls) = tls_problem(error) {
        return one_line(&tls.reason);
    }
    if let Some(io) = innermost::<io::Error>(error).filter(|io| io.get_ref().is_none()) {
        let kind = io.kind().to_string();
        // `ErrorKind` prints lower case and without numbers; an uncategorized error needs the system's own message.
        return if kind.contains("uncategorized") { io.to_string() } else { kind };
    }
    one_line(&chain(error).last().map_or_else(|| error.to_string(), ToString::to_string))
}

fn tls_problem(error: &(dyn Error + 'static)) -> Option<TlsProblem> {
    let found = innermost::<rustls::Error>(error).map(TlsProblem::of);
    let found = found.or_else(|| innermost::<io::Error>(error).and_then(TlsProblem::of_words));
    let TlsProblem { reason, hint, fault } = found?;
    // A certificate's names are the server's own words.
    Some(TlsProblem { reason: one_line(&reason), hint, fault })
}

fn innermost<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).filter_map(|cause| cause.downcast_ref()).last()
}

/// The causes from the outside in. `source` of an I/O error that wraps another error skips the wrapped one, so it is taken from
/// `get_ref`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => cause.source(),
    })
}
