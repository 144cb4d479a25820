//! Query strings: unknown or malformed parameters are errors, and labels can be selected.

use axum::{extract::FromRequestParts, http::request::Parts};
use mcpctl_api::resource::Labels;
use serde::{Deserialize, de::DeserializeOwned};

use super::error::HttpError;

/// A query string read into a type.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| HttpError::invalid("", format!("the query string: {}", root_cause(&error))))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a list can be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListQuery {
    label_selector: Option<String>,
}

impl ListQuery {
    /// The selector that was asked for; all match where none was.
    ///
    /// # Errors
    /// A part that is neither `key`, `key=value` nor `key!=value`.
    pub fn selector(&self) -> Result<Selector, HttpError> {
        let parts = self.label_selector.as_deref().unwrap_or_default().split(',').filter(|p| !p.is_empty());
        parts.map(Requirement::parse).collect::<Result<_, _>>().map(Selector)
    }
}

/// Labels that resources must have; all of them.
#[derive(Debug)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug)]
enum Requirement {
    Exists(String),
    Equals(String, String),
    Differs(String, String),
}

impl Requirement {
    fn parse(part: &str) -> Result<Self, HttpError> {
        let own = |text: &str| text.trim().to_owned();
        let parsed = if let Some((key, value)) = part.split_once("!=") {
            Self::Differs(own(key), own(value))
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            Self::Equals(own(key), own(value))
        } else {
            Self::Exists(own(part))
        };
        let (Self::Exists(key) | Self::Equals(key, _) | Self::Differs(key, _)) = &parsed;
        if key.is_empty() || key.contains(char::is_whitespace) {
            let message = format!("`{part}` is not a label selector");
            return Err(HttpError::invalid("labelSelector", message).hint("write e.g. `team=a,tier!=dev`"));
        }
        Ok(parsed)
    }
}

impl Selector {
    /// Whether all requirements hold.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Equals(key, value) => labels.get(key) == Some(value),
            Requirement::Differs(key, value) => labels.get(key) != Some(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str) -> bool {
        let labels: Labels = [("team".to_owned(), "a".to_owned())].into();
        let query = ListQuery { label_selector: Some(selector.to_owned()) };
        query.selector().unwrap().matches(&labels)
    }

    #[test]
    fn selectors_read_as_in_kubectl() {
        for yes in ["", "team", "team=a", "team==a", "team!=b", "tier!=dev", "team=a,tier!=dev"] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["tier", "team=b", "team!=a", "team=a,tier=dev"] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let query = ListQuery { label_selector: Some("=a".to_owned()) };
        assert!(query.selector().is_err());
    }
}
