//! Reads a form, once it is known that a page of this browser's session has sent it.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use mcpctl_api::{ErrorKind, error::ErrorBody};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::{
    super::{error::HttpError, query::root_cause},
    visit::Visit,
};

/// The hidden field with the form token.
const TOKEN_FIELD: &str = "form_token";

/// The fields of a form.
pub struct Form<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let visit = request.extensions().get::<Visit>().cloned().ok_or_else(HttpError::internal)?;
        let (parts, body) = request.into_parts();
        // Read within its limits already.
        let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| HttpError::internal())?;
        let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == TOKEN_FIELD);
        match (tokens.next(), tokens.next()) {
            (Some((_, token)), None) if visit.form_token.matches(&token) => {}
            _ => {
                return Err(HttpError::new(
                    StatusCode::FORBIDDEN,
                    ErrorKind::PermissionError,
                    "stale_form",
                    "this form was not made for your session, or the session has ended",
                )
                .hint("go back, reload the page, and send the form again"));
            }
        }
        let request = Request::from_parts(parts, Body::from(body));
        match axum::Form::<T>::from_request(request, state).await {
            Ok(form) => Ok(Self(form.0)),
            Err(error) => {
                Err(HttpError::invalid("", format!("the form cannot be read: {}", root_cause(&error))))
            }
        }
    }
}

/// Whether an error is about a field: of its own name, or of a document's field of this name.
pub fn is_about(error: Option<&ErrorBody>, field: &str) -> bool {
    let param = error.and_then(|error| error.param.as_deref());
    let rest = param.and_then(|param| param.strip_prefix(field));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_about_the_field_that_it_names() {
        let about = |param: &str, field| is_about(Some(HttpError::invalid(param, "wrong").body()), field);
        assert!(about("hosts", "hosts") && about("hosts[0]", "hosts") && about("data.token", "data"));
        assert!(!about("hosts", "host") && !about("", "hosts") && !is_about(None, "hosts"));
    }
}
