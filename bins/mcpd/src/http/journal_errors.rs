//! Maps the refusals of agents' journals to error responses.

use std::time::Duration;

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;
use mcpctl_store::HandOverError;

use super::error::HttpError;
use crate::{
    clock,
    journal::{JournalError, in_progress::Busy, rate::TooManyLines},
};

/// `Retry-After` while another journal is taken over.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// `Retry-After` of an agent beyond the limit.
const AGENTS_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// `Retry-After` where only the retention makes room.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// How long this day lasts (UTC).
fn until_tomorrow() -> Duration {
    let rest = SECONDS_PER_DAY - clock::now().as_second().rem_euclid(SECONDS_PER_DAY);
    Duration::from_secs(rest.unsigned_abs())
}

impl From<JournalError> for HttpError {
    fn from(error: JournalError) -> Self {
        let message = error.to_string();
        let too_many = |message: String| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "too_much_journal", message)
        };
        match error {
            JournalError::Count(_) | JournalError::TooLong(_) => Self::invalid("", message),
            JournalError::Busy(Busy) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "journal_busy", message)
                    .retry_after(BUSY_RETRY_AFTER)
            }
            JournalError::Rate(TooManyLines { retry_after }) => too_many(message).retry_after(retry_after),
            JournalError::HandOver(HandOverError::TooManyAgents(_)) => too_many(message)
                .hint("one that hands over nothing for 30 days is forgotten; an administrator can raise `limits.journal.agents`")
                .retry_after(AGENTS_RETRY_AFTER),
            JournalError::HandOver(HandOverError::DayFull(_)) => too_many(message)
                .hint("the rest waits at the agent until tomorrow (UTC); an administrator can raise `limits.journal.perDay`")
                .retry_after(until_tomorrow()),
            JournalError::HandOver(HandOverError::Full(_)) => too_many(message)
                .hint("an administrator can raise `limits.journal.total`, or lower `limits.records.audit`")
                .retry_after(FULL_RETRY_AFTER),
            JournalError::HandOver(HandOverError::DoesNotContinue(_)) => {
                Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, "journal_gap", message)
                    .hint("send the lines in between, or `?gap=true` where they are lost")
            }
            JournalError::HandOver(HandOverError::Store(error)) => error.into(),
        }
    }
}
