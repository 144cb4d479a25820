//! Reads query strings: unknown or malformed parameters are errors. And the label selector of lists.

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use mcpctl_api::selector::{Selector, SelectorError};
use serde::{Deserialize, de::DeserializeOwned};

use super::error::HttpError;

/// A query string, parsed.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        read(&parts.uri).map(Self)
    }
}

/// The query of an address.
///
/// # Errors
/// A parameter that is unknown or malformed.
pub fn read<T: DeserializeOwned>(address: &Uri) -> Result<T, HttpError> {
    axum::extract::Query::<T>::try_from_uri(address)
        .map(|query| query.0)
        .map_err(|error| HttpError::invalid("", format!("the query string: {}", root_cause(&error))))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListQuery {
    label_selector: Option<String>,
}

impl ListQuery {
    /// The label selector; without one, everything is selected.
    ///
    /// # Errors
    /// A selector that does not parse, with its place.
    pub fn selector(&self) -> Result<Selector, HttpError> {
        self.label_selector.as_deref().unwrap_or_default().parse().map_err(|error: SelectorError| {
            HttpError::invalid("labelSelector", error.to_string()).hint(SelectorError::HINT)
        })
    }
}
