//! Responses to exchanges of tokens that are denied.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;

use crate::{exchange::ExchangeDenial, http::error::HttpError};

impl From<ExchangeDenial> for HttpError {
    fn from(denial: ExchangeDenial) -> Self {
        let message = denial.to_string();
        match denial {
            ExchangeDenial::TooLong => Self::invalid("expiresIn", message),
            ExchangeDenial::Issuer => Self::unauthenticated(&message)
                .hint("the administrator lists trusted issuers below `tokenExchange` in mcpd's configuration"),
            ExchangeDenial::Token(_) => Self::unauthenticated(&message),
            ExchangeDenial::NotTrusted => Self::unauthenticated(&message)
                .hint("its `trust` lists issuer, audience and subject of the tokens; the account may be disabled too"),
            ExchangeDenial::Void => {
                Self::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "void_trust", message)
                    .hint("ask an administrator to write `trust` of the service account again")
            }
            ExchangeDenial::Keys => Self::unavailable(&message),
        }
    }
}
