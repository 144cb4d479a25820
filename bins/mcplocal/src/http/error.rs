//! The agent's own errors as responses. A response of mcpd's never becomes one of these.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use mcpctl_api::{ApiError, ErrorKind, header::ERROR_SOURCE, models::PageError, visible::short};
use mcpctl_secret::query;
use mcpctl_server::BodyError;

use crate::{
    identity::CallerError,
    pipeline::{CallError, Content, ContentBody, MAX_MODEL, OWN},
};

/// An error response of the agent's own.
#[derive(Debug)]
pub struct LocalHttpError {
    status: StatusCode,
    body: Box<ApiError>,
}

impl LocalHttpError {
    /// An error response with a status, a family, a stable code and a message.
    pub fn new(status: StatusCode, kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self { status, body: Box::new(ApiError::new(kind, code, message)) }
    }

    /// 400 with the field that is wrong.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        let Self { status, body } =
            Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidRequestError, "invalid_request", message);
        let body = if param.is_empty() { body } else { Box::new(body.with_param(param)) };
        Self { status, body }
    }

    /// 400 where an address carries a credential: addresses end up in logs and histories, so even a valid one is refused, as
    /// mcpd does.
    pub fn credential_in_address(address: &Uri) -> Option<Self> {
        let message = "a credential does not belong into the address";
        address.query().is_some_and(query::carries_credential).then(|| {
            Self::invalid("", message)
                .hint("send it as `Authorization: Bearer …`, and replace it: addresses are logged")
        })
    }

    /// 500 where something went wrong that the log describes.
    pub fn internal() -> Self {
        let message = "internal error of mcplocal; its log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::ServerError, "internal", message)
    }

    /// 500 where the journal cannot be written.
    pub fn no_journal() -> Self {
        let message = "the agent's journal cannot be written, so nothing may run locally";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::ServerError, "no_journal", message)
            .hint("the log of mcplocal has the reason; make room, or restart it to begin a new journal")
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.error.hint = Some(hint.into());
        self
    }
}

impl LocalHttpError {
    /// The response to a request whose body was not read.
    pub fn body(error: &BodyError) -> Response {
        let invalid = ErrorKind::InvalidRequestError;
        let (status, kind, code) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, invalid, "body_too_large"),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, invalid, "body_too_slow"),
            BodyError::Broken(_) | BodyError::Undecodable { .. } => {
                (StatusCode::BAD_REQUEST, invalid, "body_unreadable")
            }
            BodyError::Encoding { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, invalid, "unsupported_encoding")
            }
            BodyError::CallerBusy { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "bodies_in_flight")
            }
            BodyError::Busy { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, "bodies_in_flight")
            }
        };
        let mut http = Self::new(status, kind, code, error.to_string());
        if let Some(hint) = error.hint() {
            http = http.hint(hint);
        }
        let mut response = http.into_response();
        if let Some(codings) = error.accept_encoding() {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        if let Some(wait) = error.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

impl LocalHttpError {
    /// The error as the content of a response.
    pub fn into_content(self) -> Content {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_SOURCE, HeaderValue::from_static("mcplocal"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let body = mcpctl_server::error_body(&self.body, self.status);
        Content { status: self.status, headers, body: ContentBody::Whole(body) }
    }
}

impl IntoResponse for LocalHttpError {
    fn into_response(self) -> Response {
        self.into_content().into_response()
    }
}

impl From<CallError> for LocalHttpError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Malformed(error) => {
                let http = Self::invalid(error.param().unwrap_or_default(), error.to_string());
                match error.hint() {
                    Some(hint) => http.hint(hint),
                    None => http,
                }
            }
            CallError::Untranslatable(error) => Self::invalid("", error.to_string()),
            CallError::ModelTooLong { bytes } => {
                let message =
                    format!("`model` has {bytes} bytes, and no Llm's name has more than {MAX_MODEL}");
                Self::invalid("model", message)
            }
            CallError::LocalKeyNeeded { provider } => Self::new(
                StatusCode::FORBIDDEN,
                ErrorKind::PermissionError,
                "local_key_needed",
                format!("`{OWN}{}` is for this machine's user", short(&provider, MAX_MODEL)),
            )
            .hint("use the key that `mcpctl local env` prints"),
            CallError::NoSuchProvider { provider } => Self::new(
                StatusCode::NOT_FOUND,
                ErrorKind::NotFoundError,
                "no_such_provider",
                format!("there is no local provider `{}`", short(&provider, MAX_MODEL)),
            )
            .hint("`mcpctl local status` lists them"),
            CallError::FieldNotAllowed { provider, key } => {
                let message = format!("`{key}` would let the server choose the model or the place by itself");
                let hint = format!(
                    "leave it out, or list `{key}` in `allowFields` of the provider `{provider}` in mcplocal.yaml"
                );
                Self::invalid(&key, message).hint(hint)
            }
            CallError::NoJournal => Self::no_journal(),
        }
    }
}

impl From<PageError> for LocalHttpError {
    fn from(error: PageError) -> Self {
        Self::invalid(error.param(), error.to_string())
    }
}

impl From<CallerError> for LocalHttpError {
    fn from(unknown: CallerError) -> Self {
        let code = match unknown {
            CallerError::SignedOut { .. } => "signed_out",
            CallerError::Missing | CallerError::Different | CallerError::Invalid => "unauthenticated",
        };
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::AuthenticationError, code, unknown.to_string())
            .hint(unknown.hint())
    }
}
