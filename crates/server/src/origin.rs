//! The host and the origin of a request, by which requests of web pages are recognized.
//!
//! A page in a browser can send requests to addresses that only the browser's machine reaches, and by DNS rebinding
//! under a host name of its own.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::{HeaderMap, Uri, header, uri::Authority};
use serde::Deserialize;

/// A web page's origin, as browsers write it: `https://console.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

/// A text that no browser sends as an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin; write e.g. `https://console.example.com`, without a path")]
pub struct NotAnOrigin(String);

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let authority = text.split_once("://").and_then(|(scheme, rest)| {
            let plain = scheme.starts_with(|c: char| c.is_ascii_lowercase())
                && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
            (plain && !rest.contains('*')).then(|| rest.parse::<Authority>().ok()).flatten()
        });
        match authority {
            Some(authority) if !authority.as_str().contains('@') => Ok(Self(text.to_owned())),
            _ => Err(NotAnOrigin(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = NotAnOrigin;

    fn try_from(text: String) -> Result<Self, NotAnOrigin> {
        text.parse()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a request has no origin, or an allowed one.
pub fn origin_is_allowed(headers: &HeaderMap, allowed: &[Origin]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.all(|origin| allowed.iter().any(|known| known.0.as_bytes() == origin.as_bytes()))
}

/// The host of a request; `None` if it names none or more than one.
pub fn requested_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    // HTTP/2 has the host in the address.
    let host = match (uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), None, None) => authority.as_str(),
        (None, Some(host), None) => host.to_str().ok()?,
        (Some(authority), Some(host), None) if host.as_bytes() == authority.as_str().as_bytes() => {
            authority.as_str()
        }
        _ => return None,
    };
    host.parse().ok().filter(|authority: &Authority| !authority.as_str().contains('@'))
}

/// Whether a host is a loopback name or address.
pub fn is_loopback(host: &Authority) -> bool {
    let name = host.host();
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    fn is_local(uri: &str, hosts: &[&str]) -> bool {
        let uri = uri.parse().unwrap();
        requested_host(&uri, &headers(header::HOST, hosts)).is_some_and(|host| is_loopback(&host))
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for good in ["127.0.0.1:3200", "localhost", "LOCALHOST:1", "[::1]:3200", "127.1.2.3"] {
            assert!(is_local("/", &[good]), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.5",
            "localhost.evil.example",
            "",
            "a@localhost",
        ] {
            assert!(!is_local("/", &[bad]), "{bad}");
        }
    }

    #[test]
    fn request_must_name_exactly_one_host() {
        assert!(!is_local("/", &[]));
        assert!(!is_local("/", &["localhost", "evil.example"]));
        assert!(!is_local("http://evil.example/", &["localhost"]));
        assert!(is_local("http://localhost:3200/", &[]));
        assert!(is_local("http://localhost:3200/", &["localhost:3200"]));
    }

    #[test]
    fn origins_are_denied_unless_listed() {
        let allowed = ["http://localhost:5173".parse().unwrap()];
        assert!(origin_is_allowed(&HeaderMap::new(), &[]));
        assert!(origin_is_allowed(&headers(header::ORIGIN, &["http://localhost:5173"]), &allowed));
        for bad in ["null", "http://localhost", "https://evil.example", "http://localhost:51730"] {
            assert!(!origin_is_allowed(&headers(header::ORIGIN, &[bad]), &allowed), "{bad}");
        }
        let two = headers(header::ORIGIN, &["http://localhost:5173", "https://evil.example"]);
        assert!(!origin_is_allowed(&two, &allowed));
    }

    #[test]
    fn only_origins_that_browsers_send_can_be_listed() {
        for good in ["https://a.example", "http://[::1]:1", "vscode-webview://abc", "tauri://localhost"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in
            ["null", "*", "https://*", "https://a.example/", "a.example", "https://u@a.example", "https://"]
        {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
