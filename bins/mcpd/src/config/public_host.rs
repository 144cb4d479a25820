//! The host name by which clients reach mcpd.

use std::str::FromStr;

use axum::http::uri::Authority;
use serde::Deserialize;

/// A host name: `mcpd.example.com` matches any port, `mcpd.example.com:8443` that port alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicHost(Authority);

/// The text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name; write e.g. `mcpd.example.com`, without scheme and path")]
pub struct NotAHost(String);

impl PublicHost {
    /// The name, without a port.
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// Whether `host`, as a request names it, is this host.
    pub fn matches(&self, host: &Authority) -> bool {
        let port = self.0.port_u16();
        self.0.host().eq_ignore_ascii_case(host.host()) && (port.is_none() || port == host.port_u16())
    }
}

impl FromStr for PublicHost {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let authority = text.parse::<Authority>().map_err(|_| NotAHost(text.to_owned()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.[]:".contains(c);
        // A port that does not parse would never match.
        let has_port = authority.as_str().len() > authority.host().len();
        if !text.chars().all(plain) || (has_port && authority.port_u16().is_none()) {
            return Err(NotAHost(text.to_owned()));
        }
        Ok(Self(authority))
    }
}

impl TryFrom<String> for PublicHost {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_compared_where_it_is_configured() {
        let is = |configured: &str, host: &str| {
            configured.parse::<PublicHost>().unwrap().matches(&host.parse::<Authority>().unwrap())
        };
        assert!(
            is("mcpd.example.com", "MCPD.example.com") && is("mcpd.example.com", "mcpd.example.com:8443")
        );
        assert!(is("mcpd.example.com:8443", "mcpd.example.com:8443"));
        assert!(!is("mcpd.example.com:8443", "mcpd.example.com"));
        assert!(!is("mcpd.example.com", "mcpd.example.com.evil.example"));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for bad in
            ["", "https://mcpd.example.com", "mcpd.example.com/x", "a@b", "*.example.com", "a b", "a:x"]
        {
            assert!(bad.parse::<PublicHost>().is_err(), "{bad}");
        }
    }
}
