//! Errors as they travel: the shape that OpenAI clients parse, `{"error":{"message","type","code","param"}}`.
//!
//! `hint` is ours: the next step for a person. Clients that do not know it ignore it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::visible;

/// Maximum length of the name of a wrong field, in bytes.
const MAX_PARAM_BYTES: usize = 256;

/// The code of a request that ended because its caller may no longer run the Llm; also in streams, where both daemons know it.
pub const ACCESS_REVOKED: &str = "access_revoked";
/// The code of an answer that ended because mcpd could not confirm the caller's access any more.
pub const ACCESS_UNCONFIRMED: &str = "access_unconfirmed";

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// The one member of the body.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// One line, lower case, no full stop.
    pub message: String,
    /// The family of the error, e.g. `permission_error`.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// A stable word for programs, e.g. `forbidden`.
    pub code: Option<String>,
    /// The field that is wrong, e.g. `rules[0].verbs`.
    pub param: Option<String>,
    /// The next step for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Families of errors; each belongs to one HTTP status or a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// 400, 413, 415, 422: the request cannot be understood or breaks a rule.
    InvalidRequestError,
    /// 401: no credential, or one that is not known.
    AuthenticationError,
    /// 403: the caller may not do this.
    PermissionError,
    /// 404: there is no such resource, and the caller may know that.
    NotFoundError,
    /// 409, 412: the resource is not at the revision or in the state that the request expects.
    ConflictError,
    /// 429: too many requests or too much used.
    RateLimitError,
    /// 502, 504: the provider behind an Llm failed.
    UpstreamError,
    /// 500, 503: our own fault.
    ServerError,
    /// A family of another program's error.
    #[serde(other)]
    Other,
}

impl ApiError {
    /// An error with a stable code and a message.
    pub fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            error: ErrorBody {
                message: message.into(),
                kind,
                code: Some(code.to_owned()),
                param: None,
                hint: None,
            },
        }
    }

    /// Names the field that is wrong. A request's own key can be as long as its body, so a long one is cut.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(visible::short(&param.into(), MAX_PARAM_BYTES));
        self
    }

    /// Adds the next step for a person.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }
}
