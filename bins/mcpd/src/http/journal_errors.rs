//! Maps the refusals of agents' journals to error responses.

use std::time::Duration;

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;
use mcpctl_store::HandOverError;

use super::error::HttpError;
use crate::journal::{JournalError, rate::TooManyLines};

/// `Retry-After` of an agent beyond the limit.
const AGENTS_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl From<JournalError> for HttpError {
    fn from(error: JournalError) -> Self {
        let message = error.to_string();
        let too_many = |message: String| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "too_much_journal", message)
        };
        match error {
            JournalError::Count(_) | JournalError::TooLong(_) => Self::invalid("", message),
            JournalError::Rate(TooManyLines { retry_after }) => too_many(message).retry_after(retry_after),
            JournalError::HandOver(HandOverError::TooManyAgents(_)) => too_many(message)
                .hint("one that hands over nothing for 30 days is forgotten; an administrator can raise `limits.journal.agents`")
                .retry_after(AGENTS_RETRY_AFTER),
            JournalError::HandOver(HandOverError::DoesNotContinue(_)) => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "journal_gap", message)
                    .hint("send the lines in between, or `?gap=true` where they are lost")
            }
            JournalError::HandOver(HandOverError::Store(error)) => error.into(),
        }
    }
}
