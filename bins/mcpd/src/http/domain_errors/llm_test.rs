//! Errors of tests of Llms.

use axum::http::StatusCode;
use mcpctl_api::ErrorKind;
use mcpctl_failover::FailureClass;

use super::{HttpError, REQUEST_RETRY_AFTER};
use crate::inference::llm_test::LlmTestError;

impl From<LlmTestError> for HttpError {
    fn from(error: LlmTestError) -> Self {
        let message = error.to_string();
        match error {
            LlmTestError::Running => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "test_running", message)
                    .hint("wait for its end")
                    .class(FailureClass::Quota)
                    .retry_after(REQUEST_RETRY_AFTER)
            }
            LlmTestError::Inference(error) => error.into(),
        }
    }
}
