//! An error response of mcpd: status, body and headers. [`super::domain_errors`] maps domain errors to it.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mcpctl_api::{
    ApiError, ErrorKind,
    error::ErrorBody,
    header::{ERROR_SOURCE, FAILURE},
    visible,
};
use mcpctl_failover::FailureClass;

/// Maximum length of a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// An error response of mcpd.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    body: Box<ApiError>,
    class: Option<FailureClass>,
    retry_after: Option<Duration>,
    accept_encoding: Option<&'static str>,
    more: Option<Box<HeaderMap>>,
}

impl HttpError {
    /// An error with its status, its family, a stable code and a message.
    pub fn new(status: StatusCode, kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        // Messages repeat texts of the request, which can be as long as a body.
        let message = visible::short(&message.into(), MAX_MESSAGE_BYTES);
        let body = Box::new(ApiError::new(kind, code, message));
        Self { status, body, class: None, retry_after: None, accept_encoding: None, more: None }
    }

    /// 400 with the field that is wrong; an empty `param` names none.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        let error =
            Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidRequestError, "invalid_request", message);
        if param.is_empty() { error } else { error.field(param) }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(self, param: &str) -> Self {
        self.map_body(|body| body.with_param(param))
    }

    /// 401, the same whatever is wrong with the credential.
    pub fn unauthenticated(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::AuthenticationError, "unauthenticated", message)
            .hint("send a valid token as `Authorization: Bearer …`; `mcpctl login` gets one")
            .class(FailureClass::Denied)
    }

    /// 503 while mcpd cannot decide, or shuts down.
    pub fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, "unavailable", message)
            .class(FailureClass::ServerError)
            .retry_after(Duration::from_secs(1))
    }

    /// 500 without details; the log has them.
    pub fn internal() -> Self {
        let message = "internal error of mcpd; its log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::ServerError, "internal", message)
            .class(FailureClass::ServerError)
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.map_body(|body| body.with_hint(hint))
    }

    /// Sets the failure class, for mcplocal.
    #[must_use]
    pub fn class(mut self, class: FailureClass) -> Self {
        self.class = Some(class);
        self
    }

    /// Sets `Retry-After`, rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets the codings in which mcpd reads a body (RFC 7694).
    #[must_use]
    pub fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.accept_encoding = Some(codings);
        self
    }

    /// Adds headers.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.more = Some(Box::new(headers));
        self
    }

    /// Names the document of a batch, from 0, that the error is about.
    #[must_use]
    pub fn in_document(mut self, index: usize) -> Self {
        let at = format!("[{index}]");
        let param = self.body.error.param.take();
        self.body.error.param = Some(match param {
            Some(param) if !param.is_empty() => format!("{at}.{param}"),
            _ => at,
        });
        self
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What the response has of it.
    pub fn body(&self) -> &ErrorBody {
        &self.body.error
    }

    fn map_body(mut self, change: impl FnOnce(ApiError) -> ApiError) -> Self {
        *self.body = change(*self.body);
        self
    }
}

/// An extension of each error response: what the console makes a page of.
#[derive(Debug, Clone)]
pub struct ErrorOfResponse(pub Arc<ErrorBody>);

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = mcpctl_server::error_body(&self.body, self.status);
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(ErrorOfResponse(Arc::new(self.body.error)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(more) = self.more {
            headers.extend(*more);
        }
        headers.insert(ERROR_SOURCE, HeaderValue::from_static("mcpd"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(class) = self.class {
            headers.insert(FAILURE, HeaderValue::from_static(class.as_str()));
        }
        if let Some(codings) = self.accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up, so that a client that obeys does not retry too early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000) as u64));
        }
        response
    }
}
