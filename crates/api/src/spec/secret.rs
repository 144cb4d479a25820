//! Secrets: values that can be written and never read.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::FieldError;
use crate::credential;

/// The fields of a `Secret`. A read shows every value as `null`; a `null` that is written keeps the stored value. Values are
/// keys of providers, so a header must be able to carry each of them; one line end after a value is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "Secret", "name": "openai", "data": {"token": "sk-YOUR-KEY"}, "hosts": ["api.openai.com"]}))]
pub struct SecretSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Keys and values.
    #[schema(write_only, value_type = std::collections::HashMap<String, Option<String>>)]
    pub data: BTreeMap<String, Option<SecretValue>>,
    /// Hosts that the values may be sent to, e.g. `api.openai.com`, `127.0.0.1:8000` or `*.example.com`; any where left
    /// out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostPattern>,
}

/// A host that a secret may be sent to: exact, with a port, or everything below a domain by `*.`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

/// A text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host; write e.g. `api.openai.com`, `127.0.0.1:8000` or `*.example.com`")]
pub struct NotAHost(String);

impl HostPattern {
    /// Whether a request to this address goes to such a host.
    pub fn matches(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host_fits = match self.host.strip_prefix("*.") {
            Some(domain) => {
                host.strip_suffix(domain).is_some_and(|left| left.len() > 1 && left.ends_with('.'))
            }
            None => host == self.host,
        };
        host_fits && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl TryFrom<String> for HostPattern {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", text.as_str()),
        };
        // The URL parser normalizes both sides: lower case, IDNA, IPv6 in brackets. The port is read from the text, because
        // the parser drops the default port of the scheme.
        let parsed = Url::parse(&format!("https://{rest}/")).ok();
        let host = parsed.as_ref().and_then(Url::host_str).filter(|host| !host.contains('*'));
        let clean = !rest.contains(['/', '?', '#', '@', '\\']) && !rest.ends_with(':') && !rest.is_empty();
        let port = rest.rsplit_once(':').filter(|(before, _)| !before.contains(':') || before.ends_with(']'));
        let port = match port.map(|(_, port)| port.parse()) {
            None => None,
            Some(Ok(0) | Err(_)) => return Err(NotAHost(text)),
            Some(Ok(port)) => Some(port),
        };
        match host.filter(|_| clean) {
            Some(host) => Ok(Self { host: format!("{wildcard}{host}"), port }),
            None => Err(NotAHost(text)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl SecretSpec {
    /// Maximum length of one value, in bytes.
    pub const MAX_VALUE_BYTES: usize = 64 * 1024;
    /// Maximum number of keys of one secret.
    pub const MAX_KEYS: usize = 64;
    /// Maximum number of hosts of one secret.
    pub const MAX_HOSTS: usize = 64;

    /// Whether the values may be sent to this address.
    pub fn may_go_to(&self, url: &Url) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(url))
    }

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        if self.data.len() > Self::MAX_KEYS {
            return Err(FieldError::new("data", format!("a secret has at most {} keys", Self::MAX_KEYS)));
        }
        if self.hosts.len() > Self::MAX_HOSTS {
            return Err(FieldError::new("hosts", format!("a secret has at most {} hosts", Self::MAX_HOSTS)));
        }
        for (key, value) in &self.data {
            let param = || format!("data.{key}");
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if key.is_empty() || key.len() > 63 || !key.bytes().all(fits) {
                return Err(FieldError::new(param(), "a key has 1 to 63 letters, digits, `.`, `_` and `-`"));
            }
            match value {
                Some(value) if value.expose().len() > Self::MAX_VALUE_BYTES => {
                    return Err(FieldError::new(
                        param(),
                        format!("a value has at most {} bytes", Self::MAX_VALUE_BYTES),
                    ));
                }
                Some(value) => {
                    credential::check(credential::without_line_end(value.expose()))
                        .map_err(|error| FieldError::new(param(), error.to_string()).hint(error.hint()))?;
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// A secret text on its way in; never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(String);

impl SecretValue {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<HostPattern, NotAHost> {
        HostPattern::try_from(text.to_owned())
    }

    #[test]
    fn hosts_match_exactly_by_port_or_below_a_domain() {
        let matches = |text: &str, url: &str| pattern(text).unwrap().matches(&url.parse().unwrap());
        assert!(matches("api.openai.com", "https://API.openai.com/v1"));
        assert!(matches("API.openai.com:443", "https://api.openai.com/v1"));
        assert!(matches("127.0.0.1:8000", "http://127.0.0.1:8000"));
        assert!(matches("[::1]:8000", "http://[0:0::1]:8000"));
        assert!(matches("*.example.com", "https://a.b.example.com"));
        for (text, url) in [
            ("api.openai.com", "https://api.openai.com.evil.example"),
            ("api.openai.com", "https://evil.example/api.openai.com"),
            ("api.openai.com:443", "http://api.openai.com"),
            ("127.0.0.1:8000", "http://127.0.0.1:8001"),
            ("*.example.com", "https://example.com"),
            ("*.example.com", "https://evilexample.com"),
            ("*.example.com", "https://.example.com.evil.example"),
        ] {
            assert!(!matches(text, url), "{text} {url}");
        }
    }

    #[test]
    fn invalid_hosts_are_rejected() {
        for bad in [
            "", "*", "*.", "a b", "http://x", "x/y", "x?y", "user@x", "x:", "x:0", "x:99999", "a.*.com",
            "x#y",
        ] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
        for good in ["api.openai.com", "localhost:11434", "[::1]", "10.0.0.1", "*.example.com:8443"] {
            assert_eq!(pattern(good).unwrap().to_string(), good);
        }
    }
}
