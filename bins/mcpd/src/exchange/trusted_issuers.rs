//! The issuers of workloads' tokens that the configuration lists, and what verifies their tokens.

use mcpctl_api::oidc::IssuerUrl;
use mcpctl_issuer::{
    Claims, Expected, Issuer, TokenError, TokenKind, VerifyError, named_audiences, named_issuer, verify,
};
use mcpctl_upstream::Client;

use super::keys_file::KeysFile;
use crate::{clock, config::ExchangeIssuer};

/// An audience that no token is for: one that names none is verified all the same, and refused.
const NO_AUDIENCE: &str = "";

/// Why a workload's token is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// It is for another audience.
    Audience,
    /// It is not valid.
    Token(TokenError),
    /// The issuer's keys cannot be had now.
    Keys,
}

/// The issuers whose tokens are exchanged.
pub struct TrustedIssuers(Vec<TrustedIssuer>);

/// One of them.
pub struct TrustedIssuer {
    issuer: Issuer,
    keys_file: Option<KeysFile>,
}

impl TrustedIssuers {
    /// The issuers of the configuration; nothing is fetched yet.
    pub fn new(configured: Vec<ExchangeIssuer>, client: &Client) -> Self {
        let issuer = |ExchangeIssuer { issuer, keys_file }| TrustedIssuer {
            issuer: Issuer::new(issuer, client.clone()),
            keys_file: keys_file.map(KeysFile::new),
        };
        Self(configured.into_iter().map(issuer).collect())
    }

    /// Looks every issuer up once, so that the log of the start names those that cannot be reached.
    pub async fn look_up(&self) {
        let reached = self.0.iter().filter(|trusted| trusted.keys_file.is_none()).map(|trusted| async move {
            if trusted.issuer.metadata().await.is_ok() {
                tracing::info!(issuer = %trusted.issuer.url(), "exchange of workloads' tokens");
            }
        });
        futures::future::join_all(reached).await;
    }

    /// The issuer that a token names.
    pub fn of(&self, token: &str) -> Option<&TrustedIssuer> {
        let named = named_issuer(token)?;
        self.0.iter().find(|trusted| trusted.issuer.url().as_str() == named)
    }
}

impl TrustedIssuer {
    /// Its address.
    pub fn url(&self) -> &IssuerUrl {
        self.issuer.url()
    }

    /// Verifies a token for the audience that it names itself: whether an account expects that one is looked at later, so that
    /// a token that is not valid is refused in the same way for every account.
    ///
    /// # Errors
    /// When the token is not valid, or the issuer's keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Claims, Untrusted> {
        let named = named_audiences(token);
        let audience = named.first().map_or(NO_AUDIENCE, String::as_str);
        let expected = Expected { issuer: self.issuer.url(), audience, kind: TokenKind::Workload };
        let verified = match &self.keys_file {
            Some(file) => {
                let keys = file.keys().await.ok_or(Untrusted::Keys)?;
                verify(token, &keys, &expected, clock::now()).map_err(VerifyError::Token)
            }
            None => self.issuer.verify(token, &expected).await,
        };
        verified.map_err(|error| match error {
            VerifyError::Token(TokenError::Audience) => Untrusted::Audience,
            VerifyError::Token(error) => Untrusted::Token(error),
            VerifyError::Issuer(_) => Untrusted::Keys,
        })
    }
}
