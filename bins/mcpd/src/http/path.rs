//! Reads the variable parts of a path; one that cannot be decoded is an error like all others.

use axum::{
    extract::{FromRequestParts, Path as AxumPath},
    http::request::Parts,
};
use mcpctl_api::Kind;
use serde::de::DeserializeOwned;

use super::error::HttpError;

/// The variable parts of a path, parsed.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match AxumPath::<T>::from_request_parts(parts, state).await {
            Ok(AxumPath(path)) => Ok(Self(path)),
            Err(_) => Err(HttpError::invalid("", "the address is not UTF-8 in percent-encoding")
                .hint("write a name or an id; letters that no name has need not be encoded")),
        }
    }
}

/// The kind of a path segment; 404 if there is none.
pub(super) fn kind(segment: &str) -> Result<Kind, HttpError> {
    let kind = Kind::RESOURCES.into_iter().find(|kind| kind.plural() == segment);
    kind.ok_or_else(|| HttpError::no_route(&format!("/api/v1/{segment}")))
}
