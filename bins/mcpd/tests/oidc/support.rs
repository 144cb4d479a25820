//! An mcpd that trusts a provider, and what a program sends to sign in there.

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    issuer::ScriptedIssuer,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

pub const CLIENT: &str = "mcpctl";

/// An mcpd with a provider `corp`; `more` are further keys of the entry.
pub struct World {
    pub mcpd: Mcpd,
    pub provider: ScriptedIssuer,
}

impl World {
    pub async fn start(more: &str) -> Self {
        Self::start_with(more, "").await
    }

    /// As [`World::start`]; `rest` are further keys of the configuration.
    pub async fn start_with(more: &str, rest: &str) -> Self {
        let provider = ScriptedIssuer::start().await;
        let mcpd = trusting(&provider.url(), more, rest).await;
        Self { mcpd, provider }
    }

    /// What the provider vouches for: an account with these further claims.
    pub fn vouch(&self, subject: &str, more: Value) {
        let mut claims = self.provider.claims(CLIENT, subject);
        let claims_of = claims.as_object_mut().unwrap();
        claims_of.insert("nonce".to_owned(), "nonce-1".into());
        claims_of.insert("preferred_username".to_owned(), subject.into());
        claims_of.extend(more.as_object().unwrap().clone());
        self.provider.grant(&claims);
    }

    pub async fn sign_in(&self) -> Response {
        sign_in(&self.mcpd).await
    }

    /// The token of a sign-in that succeeds.
    pub async fn token(&self) -> String {
        let answer = self.sign_in().await;
        let (status, body): (_, Value) = (answer.status(), answer.json().await.unwrap());
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    pub async fn user(&self, name: &str) -> Value {
        self.mcpd.get(&format!("/api/v1/users/{name}"), &self.mcpd.admin()).await.json().await.unwrap()
    }
}

pub fn config(issuer: &str, more: &str, rest: &str) -> String {
    format!("oidc:\n  - {{name: corp, issuer: '{issuer}', clientId: {CLIENT}, {more}}}\n{rest}")
}

pub async fn trusting(issuer: &str, more: &str, rest: &str) -> Mcpd {
    let config = config(issuer, more, rest);
    Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await
}

pub async fn sign_in(mcpd: &Mcpd) -> Response {
    let login = json!({
        "issuer": "corp", "code": "code-1", "verifier": "v".repeat(43), "nonce": "nonce-1", "redirectPort": 4711,
    });
    mcpd.post("/api/v1/auth/oidc/code", "", &login).await
}

/// Status, code and message of a refusal.
pub async fn refusal(answer: Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}
