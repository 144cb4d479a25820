//! The requests about people: sessions, tokens, passwords, and what accounts may do.

use mcpctl_api::{
    Kind, Resource,
    question::{
        CanI, CanIAnswer, ExchangeRequest, IssuedToken, LoginRequest, PasswordChange, Rights,
        RotationRequest, TokenRequest, WhoAmI, WhoCan,
    },
    spec::Subject,
    throttle::LiftThrottle,
    token_status::{TokenStatus, TokenStatusList},
};
use reqwest::Method;

use super::Client;
use crate::error::ClientError;

impl Client {
    /// Makes a token; the answer is the only one that holds it.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the requests below.
    pub async fn create_token(&self, wanted: &TokenRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "tokens"])?.json(wanted)).await
    }

    /// Judges whether such a token could be made, and makes none.
    pub async fn try_token(&self, wanted: &TokenRequest) -> Result<Resource, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "tokens"])?;
        self.read(request.query(&[("dryRun", true)]).json(wanted)).await
    }

    /// Judges whether a token could be rotated so, and rotates none.
    pub async fn try_rotation(
        &self,
        id_or_name: &str,
        wanted: &RotationRequest,
    ) -> Result<Resource, ClientError> {
        let path = ["api", "v1", Kind::Token.plural(), id_or_name, "rotate"];
        self.read(self.request(Method::POST, &path)?.query(&[("dryRun", true)]).json(wanted)).await
    }

    /// Gives a token a new secret; the answer is the only one that holds it.
    pub async fn rotate_token(
        &self,
        id_or_name: &str,
        wanted: &RotationRequest,
    ) -> Result<IssuedToken, ClientError> {
        let path = ["api", "v1", Kind::Token.plural(), id_or_name, "rotate"];
        self.read(self.request(Method::POST, &path)?.json(wanted)).await
    }

    /// Whether a token is accepted, and when it was last used.
    pub async fn token_status(&self, id_or_name: &str) -> Result<TokenStatus, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", Kind::Token.plural(), id_or_name, "status"])?)
            .await
    }

    /// The same of every token that the caller may view.
    pub async fn token_statuses(&self) -> Result<TokenStatusList, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "auth", "token-status"])?).await
    }

    /// Exchanges a password for a token.
    pub async fn login(&self, login: &LoginRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "login"])?.json(login)).await
    }

    /// Exchanges a workload's own token for one of a service account.
    pub async fn exchange(&self, exchange: &ExchangeRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "token-exchange"])?.json(exchange)).await
    }

    /// Ends the session of this client's token.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["api", "v1", "auth", "logout"])?).await.map(drop)
    }

    /// Who is calling.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "auth", "whoami"])?).await
    }

    /// Whether the caller may do something, and why.
    pub async fn can_i(&self, question: &CanI) -> Result<CanIAnswer, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "can-i"])?.json(question)).await
    }

    /// Who may do something, and why.
    pub async fn who_can(&self, verb: &str, kind: &str, name: &str) -> Result<WhoCan, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "auth", "who-can"])?;
        self.read(request.query(&[("verb", verb), ("kind", kind), ("name", name)])).await
    }

    /// How the tokens of an account stand, those of them that the caller may view.
    pub async fn tokens_of(&self, account: &Subject) -> Result<TokenStatusList, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "auth", "token-status"])?;
        self.read(request.query(&[("subject", parameter(account))])).await
    }

    /// Changes the caller's own password.
    pub async fn change_password(&self, change: &PasswordChange) -> Result<(), ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "auth", "password"])?;
        self.send(request.json(change)).await.map(drop)
    }

    /// Lets attempts to sign in count anew.
    pub async fn lift_throttle(&self, lift: &LiftThrottle) -> Result<(), ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "admin", "lift-throttle"])?;
        self.send(request.json(lift)).await.map(drop)
    }

    /// What the caller may do, or another account.
    pub async fn rights(&self, account: Option<&Subject>) -> Result<Rights, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "auth", "rights"])?;
        self.read(match account {
            Some(account) => request.query(&[("subject", parameter(account))]),
            None => request,
        })
        .await
    }
}

/// An account as queries name it.
fn parameter(account: &Subject) -> String {
    format!("{}/{}", account.kind, account.name)
}
