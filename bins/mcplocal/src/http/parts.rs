//! The variable parts of an address and its query; what cannot be read is an error in the shape of all others.

use axum::{
    extract::{FromRequestParts, MatchedPath, Path as AxumPath, Query as AxumQuery, Request},
    http::{Uri, request::Parts},
};
use mcpctl_api::visible::short;
use mcpctl_server::unknown_parameter;
use serde::de::DeserializeOwned;

use super::error::LocalHttpError;

/// The variable parts of a path read into a type.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = LocalHttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, LocalHttpError> {
        match AxumPath::<T>::from_request_parts(parts, state).await {
            Ok(AxumPath(path)) => Ok(Self(path)),
            Err(_) => Err(LocalHttpError::invalid("", "the address is not UTF-8 in percent-encoding")
                .hint("write a name or an id; letters that no name has need not be encoded")),
        }
    }
}

/// A query string read into a type.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = LocalHttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, LocalHttpError> {
        query(&parts.uri).map(Self)
    }
}

/// The query of an address.
///
/// # Errors
/// A parameter that is unknown or malformed.
pub fn query<T: DeserializeOwned>(address: &Uri) -> Result<T, LocalHttpError> {
    AxumQuery::<T>::try_from_uri(address).map(|query| query.0).map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        LocalHttpError::invalid("", format!("the query string: {}", short(&cause.to_string(), 256)))
    })
}

/// The query parameters of a route.
fn parameters(route: &str) -> &'static [&'static str] {
    match route {
        // `beta`, sent by Anthropic's clients, changes nothing; `client_version`, sent by Codex, adds `models`.
        "/v1/models" => &["limit", "after_id", "before_id", "beta", "client_version"],
        "/v1/models/{*model}" | "/v1/messages" | "/v1/messages/count_tokens" => &["beta"],
        "/api/v1/engines/{name}/logs" => &["previous", "follow"],
        _ => &[],
    }
}

/// Rejects query parameters that a route does not have.
pub fn known_parameters(request: &Request) -> Result<(), LocalHttpError> {
    let route = request.extensions().get::<MatchedPath>();
    if let (Some(route), Some(query)) = (route, request.uri().query()) {
        let known = parameters(route.as_str());
        if let Some(name) = unknown_parameter(query, known) {
            let hint = match known {
                [] => "it has none: leave the query out".to_owned(),
                known => format!("it has {}", known.join(", ")),
            };
            let message = format!("`{name}` is not a query parameter of this address");
            return Err(LocalHttpError::invalid(&name, message).hint(hint));
        }
    }
    Ok(())
}
