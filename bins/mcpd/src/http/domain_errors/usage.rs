//! Errors of questions about records and about the rights of all accounts.

use std::time::Duration;

use crate::{
    http::error::HttpError,
    record_questions::{NoAnswer, NoTurn},
    usage::UsageError,
};

/// `Retry-After` of a question that is not answered now.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl From<UsageError> for HttpError {
    fn from(error: UsageError) -> Self {
        let message = error.to_string();
        match error {
            UsageError::Empty => Self::invalid("until", message),
            UsageError::TooManyDays => {
                Self::invalid("since", message).hint("ask for a shorter time, or not by day")
            }
            UsageError::TooManyParts(_) => {
                Self::invalid("by", message).hint("ask for less: name fewer parts, a shorter time, or an Llm")
            }
            UsageError::TooLong => Self::unavailable(&message)
                .hint("ask for a shorter time, for fewer parts, or for one account or Llm")
                .retry_after(RETRY_AFTER),
            UsageError::Store(error) => error.into(),
        }
    }
}

impl From<NoTurn> for HttpError {
    fn from(error: NoTurn) -> Self {
        let hint = match error {
            NoTurn::OwnShare => "one is answered at a time for each account: wait for those, then ask again",
            NoTurn::Busy => "ask again",
        };
        Self::unavailable(&error.to_string()).hint(hint).retry_after(RETRY_AFTER)
    }
}

impl From<NoAnswer> for HttpError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::NoTurn(error) => error.into(),
            NoAnswer::Panicked(error) => {
                tracing::error!(%error, "a question about rights could not be answered");
                Self::internal()
            }
        }
    }
}
