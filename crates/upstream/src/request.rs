//! A request to a model server: the operation, the caller's body, and the caller's headers that may be forwarded. An allowlist
//! names those, so that an unknown header is not forwarded.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT},
    uri::InvalidUri,
};
use http_body_util::Full;
use mcpctl_api::header::HOPS;
use mcpctl_dialect::{self as dialect, Dialect, Operation};
use url::{Position, Url};

use crate::{
    Api, Failure, Target, UpstreamKind,
    connect_error::SendError,
    hops::{self, InstanceId},
};

/// One request, as it is sent to one target.
#[derive(Debug, Clone)]
pub struct Request {
    /// The route at the target.
    pub operation: Operation,
    /// The body, with the target's model.
    pub body: Bytes,
    /// Whether the body requests a stream.
    pub stream: bool,
    /// How many choices the body requests (`n`): a stream without `[DONE]` is complete when all have finished.
    pub choices: u64,
    /// The caller's headers. Those that may not be forwarded are dropped.
    pub headers: HeaderMap,
}

/// The version of Anthropic's API: the caller's, or the one that has been in force since 2023.
pub(crate) const ANTHROPIC_VERSION: &str = "anthropic-version";

impl Request {
    /// The caller's request as it is sent to a target that has the same operation. Its body is the caller's but for the model, and
    /// for the request for usage in the stream where `ask_for_usage` is set.
    pub fn untouched(
        request: &dialect::Request,
        target: &Target,
        ask_for_usage: bool,
        headers: &HeaderMap,
    ) -> Self {
        let model = target.model.as_deref().or(request.model.as_deref());
        Self {
            operation: request.operation,
            body: model
                .map_or_else(|| request.body().clone(), |model| request.body_for(model, ask_for_usage)),
            stream: request.stream,
            choices: request.choices,
            headers: relevant(headers, request.operation, target),
        }
    }
}

/// Those of the caller's headers that a request to this target depends on.
fn relevant(headers: &HeaderMap, operation: Operation, target: &Target) -> HeaderMap {
    let is_relevant = |name: &HeaderName| *name == HOPS || is_forwarded(name, operation, target);
    let relevant = headers.iter().filter(|(name, _)| is_relevant(name));
    relevant.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// How many headers a request usually has at most, so that their map seldom grows.
const MAX_USUAL_HEADERS: usize = 12;

/// The headers to send.
///
/// INVARIANT 10: neither the caller's bearer nor its cookies are among them; `send` adds the target's credential.
/// `openai-organization` and `openai-project` decide who pays, which is not the caller's choice with a key of ours.
pub(crate) fn outgoing(request: &Request, target: &Target, instance: &InstanceId) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(MAX_USUAL_HEADERS);
    for (name, value) in &request.headers {
        if is_forwarded(name, request.operation, target) {
            headers.append(name, value.clone());
        }
    }
    if !headers.contains_key(ACCEPT) {
        let accept = if request.stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
    }
    let speaks_anthropic = request.operation.dialect() == Dialect::Anthropic;
    if speaks_anthropic && !headers.contains_key(ANTHROPIC_VERSION) {
        headers.insert(HeaderName::from_static(ANTHROPIC_VERSION), HeaderValue::from_static("2023-06-01"));
    }
    // A provider may be another mcpd or mcplocal, or lead back to this process.
    headers.insert(HOPS, hops::onward(&request.headers, instance));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Compression costs more time than it saves, and delays events. A compressed answer is decoded nevertheless.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcpctl/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// A request with these headers. Its address is a path and query; the connection adds the host.
pub(crate) fn message(
    method: Method,
    path: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> http::Request<Full<Bytes>> {
    let mut message = http::Request::new(Full::new(body));
    *message.method_mut() = method;
    *message.uri_mut() = path;
    *message.headers_mut() = headers;
    message
}

/// The path and query of a URL.
///
/// # Errors
/// When the URL cannot be sent.
pub(crate) fn path_of(url: &Url) -> Result<Uri, SendError> {
    let path = &url[Position::BeforePath..Position::AfterQuery];
    path.parse().map_err(|error: InvalidUri| SendError::Request(error.into()))
}

/// Adds the target's credential, in the header that its API takes it in.
///
/// # Errors
/// For a credential that no header can carry.
pub(crate) fn authorize(headers: &mut HeaderMap, target: &Target) -> Result<(), Failure> {
    if let Some((name, value)) = target.authorization()? {
        headers.insert(name, value);
    }
    Ok(())
}

fn is_forwarded(name: &HeaderName, operation: Operation, target: &Target) -> bool {
    let to_mcpd = target.kind == UpstreamKind::Mcpd;
    match (name.as_str(), operation.dialect()) {
        ("traceparent" | "tracestate" | "accept", _) => true,
        ("openai-organization" | "openai-project", _) => false,
        (ANTHROPIC_VERSION, Dialect::Anthropic) => true,
        // Which features of Anthropic's are tried out; no other server has them.
        ("anthropic-beta", Dialect::Anthropic) => to_mcpd || target.api == Api::Anthropic,
        (other, Dialect::Openai) if other.starts_with("openai-") => true,
        (other, _) => to_mcpd && other.starts_with("mcpctl-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttemptTimeouts, TargetConfig};

    #[test]
    fn inv_10_only_listed_headers_are_forwarded() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-api-key",
            "api-key",
            "x-stainless-os",
            "host",
            "content-length",
            "x-forwarded-for",
            "accept-encoding",
            "mcpctl-agent",
            "user-agent",
            "openai-project",
            "traceparent",
            "tracestate",
            "accept",
            "openai-beta",
            "anthropic-beta",
            "anthropic-version",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("theirs"));
        }
        headers.insert(HOPS, HeaderValue::from_static("0123456789abcdef"));
        let mut request =
            Request { operation: Operation::Chat, body: Bytes::new(), stream: true, choices: 1, headers };
        let target = |kind, api| {
            Target::new(TargetConfig {
                base_url: "http://127.0.0.1".parse().unwrap(),
                socket: None,
                model: None,
                credential: None,
                timeouts: AttemptTimeouts::default(),
                api,
                kind,
            })
        };
        let theirs = |request: &Request, kind, api| {
            let sent = outgoing(request, &target(kind, api), &InstanceId::default());
            let mut names: Vec<_> = sent
                .iter()
                .filter(|(_, value)| *value == "theirs")
                .map(|(name, _)| name.to_string())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            theirs(&request, UpstreamKind::Provider, Api::Openai),
            ["accept", "openai-beta", "traceparent", "tracestate"]
        );
        assert_eq!(
            theirs(&request, UpstreamKind::Mcpd, Api::Openai),
            ["accept", "mcpctl-agent", "openai-beta", "traceparent", "tracestate"]
        );
        request.operation = Operation::Messages;
        assert_eq!(
            theirs(&request, UpstreamKind::Provider, Api::Openai),
            ["accept", "anthropic-version", "traceparent", "tracestate"]
        );
        assert_eq!(
            theirs(&request, UpstreamKind::Provider, Api::Anthropic),
            ["accept", "anthropic-beta", "anthropic-version", "traceparent", "tracestate"]
        );
        request.headers.clear();
        let ours =
            outgoing(&request, &target(UpstreamKind::Provider, Api::Anthropic), &InstanceId::default());
        assert_eq!(
            (&ours[ACCEPT], &ours[CONTENT_TYPE]),
            (&"text/event-stream".parse().unwrap(), &"application/json".parse().unwrap())
        );
        assert_eq!(ours[ANTHROPIC_VERSION], "2023-06-01");
        assert!(ours[USER_AGENT].to_str().unwrap().starts_with("mcpctl/"));
    }
}
