//! An issuer's endpoints and keys: found by discovery, cached, and fetched again when they may have changed.
//!
//! One fetch runs at a time. After a failure, and after an unknown key, the next one waits, so that neither a provider that
//! is down nor a flood of made-up key ids causes more than one request in 10 s. While fetches fail, what was fetched last is
//! used for a bounded time: an outage of the provider is no reason to refuse what its keys verify.

mod cache;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use mcpctl_api::oidc::{IssuerUrl, is_protected};
use mcpctl_upstream::{Client, DocumentError, DocumentRequest, fetch_document};
use serde::Deserialize;
use url::Url;

pub use self::cache::Lifetime;
use self::cache::{Cache, Wanted};
use crate::jwt::{self, Claims, Expected, Keys, TokenError};

/// Maximum size of a discovery document or a key set, in bytes.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How long what is known of an issuer is used.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of its endpoints.
    pub metadata: Lifetime,
    /// Of its keys: a key that the issuer withdraws verifies nothing for longer than this.
    pub keys: Lifetime,
    /// The least time from one fetch of the keys, or from a failed fetch, to the next.
    pub fetch_interval: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self {
            metadata: Lifetime { fresh: hours(1), longest: hours(24) },
            keys: Lifetime { fresh: Duration::from_secs(600), longest: hours(1) },
            fetch_interval: Duration::from_secs(10),
        }
    }
}

/// An issuer's endpoints, of its discovery document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where a browser is sent.
    pub authorization_endpoint: Option<Url>,
    /// Where codes are exchanged.
    pub token_endpoint: Option<Url>,
    /// Where a device code begins (RFC 8628).
    pub device_authorization_endpoint: Option<Url>,
    /// Whether every authorization response names the issuer (RFC 9207).
    pub names_issuer: bool,
    /// Whether a client's secret is sent in the form; else by HTTP Basic.
    pub secret_in_form: bool,
    /// Where the keys are.
    jwks_uri: Url,
}

/// Why an issuer cannot be used now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssuerError {
    /// A document cannot be fetched.
    #[error("the issuer cannot be reached: {0}")]
    Unreachable(#[from] DocumentError),
    /// A document is not what it has to be.
    #[error("the issuer's {document} is not usable: {why}")]
    Unusable {
        /// Which document.
        document: &'static str,
        /// Why.
        why: String,
    },
}

/// Why a token of an issuer is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifyError {
    /// The token breaks a rule.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The issuer's keys cannot be had.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// A trusted issuer.
pub struct Issuer {
    url: IssuerUrl,
    client: Client,
    metadata: Cache<Metadata, IssuerError>,
    keys: Cache<Keys, IssuerError>,
}

impl Issuer {
    /// An issuer of which nothing is known yet; nothing is fetched.
    pub fn new(url: IssuerUrl, client: Client) -> Self {
        Self::with_lifetimes(url, client, Lifetimes::default())
    }

    /// As [`Issuer::new`], with other lifetimes.
    pub fn with_lifetimes(url: IssuerUrl, client: Client, lifetimes: Lifetimes) -> Self {
        let metadata = Cache::new(lifetimes.metadata, lifetimes.fetch_interval);
        let keys = Cache::new(lifetimes.keys, lifetimes.fetch_interval);
        Self { url, client, metadata, keys }
    }

    /// The issuer's identity.
    pub fn url(&self) -> &IssuerUrl {
        &self.url
    }

    /// The client that reaches it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its endpoints.
    ///
    /// # Errors
    /// When they cannot be found now.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, IssuerError> {
        self.metadata.get(Wanted::Fresh, async { self.logged(self.discover().await) }).await
    }

    /// Verifies a token. A key that is not known is looked for in newer keys, at most once in 10 s.
    ///
    /// # Errors
    /// When the token is not valid, or the keys cannot be had.
    pub async fn verify(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, VerifyError> {
        let keys = self.keys(Wanted::Fresh).await?;
        match jwt::verify(token, &keys, expected, Timestamp::now()) {
            Err(TokenError::UnknownKey) => {
                let keys = self.keys(Wanted::Newer).await?;
                Ok(jwt::verify(token, &keys, expected, Timestamp::now())?)
            }
            result => Ok(result?),
        }
    }

    async fn keys(&self, wanted: Wanted) -> Result<Arc<Keys>, IssuerError> {
        self.keys.get(wanted, async { self.logged(self.fetch_keys().await) }).await
    }

    fn logged<T>(&self, fetched: Result<T, IssuerError>) -> Result<T, IssuerError> {
        if let Err(error) = &fetched {
            let error = error as &dyn std::error::Error;
            tracing::warn!(issuer = %self.url, error, "an issuer cannot be used now");
        }
        fetched
    }

    async fn fetch_keys(&self) -> Result<Keys, IssuerError> {
        let metadata = self.metadata().await?;
        let json = self.fetch(&metadata.jwks_uri, "key set").await?;
        Keys::read(&json).map_err(|why| unusable("key set", why))
    }

    async fn discover(&self) -> Result<Metadata, IssuerError> {
        const DOCUMENT: &str = "discovery document";
        let base = self.url.as_str().trim_end_matches('/');
        let url: Url = format!("{base}/.well-known/openid-configuration")
            .parse()
            .map_err(|_| unusable(DOCUMENT, "it has no address"))?;
        let json = self.fetch(&url, DOCUMENT).await?;
        let read: Discovered =
            serde_json::from_slice(&json).map_err(|e| unusable(DOCUMENT, e.to_string()))?;
        read.checked(&self.url).map_err(|why| unusable(DOCUMENT, why))
    }

    async fn fetch(&self, url: &Url, document: &'static str) -> Result<bytes::Bytes, IssuerError> {
        let request = DocumentRequest { url, form: None, authorization: None, max_bytes: MAX_DOCUMENT_BYTES };
        let fetched = fetch_document(&self.client, request).await?;
        if fetched.status.as_u16() != 200 {
            return Err(unusable(document, format!("its address answers {}", fetched.status.as_u16())));
        }
        Ok(fetched.body)
    }
}

pub(crate) fn unusable(document: &'static str, why: impl Into<String>) -> IssuerError {
    IssuerError::Unusable { document, why: why.into() }
}

/// The discovery document (OpenID Connect Discovery 1.0, section 3; RFC 8414).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    jwks_uri: Url,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Discovered {
    fn checked(self, issuer: &IssuerUrl) -> Result<Metadata, String> {
        if self.issuer != issuer.as_str() {
            return Err("it names another issuer".to_owned());
        }
        let endpoints = [
            self.authorization_endpoint.as_ref(),
            self.token_endpoint.as_ref(),
            self.device_authorization_endpoint.as_ref(),
            Some(&self.jwks_uri),
        ];
        if !endpoints.into_iter().flatten().all(is_protected) {
            return Err("an endpoint of it is not at an https address".to_owned());
        }
        // A provider that ignores the challenge would exchange a stolen code.
        if self.code_challenge_methods_supported.is_some_and(|methods| !methods.iter().any(|m| m == "S256")) {
            return Err("it does not support PKCE with S256".to_owned());
        }
        let methods = self.token_endpoint_auth_methods_supported.unwrap_or_default();
        let supports = |method: &str| methods.iter().any(|supported| supported == method);
        Ok(Metadata {
            authorization_endpoint: self.authorization_endpoint,
            token_endpoint: self.token_endpoint,
            device_authorization_endpoint: self.device_authorization_endpoint,
            names_issuer: self.authorization_response_iss_parameter_supported,
            secret_in_form: supports("client_secret_post") && !supports("client_secret_basic"),
            jwks_uri: self.jwks_uri,
        })
    }
}
