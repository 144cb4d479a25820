//! Errors of questions about usage.

use std::time::Duration;

use crate::{http::error::HttpError, usage::UsageError};

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
            UsageError::OwnShare => Self::unavailable(&message)
                .hint("one is answered at a time for each account: wait for those, then ask again")
                .retry_after(RETRY_AFTER),
            UsageError::Busy => Self::unavailable(&message).hint("ask again").retry_after(RETRY_AFTER),
            UsageError::TooLong => Self::unavailable(&message)
                .hint("ask for a shorter time, for fewer parts, or for one account or Llm")
                .retry_after(RETRY_AFTER),
            UsageError::Store(error) => error.into(),
        }
    }
}
