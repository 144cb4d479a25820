//! What goes into the pipeline and what comes out of it, without a status code.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcpctl_access::Denied;
use mcpctl_api::Name;
use mcpctl_dialect::{Operation, RequestError, translate::Untranslatable};
use mcpctl_failover::FailureClass;
use mcpctl_relay::{CuttableBody, ExchangeError};
use mcpctl_store::StoreError;
use mcpctl_upstream::{Failure, WholeAnswer, hops::HopError};

use super::{access::AccessEnded, in_flight::TooManyRequests, route::Misconfigured};
use crate::limits::{LimitError, Standing};

/// A request for inference.
pub struct InferenceRequest {
    /// The operation.
    pub operation: Operation,
    /// Name or id of the Llm from the path; the body's `model` names it otherwise.
    pub llm: Option<String>,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

/// The result of attempts at a provider.
pub struct InferenceResponse {
    /// The name of the Llm that answers.
    pub llm: Name,
    /// How many attempts were made, at all Llms.
    pub attempts: u32,
    /// How the Llm that the caller asked for failed, where a fallback answers.
    pub failover: Option<FailureClass>,
    /// What the provider returned.
    pub outcome: InferenceOutcome,
    /// How the caller's Limits stand.
    pub standings: Vec<Standing>,
}

/// What the provider returned.
pub enum InferenceOutcome {
    /// A whole response.
    Whole(WholeAnswer),
    /// A stream that has begun.
    Stream {
        /// The provider's status.
        status: StatusCode,
        /// The provider's headers.
        headers: HeaderMap,
        /// The events. They account for themselves when they end.
        body: CuttableBody,
    },
    /// The failure of the last attempt.
    Failed {
        /// The failure.
        failure: Failure,
        /// Whether the caller may view and edit the Llm, and so learn where it points.
        may_edit: bool,
    },
}

/// Why no attempt was made.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The request has passed this process before, or too many daemons.
    #[error(transparent)]
    Hops(#[from] HopError),
    /// The body cannot be read.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// The caller may not run the Llm.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A field by which the provider would choose another model, and that the Llm does not allow.
    #[error("`{field}` would let the provider choose the model or the place by itself")]
    ChoosesUpstream {
        /// The field.
        field: String,
        /// The Llm.
        llm: Name,
    },
    /// The Llm's provider serves nothing that can answer the operation.
    #[error(transparent)]
    Untranslatable(#[from] Untranslatable),
    /// The Llm's credential cannot be used.
    #[error("{error}")]
    Misconfigured {
        /// The cause.
        #[source]
        error: Misconfigured,
        /// The Llm.
        llm: Name,
        /// Whether the caller may view and edit the Llm.
        may_edit: bool,
    },
    /// The caller's access has ended while the request ran.
    #[error(transparent)]
    AccessEnded(#[from] AccessEnded),
    /// Too many requests are in flight.
    #[error(transparent)]
    TooMany(#[from] TooManyRequests),
    /// A Limit does not admit the request.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The decision or the usage could not be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ExchangeError> for InferenceError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Field(error) => Self::Malformed(error),
            ExchangeError::Untranslatable(error) => Self::Untranslatable(error),
        }
    }
}
