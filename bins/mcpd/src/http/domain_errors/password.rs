//! The errors of a changed password.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;

use crate::{
    http::error::HttpError, issuance::IssueError, passwords::PasswordError, writes::session::SessionRefusal,
};

impl From<PasswordError> for HttpError {
    fn from(error: PasswordError) -> Self {
        let message = error.to_string();
        match error {
            PasswordError::None(_) => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "no_password", message)
                    .hint("an administrator sets a user's password: `mcpctl passwd NAME`")
            }
            // No 401: the credential is valid, and a client must not sign in anew.
            PasswordError::NotVerified(IssueError::Denied(SessionRefusal::WrongCredentials)) => Self::new(
                StatusCode::FORBIDDEN,
                ErrorKind::PermissionError,
                "wrong_password",
                "the present password is wrong",
            )
            .field("current")
            .hint("an administrator can set a new one: `mcpctl passwd NAME`"),
            PasswordError::NotVerified(error) => error.into(),
            PasswordError::Length | PasswordError::Same => Self::invalid("new", message),
            PasswordError::Write(failure) => failure.into(),
        }
    }
}
