//! The errors of sessions.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;

use crate::{
    http::error::HttpError,
    writes::session::{SessionRefusal, TokenSessionRefusal},
};

impl From<SessionRefusal> for HttpError {
    fn from(refusal: SessionRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            SessionRefusal::WrongCredentials => {
                Self::unauthenticated(&message).hint("try again, or ask an administrator")
            }
            // Only the owner of the password gets here, so the message may give the reason.
            SessionRefusal::VoidPassword => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "void_password", message)
                    .hint("ask an administrator to set it again")
            }
        }
    }
}

impl From<TokenSessionRefusal> for HttpError {
    fn from(refusal: TokenSessionRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            TokenSessionRefusal::Rejected(rejected) => rejected.into(),
            TokenSessionRefusal::NoPerson => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "forbidden", message)
                    .hint("sign in with a token of your own user, or with a password")
            }
            TokenSessionRefusal::Session =>
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "forbidden", message)
                    .hint("sign in with a password or a provider, or with a token of your own: mcpctl token create NAME"),
            TokenSessionRefusal::Replaced => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "forbidden", message)
                    .hint("use the new secret")
            }
        }
    }
}
