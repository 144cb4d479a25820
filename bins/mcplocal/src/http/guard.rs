//! What keeps web pages and other machines out: the agent is for programs of this machine.
//!
//! A page that a browser shows can send requests to loopback addresses, and by DNS rebinding under a name of its own. So
//! a foreign `Host` and any `Origin` that is not allow-listed are refused before routing.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mcpctl_api::ErrorKind;

use super::error::LocalHttpError;
use crate::app::App;

/// Refuses what does not come from a program of this machine.
pub async fn from_this_machine(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let allowed = &app.runtime.load().config.allowed_origins;
    let refused = |code: &str, message: &str| {
        LocalHttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, code, message).into_response()
    };
    // HTTP/2 says the host in the address.
    let authority = request.uri().authority().map(Authority::as_str);
    if !host_is_local(authority, request.headers()) {
        return refused("foreign_host", "the agent is called by a name that is not this machine's");
    }
    if !origin_is_allowed(request.headers(), allowed) {
        return refused("foreign_origin", "web pages may not call the agent");
    }
    next.run(request).await
}

/// Lets through who has the local key.
pub async fn local_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.identity.local(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(unknown) => LocalHttpError::from(unknown).into_response(),
    }
}

fn host_is_local(authority: Option<&str>, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (authority, hosts.next(), hosts.next()) {
        (Some(authority), None, None) => authority,
        (None, Some(host), None) => host.to_str().unwrap_or_default(),
        (Some(authority), Some(host), None) if host.as_bytes() == authority.as_bytes() => authority,
        _ => return false,
    };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

fn origin_is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        for good in ["127.0.0.1:3200", "localhost", "LOCALHOST:1", "[::1]:3200", "127.1.2.3"] {
            assert!(host_is_local(None, &headers(header::HOST, &[good])), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.5",
            "localhost.evil.example",
            "",
            "a@localhost",
        ] {
            assert!(!host_is_local(None, &headers(header::HOST, &[bad])), "{bad}");
        }
        assert!(!host_is_local(None, &HeaderMap::new()));
        assert!(!host_is_local(None, &headers(header::HOST, &["localhost", "evil.example"])));
        assert!(!host_is_local(Some("evil.example"), &headers(header::HOST, &["localhost"])));
        assert!(host_is_local(Some("localhost:3200"), &HeaderMap::new()));
    }

    #[test]
    fn origins_are_refused_unless_listed() {
        let allowed = ["http://localhost:5173".to_owned()];
        assert!(origin_is_allowed(&HeaderMap::new(), &[]));
        assert!(origin_is_allowed(&headers(header::ORIGIN, &["http://localhost:5173"]), &allowed));
        for bad in ["null", "http://localhost", "https://evil.example", "http://localhost:51730"] {
            assert!(!origin_is_allowed(&headers(header::ORIGIN, &[bad]), &allowed), "{bad}");
        }
    }
}
