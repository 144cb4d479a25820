//! Exchanges a code or a device code for an ID token, at an issuer's token endpoint. The ID token comes from the issuer
//! itself, over a connection that mcpd opened, and is verified all the same.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use mcpctl_api::{oidc::is_protected, visible};
use mcpctl_upstream::{DocumentRequest, fetch_document};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::{
    Claims, Expected, Issuer, IssuerError, TokenKind, VerifyError,
    issuer::{Metadata, unusable},
};

/// Maximum size of a response of the token endpoint, in bytes: three tokens.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Maximum length of a code, a device code or a user code, in bytes.
const MAX_CODE_BYTES: usize = 4096;
/// Maximum length of the issuer's words in an error, in bytes.
const MAX_WORDS_BYTES: usize = 200;
/// How often a device code is polled where the issuer names no interval, in seconds (RFC 8628, section 3.2).
const DEFAULT_INTERVAL_SECONDS: u64 = 5;
/// Longest interval and longest validity that is believed, in seconds.
const MAX_INTERVAL_SECONDS: u64 = 60;
const MAX_VALIDITY_SECONDS: u64 = 1800;

/// mcpd as the issuer knows it.
#[derive(Debug, Clone)]
pub struct OidcClient {
    /// Its id, which is the audience of its ID tokens.
    pub id: String,
    /// Its secret, if it is a confidential client.
    pub secret: Option<SecretString>,
}

/// A code that came back from the browser, and what proves that this sign-in began with the same program.
#[derive(Debug)]
pub struct AuthorizationCode<'a> {
    /// The code.
    pub code: &'a str,
    /// The verifier of the challenge (RFC 7636).
    pub verifier: &'a str,
    /// Where the code was sent.
    pub redirect_uri: &'a str,
    /// The nonce of the request, which the ID token repeats.
    pub nonce: &'a str,
}

/// A sign-in that a person approves in a browser on any machine (RFC 8628).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeviceAuthorization {
    /// What is polled with.
    pub device_code: String,
    /// What the person types in.
    pub user_code: String,
    /// Where the person types it in.
    pub verification_uri: Url,
    /// The same with the code filled in.
    pub verification_uri_complete: Option<Url>,
    /// How long the codes are valid, in seconds.
    pub expires_in: u64,
    /// The least time between two polls, in seconds.
    #[serde(default = "default_interval")]
    pub interval: u64,
}

fn default_interval() -> u64 {
    DEFAULT_INTERVAL_SECONDS
}

/// Why there is no ID token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExchangeError {
    /// The issuer refuses the code: it is unknown, used, expired or another client's, or the person refused.
    #[error("the issuer refuses the sign-in: {0}")]
    Refused(String),
    /// The person has not answered yet.
    #[error("the sign-in is not approved yet")]
    Pending {
        /// Whether the issuer asks to be polled less often.
        slow_down: bool,
    },
    /// The issuer has no such way to sign in.
    #[error("the issuer does not offer this way to sign in")]
    NotOffered,
    /// The issuer refuses mcpd as a client.
    #[error("the issuer refuses this mcpd: {0}")]
    Client(String),
    /// The ID token is not valid.
    #[error("the issuer's ID token is not accepted: {0}")]
    Token(#[from] crate::TokenError),
    /// The issuer cannot be used now.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl From<VerifyError> for ExchangeError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Token(error) => Self::Token(error),
            VerifyError::Issuer(error) => Self::Issuer(error),
        }
    }
}

/// An error of an endpoint (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct EndpointError {
    error: String,
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    id_token: Option<String>,
}

impl Issuer {
    /// Exchanges a code for the claims of an ID token.
    ///
    /// # Errors
    /// When the issuer refuses the code, or its ID token is not valid for this client and nonce.
    pub async fn exchange_code(
        &self,
        client: &OidcClient,
        code: &AuthorizationCode<'_>,
    ) -> Result<Claims, ExchangeError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.code),
            ("redirect_uri", code.redirect_uri),
            ("code_verifier", code.verifier),
        ];
        let id_token = self.request_token(client, &fields).await?;
        self.verify_id_token(client, &id_token, Some(code.nonce)).await
    }

    /// Begins a sign-in with a device code.
    ///
    /// # Errors
    /// When the issuer does not offer it, or refuses the client.
    pub async fn begin_device(
        &self,
        client: &OidcClient,
        scopes: &str,
    ) -> Result<DeviceAuthorization, ExchangeError> {
        const DOCUMENT: &str = "device authorization";
        let metadata = self.metadata().await?;
        let url = metadata.device_authorization_endpoint.as_ref().ok_or(ExchangeError::NotOffered)?;
        let body = self.post(&metadata, url, client, &[("scope", scopes)]).await?;
        let mut begun: DeviceAuthorization =
            serde_json::from_slice(&body).map_err(|error| unusable(DOCUMENT, error.to_string()))?;
        let addresses = [Some(&begun.verification_uri), begun.verification_uri_complete.as_ref()];
        if !addresses.into_iter().flatten().all(is_protected) {
            return Err(unusable(DOCUMENT, "its address is not an https address").into());
        }
        let long = |code: &str| code.is_empty() || code.len() > MAX_CODE_BYTES;
        if long(&begun.device_code) || long(&begun.user_code) {
            return Err(unusable(DOCUMENT, "it has no code, or one that is too long").into());
        }
        begun.interval = begun.interval.clamp(1, MAX_INTERVAL_SECONDS);
        begun.expires_in = begun.expires_in.min(MAX_VALIDITY_SECONDS);
        Ok(begun)
    }

    /// Asks once whether a device code was approved.
    ///
    /// # Errors
    /// [`ExchangeError::Pending`] if it was not yet; when it was refused or has expired.
    pub async fn poll_device(&self, client: &OidcClient, device_code: &str) -> Result<Claims, ExchangeError> {
        let fields =
            [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device_code)];
        let id_token = self.request_token(client, &fields).await?;
        // No request of a browser carried a nonce; the device code binds the token to this sign-in.
        self.verify_id_token(client, &id_token, None).await
    }

    async fn request_token(
        &self,
        client: &OidcClient,
        fields: &[(&str, &str)],
    ) -> Result<String, ExchangeError> {
        const DOCUMENT: &str = "token response";
        if fields.iter().any(|(_, value)| value.len() > MAX_CODE_BYTES) {
            return Err(ExchangeError::Refused("the code is too long".to_owned()));
        }
        let metadata = self.metadata().await?;
        let url = metadata.token_endpoint.as_ref().ok_or(ExchangeError::NotOffered)?;
        let body = self.post(&metadata, url, client, fields).await?;
        let response: TokenResponse = serde_json::from_slice(&body)
            .map_err(|_| unusable(DOCUMENT, "it is not a JSON object with tokens"))?;
        Ok(response.id_token.ok_or_else(|| unusable(DOCUMENT, "it has no `id_token`"))?)
    }

    async fn post(
        &self,
        metadata: &Metadata,
        url: &Url,
        client: &OidcClient,
        fields: &[(&str, &str)],
    ) -> Result<bytes::Bytes, ExchangeError> {
        let mut form = fields.to_vec();
        form.push(("client_id", &client.id));
        let mut authorization = None;
        if let Some(secret) = &client.secret {
            if metadata.secret_in_form {
                form.push(("client_secret", secret.expose_secret()));
            } else {
                authorization = Some(basic(&client.id, secret));
            }
        }
        let max_bytes = MAX_RESPONSE_BYTES;
        let request = DocumentRequest { url, form: Some(&form), authorization, max_bytes };
        let fetched = fetch_document(self.client(), request).await.map_err(IssuerError::from)?;
        if fetched.status.is_success() {
            return Ok(fetched.body);
        }
        let Ok(error) = serde_json::from_slice::<EndpointError>(&fetched.body) else {
            let why = format!("its address answers {}", fetched.status.as_u16());
            return Err(unusable("token response", why).into());
        };
        Err(error.into())
    }

    async fn verify_id_token(
        &self,
        client: &OidcClient,
        token: &str,
        nonce: Option<&str>,
    ) -> Result<Claims, ExchangeError> {
        let kind = TokenKind::IdToken { nonce };
        let expected = Expected { issuer: self.url(), audience: &client.id, kind };
        Ok(self.verify(token, &expected).await?)
    }
}

impl From<EndpointError> for ExchangeError {
    fn from(error: EndpointError) -> Self {
        let words = match &error.error_description {
            Some(description) => format!("{} ({description})", error.error),
            None => error.error.clone(),
        };
        let words = visible::short(&visible::one_line(&words), MAX_WORDS_BYTES);
        match error.error.as_str() {
            "authorization_pending" => Self::Pending { slow_down: false },
            "slow_down" => Self::Pending { slow_down: true },
            "invalid_client" | "unauthorized_client" | "unsupported_grant_type" | "invalid_scope" => {
                Self::Client(words)
            }
            _ => Self::Refused(words),
        }
    }
}

/// The credentials of a client (RFC 6749, section 2.3.1): both parts are form-encoded before they are joined.
fn basic(id: &str, secret: &SecretString) -> HeaderValue {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret.expose_secret()));
    // Base64 has only characters that a header may have.
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}
