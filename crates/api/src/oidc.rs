//! OpenID Connect as it travels: issuers, the ways to sign in, and what proves a sign-in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

/// The identity of an issuer (OpenID Connect Discovery 1.0, section 3): compared character by character, so the text is
/// kept as it is written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct IssuerUrl(String);

/// Why a text is no issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an issuer: {why}")]
pub struct NotAnIssuer {
    text: String,
    why: &'static str,
}

impl IssuerUrl {
    /// Maximum length, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// The issuer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether credentials may travel to this address: by https, or within this machine.
pub fn is_protected(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(ip))) => ip.is_loopback(),
        ("http", Some(Host::Ipv6(ip))) => ip.is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

impl FromStr for IssuerUrl {
    type Err = NotAnIssuer;

    fn from_str(text: &str) -> Result<Self, NotAnIssuer> {
        let wrong = |why| {
            let text = text.chars().take(Self::MAX_BYTES).collect();
            Err(NotAnIssuer { text, why })
        };
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.chars().all(|c| c.is_ascii_graphic()) {
            return wrong("it has 1 to 512 visible ASCII characters");
        }
        let Ok(url) = text.parse::<Url>() else { return wrong("it is no address") };
        if !is_protected(&url) {
            return wrong("it begins with https://, or with http:// on a loopback address");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("it has no user");
        }
        if text.contains(['?', '#']) {
            return wrong("it has neither query nor fragment");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = NotAnIssuer;

    fn try_from(text: String) -> Result<Self, NotAnIssuer> {
        text.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(issuer: IssuerUrl) -> Self {
        issuer.0
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_is_https_or_loopback_and_kept_as_written() {
        for good in [
            "https://id.example.com",
            "https://id.example.com/",
            "https://id.example.com/realms/A",
            "http://127.0.0.1:1/x",
            "http://localhost",
            "http://[::1]:9",
        ] {
            assert_eq!(good.parse::<IssuerUrl>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "id.example.com",
            "http://id.example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "https://u@id.example.com",
            "https://id.example.com?x",
            "https://id.example.com#x",
            "https://id.example.com /x",
            "https://ïd.example.com",
        ] {
            assert!(bad.parse::<IssuerUrl>().is_err(), "{bad}");
        }
    }
}
