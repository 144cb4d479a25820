//! Rejects requests of foreign web pages: a page in a browser can send requests to addresses that only the browser's
//! machine reaches, and by DNS rebinding under its own host name.

use std::net::SocketAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mcpctl_api::ErrorKind;
use mcpctl_failover::FailureClass;
use mcpctl_server::{Origin, is_loopback, origin_is_allowed, requested_host};

use super::error::HttpError;
use crate::config::PublicHost;

/// Routes of health checks, which call mcpd by address even if it has a public name.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// The relation of a request to the page that caused it, as browsers state it over connections that they trust.
pub const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The host names and web origins that may call a listener.
#[derive(Debug)]
pub struct Guard {
    loopback: bool,
    public_host: Option<PublicHost>,
    allowed_origins: Vec<Origin>,
}

impl Guard {
    /// The guard of the listener at this address.
    pub fn new(listen: SocketAddr, public_host: Option<PublicHost>, allowed_origins: &[Origin]) -> Self {
        Self { loopback: listen.ip().is_loopback(), public_host, allowed_origins: allowed_origins.to_vec() }
    }

    /// Rejects requests of foreign web pages before any other work.
    pub(super) fn check(&self, request: &Request) -> Result<(), HttpError> {
        self.check_host(request)?;
        if !origin_is_allowed(request.headers(), &self.allowed_origins) {
            return Err(refused(
                "foreign_origin",
                "web pages of this origin may not call mcpd",
                "name the origin in `allowedOrigins` of mcpd's configuration",
            ));
        }
        Ok(())
    }

    /// Rejects requests to the console that pages of others have caused. Those of its own pages have mcpd's own origin.
    pub(super) fn check_console(&self, request: &Request) -> Result<(), HttpError> {
        self.check_host(request)?;
        let headers = request.headers();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let own = |value: &HeaderValue| self.is_own_origin(value, request);
        let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
        // A link from elsewhere has no origin. A form has one, or where a browser leaves it out, the relation to its page.
        let is_own = match origins.peek() {
            Some(_) => origins.all(own),
            None => is_read || headers.contains_key(SEC_FETCH_SITE),
        };
        let is_same_site = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
        if is_own && (is_read || is_same_site) {
            return Ok(());
        }
        Err(refused(
            "foreign_origin",
            "a page of another site has sent this to the console",
            "open the console and send the form from there; a reverse proxy has to pass the header `Host` on",
        ))
    }

    /// Whether an origin is this mcpd: the host that was called, or the public one.
    fn is_own_origin(&self, origin: &HeaderValue, request: &Request) -> bool {
        let authority = origin.to_str().ok().and_then(|text| text.split_once("://"));
        let Some((_, Ok(authority))) = authority.map(|(scheme, rest)| (scheme, rest.parse::<Authority>()))
        else {
            return false;
        };
        let called = requested_host(request.uri(), request.headers());
        called.is_some_and(|host| host.as_str().eq_ignore_ascii_case(authority.as_str()))
            || self.public_host.as_ref().is_some_and(|public| public.matches(&authority))
    }

    fn check_host(&self, request: &Request) -> Result<(), HttpError> {
        let host = requested_host(request.uri(), request.headers());
        if !self.is_own_host(host.as_ref(), request.uri().path()) {
            return Err(refused(
                "foreign_host",
                "mcpd is called by a host name that is not its own",
                "set `publicHost` in mcpd's configuration, or `--public-host`, to the name that clients use",
            ));
        }
        Ok(())
    }

    fn is_own_host(&self, host: Option<&Authority>, path: &str) -> bool {
        let is_public = |public: &PublicHost| host.is_some_and(|host| public.matches(host));
        match &self.public_host {
            Some(public) if is_public(public) => true,
            // Only this machine reaches the address, so that a foreign name comes from a web page.
            _ if self.loopback => host.is_some_and(is_loopback),
            Some(_) => HEALTH.contains(&path),
            None => true,
        }
    }
}

fn refused(code: &str, message: &str, hint: &str) -> HttpError {
    HttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, code, message)
        .hint(hint)
        .class(FailureClass::Denied)
}

/// The layer of the login: a web page can send forms and plain text to any address without a preflight, but not JSON.
pub async fn json_only(request: Request, next: Next) -> Response {
    if is_json(request.headers()) {
        return next.run(request).await;
    }
    HttpError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::InvalidRequestError,
        "unsupported_media_type",
        "this address takes JSON alone",
    )
    .hint("send `Content-Type: application/json`")
    .into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(listen: &str, public_host: Option<&str>) -> Guard {
        let public_host = public_host.map(|host| host.parse().unwrap());
        Guard::new(listen.parse().unwrap(), public_host, &[])
    }

    fn allows(guard: &Guard, host: &str, path: &str) -> bool {
        let request = Request::builder().uri(path).header(header::HOST, host).body(axum::body::Body::empty());
        guard.check(&request.unwrap()).is_ok()
    }

    #[test]
    fn loopback_listeners_accept_loopback_names_only() {
        let guard = guard("127.0.0.1:3100", None);
        assert!(allows(&guard, "localhost:3100", "/v1/models") && allows(&guard, "[::1]:3100", "/healthz"));
        assert!(!allows(&guard, "evil.example", "/v1/models") && !allows(&guard, "evil.example", "/healthz"));
    }

    #[test]
    fn only_the_public_host_is_accepted() {
        for listen in ["127.0.0.1:3100", "0.0.0.0:3100"] {
            let guard = guard(listen, Some("mcpd.example.com"));
            assert!(allows(&guard, "MCPD.example.com:8443", "/v1/models"), "{listen}");
            assert!(!allows(&guard, "evil.example", "/v1/models"), "{listen}");
        }
        let guard = guard("0.0.0.0:3100", Some("mcpd.example.com"));
        assert!(allows(&guard, "10.0.0.7:3100", "/readyz"), "health checks come by address");
        assert!(!allows(&guard, "10.0.0.7:3100", "/v1/models"));
    }

    #[test]
    fn without_a_public_host_any_name_is_accepted() {
        assert!(allows(&guard("0.0.0.0:3100", None), "mcpd.example.com", "/v1/models"));
    }

    #[test]
    fn only_json_is_json() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain; application/json", false),
            ("application/jsonp", false),
        ] {
            let headers = [(header::CONTENT_TYPE, value.parse().unwrap())].into_iter().collect();
            assert_eq!(is_json(&headers), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
