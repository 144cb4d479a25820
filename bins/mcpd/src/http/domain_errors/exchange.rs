//! Responses to exchanges of tokens that are denied.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;

use crate::{exchange::ExchangeError, http::error::HttpError};

impl From<ExchangeError> for HttpError {
    fn from(error: ExchangeError) -> Self {
        let message = error.to_string();
        match error {
            ExchangeError::TooLong => Self::invalid("expiresIn", message),
            ExchangeError::Issuer => Self::unauthenticated(&message)
                .hint("the administrator lists trusted issuers below `tokenExchange` in mcpd's configuration"),
            ExchangeError::Token(_) => Self::unauthenticated(&message),
            ExchangeError::NotTrusted => Self::unauthenticated(&message)
                .hint("its `trust` lists issuer, audience and subject of the tokens; the account may be disabled too"),
            ExchangeError::Void => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "void_trust", message)
                    .hint("ask an administrator to write `trust` of the service account again")
            }
            ExchangeError::Keys => Self::unavailable(&message),
            ExchangeError::NotChecked(not_checked) => not_checked.into(),
            ExchangeError::Secret => Self::internal(),
            ExchangeError::Store(error) => error.into(),
            ExchangeError::TooManyWriters(error) => error.into(),
        }
    }
}
