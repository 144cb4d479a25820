//! OpenID Connect as it travels: issuers, the ways to sign in, and what proves a sign-in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use crate::{Name, spec::SecretValue};

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
        let Ok(url) = text.parse::<Url>() else { return wrong("it is not an address") };
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

/// Where the browser sends the answer of an authorization request: a port of the program that began it (RFC 8252,
/// section 7.3). mcpd makes it of the port too, so that no other address is ever used.
pub fn redirect_uri(port: u16) -> String {
    format!("http://127.0.0.1:{port}{REDIRECT_PATH}")
}

/// The path of [`redirect_uri`].
pub const REDIRECT_PATH: &str = "/callback";

/// The ways to sign in at an mcpd. Shows no secret: it needs no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInMethods {
    /// Whether passwords are accepted.
    pub password: bool,
    /// The OpenID providers that are trusted.
    pub oidc: Vec<OidcMethod>,
}

/// An OpenID provider, and what a program needs to send a browser there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcMethod {
    /// The name by which it is chosen.
    #[schema(value_type = String)]
    pub name: Name,
    /// Its identity.
    pub issuer: IssuerUrl,
    /// The id that mcpd has there.
    pub client_id: String,
    /// The scopes to request.
    pub scopes: Vec<String>,
    /// Where the browser is sent; absent while the provider cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub authorization_endpoint: Option<Url>,
    /// Whether every answer names the issuer (RFC 9207), so that one that does not is refused.
    #[serde(default)]
    pub names_issuer: bool,
    /// Whether a device code can be used (RFC 8628).
    #[serde(default)]
    pub device_code: bool,
}

/// `POST /api/v1/auth/oidc/code`: a code that came back from the browser.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeLogin {
    /// The provider's name.
    pub issuer: String,
    /// The code.
    #[schema(value_type = String)]
    pub code: SecretValue,
    /// The verifier of the request's challenge (RFC 7636).
    #[schema(value_type = String)]
    pub verifier: SecretValue,
    /// The nonce of the request.
    pub nonce: String,
    /// The loopback port that the code was sent to.
    pub redirect_port: u16,
}

/// `POST /api/v1/auth/oidc/device`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceLoginRequest {
    /// The provider's name.
    pub issuer: String,
}

/// A sign-in that a person approves in a browser on any machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceLogin {
    /// What to poll with.
    #[schema(value_type = String)]
    pub device_code: SecretValue,
    /// What the person types in.
    pub user_code: String,
    /// Where.
    #[schema(value_type = String)]
    pub verification_uri: Url,
    /// The same with the code filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub verification_uri_complete: Option<Url>,
    /// How long the codes are valid, in seconds.
    pub expires_in: u64,
    /// The least time between two polls, in seconds.
    pub interval: u64,
}

/// `POST /api/v1/auth/oidc/device/poll`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevicePoll {
    /// The provider's name.
    pub issuer: String,
    /// The code to poll with.
    #[schema(value_type = String)]
    pub device_code: SecretValue,
}

/// The answer to a poll while the person has not approved (202).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevicePending {
    /// Whether to poll less often from now on: 5 s more (RFC 8628, section 3.5).
    pub slow_down: bool,
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
