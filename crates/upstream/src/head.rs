//! Reads the head of an answer: which of its headers may be passed on, and the form of the body.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{self, CONTENT_TYPE},
};
use mcpctl_failover::FailureClass;

use crate::{Failure, UpstreamKind, screen::Screen};

/// The upstream's headers that may be passed on: not those of its connection (RFC 9110, section 7.6.1), not the length, which
/// our own server writes, and of a provider neither cookies nor `mcpctl-` headers.
pub(crate) fn incoming(headers: &HeaderMap, kind: UpstreamKind, screen: &Screen) -> HeaderMap {
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
    let is_reserved = |name: &HeaderName| {
        kind == UpstreamKind::Provider
            && (name.as_str().starts_with("mcpctl-") || *name == header::SET_COOKIE)
    };
    headers
        .iter()
        .filter(|(name, value)| !hop_by_hop(name) && !is_reserved(name) && screen.may_pass(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The failure for a body in a content coding that the client does not decode.
pub(crate) fn encoded(status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    let encoding = headers.get(header::CONTENT_ENCODING)?.as_bytes();
    if encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity") {
        return None;
    }
    let encoding: String = encoding.escape_ascii().to_string().chars().take(64).collect();
    let detail = format!("the answer is encoded as `{encoding}`, which was not asked for and is not known");
    Some(Failure::new(FailureClass::ServerError, detail).with_head(status, headers))
}

/// Whether the content type is that of an event stream.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}
