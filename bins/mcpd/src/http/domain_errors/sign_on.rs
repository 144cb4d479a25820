//! The errors of a sign-in by an OpenID provider.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;
use mcpctl_issuer::ExchangeError;

use super::HttpError;
use crate::{
    sign_on::{SignOnDenial, providers::ProviderError},
    writes::sign_on::SignOnRefusal,
};

impl From<SignOnDenial> for HttpError {
    fn from(denial: SignOnDenial) -> Self {
        let message = denial.to_string();
        match denial {
            SignOnDenial::Provider(ProviderError::NoProvider(_)) => {
                Self::invalid("issuer", message).hint("`GET /api/v1/auth/methods` lists the providers")
            }
            SignOnDenial::Provider(ProviderError::NoDeviceCode(_)) => Self::invalid("issuer", message)
                .hint("sign in with a browser, or have the operator set `deviceCode: true` for the provider"),
            SignOnDenial::Exchange(error) => exchange(&error),
            SignOnDenial::Provider(ProviderError::Groups { .. }) => denied("groups_unreadable", message)
                .hint("have the operator of the provider correct the claim"),
            SignOnDenial::Refused(refusal) => refusal.into(),
        }
    }
}

fn exchange(error: &ExchangeError) -> HttpError {
    let message = error.to_string();
    match error {
        ExchangeError::Refused(_) | ExchangeError::Pending { .. } => {
            HttpError::unauthenticated(&message).hint("begin the sign-in again")
        }
        ExchangeError::Token(_) => HttpError::unauthenticated(&message)
            .hint("begin the sign-in again; the log of mcpd has the reason for its operator"),
        ExchangeError::NotOffered => HttpError::invalid("issuer", message),
        ExchangeError::Client(_) => unavailable(&message).hint(
            "have the operator of mcpd compare `clientId`, `clientSecretFile` and `scopes` with the provider",
        ),
        ExchangeError::Issuer(_) => {
            unavailable(&message).hint("try again, or sign in with a password: `mcpctl login --password`")
        }
    }
}

impl From<SignOnRefusal> for HttpError {
    fn from(refusal: SignOnRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            SignOnRefusal::Unlinked { issuer, subject } => denied("not_linked", message)
                .hint(format!("ask an administrator to link your user: {}", link(&issuer, &subject))),
            SignOnRefusal::Disabled => denied("disabled", message).hint("ask an administrator"),
            SignOnRefusal::VoidLink => {
                denied("void_link", message).hint("ask an administrator to link it again")
            }
            SignOnRefusal::NotAdmitted { origin, .. } => denied("not_admitted", message).hint(format!(
                "sign in with another account, or ask an administrator to link your user: {}",
                link(&origin.issuer, &origin.subject)
            )),
            SignOnRefusal::TooMany { .. } => denied("too_many_users", message).hint(
                "ask an administrator to link your user, or the operator to raise `autoCreate.maxUsers`",
            ),
            SignOnRefusal::NotStated { .. } => denied("no_name", message).hint(
                "have the provider put it into the ID token, or the operator add its scope to `scopes`",
            ),
            SignOnRefusal::NoName { .. } => {
                denied("no_name", message).hint("ask an administrator to create a user and link it")
            }
            SignOnRefusal::NameTaken { issuer, subject, .. } => denied("name_taken", message).hint(format!(
                "if the user is yours, ask an administrator to link it: {}",
                link(&issuer, &subject)
            )),
        }
    }
}

/// What links a user.
fn link(issuer: &mcpctl_api::oidc::IssuerUrl, subject: &str) -> String {
    let external = serde_json::json!({"external": {"issuer": issuer, "subject": subject}});
    format!("mcpctl patch user NAME -p '{external}'")
}

fn denied(code: &'static str, message: String) -> HttpError {
    HttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, code, message)
}

fn unavailable(message: &str) -> HttpError {
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, "provider_unavailable", message)
}
