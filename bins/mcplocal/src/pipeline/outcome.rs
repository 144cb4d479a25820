//! What comes of a request to a model, in domain types.

use bytes::Bytes;
use mcpctl_dialect::{RequestError, translate::Untranslatable};
use mcpctl_failover::{FailoverRule, FailureClass, LocalError};
use mcpctl_relay::{CuttableBody, ExchangeError};
use mcpctl_upstream::Failure;
use reqwest::{StatusCode, header::HeaderMap};

/// What came of a request to a model.
pub enum Outcome {
    /// The primary answered.
    Primary(Content),
    /// The primary failed, and no local provider answered.
    PrimaryFailed {
        /// The primary's own error.
        failure: Failure,
        /// Why no local provider answered, where the caller may know it.
        no_failover: Option<NoFailover>,
    },
    /// A local provider answered.
    Local {
        /// Its name.
        provider: String,
        /// Why the request fell back to it; `None` where the caller named the provider.
        failover: Option<Fallback>,
        /// Its answer.
        content: Content,
    },
    /// A local provider that the caller may use did not answer.
    LocalFailed {
        /// Its name.
        provider: String,
        /// Why.
        error: LocalError,
    },
    /// The user's own provider rejected the request.
    LocalRejected {
        /// Its name.
        provider: String,
        /// Its error.
        failure: Failure,
    },
    /// The agent rejected the request itself.
    Rejected(CallError),
}

/// Why no local provider answered in place of the primary, as far as the caller may know it.
#[derive(Debug)]
pub enum NoFailover {
    /// The caller was allowed to use the provider, and it did not answer.
    Local(LocalError),
    /// The rule of the Llm that denied a caller who may view it.
    Rule(FailoverRule),
    /// No provider is for the Llm: this machine's user alone learns what its configuration has.
    NoProvider,
    /// mcpd did not decide, and no lease covers the caller; as above.
    Unreachable,
}

/// Why a request fell back to a local provider.
#[derive(Debug, Clone, Copy)]
pub struct Fallback {
    /// How the primary failed, now or before its breaker opened.
    pub class: FailureClass,
    /// Whether the primary was attempted for this request.
    pub primary_called: bool,
}

/// Status, headers and body of an answer.
pub struct Content {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: ContentBody,
}

/// The body of an answer.
pub enum ContentBody {
    /// All of it.
    Whole(Bytes),
    /// Events as they come.
    Stream(CuttableBody),
}

/// Why the agent rejects a request without an attempt.
#[derive(Debug)]
pub enum CallError {
    /// The body is not a request that the agent can read.
    Malformed(RequestError),
    /// The provider's server serves nothing that can answer the operation.
    Untranslatable(Untranslatable),
    /// The name of the model is too long.
    ModelTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Only this machine's user may name a local provider.
    LocalKeyNeeded {
        /// The provider.
        provider: String,
    },
    /// There is no local provider of this name.
    NoSuchProvider {
        /// The name.
        provider: String,
    },
    /// A key by which the provider's server might choose the model by itself.
    FieldNotAllowed {
        /// The provider.
        provider: String,
        /// The key.
        key: String,
    },
    /// The journal cannot be written, so nothing runs locally.
    NoJournal,
}

impl From<RequestError> for CallError {
    fn from(error: RequestError) -> Self {
        Self::Malformed(error)
    }
}

impl From<ExchangeError> for CallError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Field(error) => Self::Malformed(error),
            ExchangeError::Untranslatable(error) => Self::Untranslatable(error),
        }
    }
}
