//! Rejects query parameters that a route does not have. It knows them from the OpenAPI document, so that a parameter
//! that is read is documented too.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
};
use mcpctl_failover::FailureClass;
use mcpctl_server::unknown_parameter;
use utoipa::openapi::{
    RefOr,
    path::{Operation, ParameterIn, PathItem},
};

use super::error::HttpError;

/// Rejects a query with a parameter that the route does not have.
pub fn known_only(request: &Request) -> Result<(), HttpError> {
    let route = request.extensions().get::<MatchedPath>();
    if let (Some(route), Some(query)) = (route, request.uri().query()) {
        let known = of_route(request.method(), route.as_str());
        if let Some(name) = unknown_parameter(query, &known) {
            return Err(rejection(&name, &known));
        }
    }
    Ok(())
}

fn rejection(name: &str, known: &[&str]) -> HttpError {
    let message = format!("`{name}` is not a query parameter of this address");
    let hint = match known {
        [] => "it has none: leave the query out".to_owned(),
        known => format!("it has {}", known.join(", ")),
    };
    HttpError::invalid(name, message).hint(hint).class(FailureClass::Rejected)
}

/// The parameters of a route.
fn of_route(method: &Method, route: &str) -> Vec<&'static str> {
    static DOCUMENTED: LazyLock<HashMap<(Method, String), Vec<String>>> = LazyLock::new(documented);
    // HEAD is the GET without its body.
    let method = if *method == Method::HEAD { Method::GET } else { method.clone() };
    let known = DOCUMENTED.get(&(method, route.to_owned()));
    known.into_iter().flatten().map(String::as_str).collect()
}

fn documented() -> HashMap<(Method, String), Vec<String>> {
    let mut known = HashMap::new();
    for (path, item) in super::openapi().paths.paths {
        for (method, operation) in operations(item) {
            let parameters = operation.parameters.unwrap_or_default().into_iter();
            let names = parameters.filter_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name),
                _ => None,
            });
            known.entry((method, super::served_path(&path))).or_insert_with(Vec::new).extend(names);
        }
    }
    known
}

fn operations(item: PathItem) -> impl Iterator<Item = (Method, Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let operations = [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::PATCH, patch),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}
