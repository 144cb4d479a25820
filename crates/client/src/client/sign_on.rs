//! The requests of a sign-in by an OpenID provider.

use mcpctl_api::{
    oidc::{CodeLogin, DeviceLogin, DeviceLoginRequest, DevicePending, DevicePoll, SignInMethods},
    question::IssuedToken,
};
use reqwest::{Method, StatusCode};

use super::Client;
use crate::error::ClientError;

/// The answer to a poll of a device code.
#[derive(Debug, Clone)]
pub enum DeviceAnswer {
    /// The person has not approved yet.
    Pending(DevicePending),
    /// The session's token.
    Issued(IssuedToken),
}

impl Client {
    /// The ways to sign in.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the requests below.
    pub async fn sign_in_methods(&self) -> Result<SignInMethods, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "auth", "methods"])?).await
    }

    /// Exchanges the code of an OpenID provider for a session.
    pub async fn login_with_code(&self, login: &CodeLogin) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "oidc", "code"])?.json(login)).await
    }

    /// Begins a sign-in with a device code.
    pub async fn begin_device(&self, issuer: &str) -> Result<DeviceLogin, ClientError> {
        let body = DeviceLoginRequest { issuer: issuer.to_owned() };
        self.read(self.request(Method::POST, &["api", "v1", "auth", "oidc", "device"])?.json(&body)).await
    }

    /// Asks once whether a device code was approved.
    pub async fn poll_device(&self, poll: &DevicePoll) -> Result<DeviceAnswer, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "auth", "oidc", "device", "poll"])?;
        let answer = self.send(request.json(poll)).await?;
        if answer.status() == StatusCode::ACCEPTED {
            return Ok(DeviceAnswer::Pending(self.json(answer).await?));
        }
        Ok(DeviceAnswer::Issued(self.json(answer).await?))
    }
}
