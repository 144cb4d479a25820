//! The issuers of workloads' tokens that the configuration lists, and what verifies their tokens.

use std::path::PathBuf;

use mcpctl_api::oidc::IssuerUrl;
use mcpctl_issuer::{
    Claims, Expected, Issuer, Keys, TokenError, TokenKind, VerifyError, named_audiences, named_issuer, verify,
};
use mcpctl_upstream::Client;

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
    keys_file: Option<PathBuf>,
}

impl TrustedIssuers {
    /// The issuers of the configuration; nothing is fetched yet.
    pub fn new(configured: Vec<ExchangeIssuer>, client: &Client) -> Self {
        let issuer = |ExchangeIssuer { issuer, keys_file }| TrustedIssuer {
            issuer: Issuer::new(issuer, client.clone()),
            keys_file,
        };
        Self(configured.into_iter().map(issuer).collect())
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
            // Read each time, so that a rotation of the keys takes no restart.
            Some(path) => {
                let keys = tokio::fs::read(path).await.ok().and_then(|json| Keys::read(&json).ok());
                verify(token, &keys.ok_or(Untrusted::Keys)?, &expected, clock::now())
                    .map_err(VerifyError::Token)
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
