//! Reads query strings: unknown or malformed parameters are errors. And what lists take: a label selector and a page.

use std::borrow::Cow;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use mcpctl_api::{
    Kind, Name,
    selector::{Selector, SelectorError},
    spec::{Subject, SubjectKind},
};
use serde::{
    Deserialize,
    de::{
        DeserializeOwned,
        value::{self, MapDeserializer},
    },
};

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
    axum::extract::Query::<T>::try_from_uri(address).map(|query| query.0).map_err(|error| malformed(&error))
}

/// Fields of a query, each of which reads its value from the text itself.
///
/// # Errors
/// A parameter that is unknown or malformed.
pub fn from_texts<T: DeserializeOwned>(pairs: Vec<(Cow<'_, str>, Cow<'_, str>)>) -> Result<T, HttpError> {
    let fields = MapDeserializer::<_, value::Error>::new(pairs.into_iter());
    T::deserialize(fields).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn std::error::Error) -> HttpError {
    HttpError::invalid("", format!("the query string: {}", root_cause(error)))
}

/// What an error of serde is about, without the words around it.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The account of a parameter `subject`: `user/alice`, or a name that is a user's.
///
/// # Errors
/// What names no user or service account.
pub fn account(text: &str) -> Result<Subject, HttpError> {
    let wrong = || HttpError::invalid("subject", "an account is `user/NAME` or `serviceaccount/NAME`");
    let (kind, name) = text.split_once('/').unwrap_or(("user", text));
    let kind = match kind.parse::<Kind>().map_err(|_| wrong())? {
        Kind::User => SubjectKind::User,
        Kind::ServiceAccount => SubjectKind::ServiceAccount,
        _ => return Err(wrong()),
    };
    Ok(Subject { kind, name: name.parse().map_err(|_| wrong())? })
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListQuery {
    label_selector: Option<String>,
    after: Option<Name>,
    limit: Option<usize>,
}

/// Items of a page by default.
const DEFAULT_ITEMS: usize = 100;
/// Maximum of items of a page, and of those that are looked at for it.
pub const MAX_ITEMS: usize = 1000;

/// A part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// It begins after this name.
    pub after: &'a str,
    /// Maximum of items.
    pub limit: usize,
    /// Maximum of permitted items that are looked at, because a selector may match few.
    pub looked_at: usize,
}

impl ListQuery {
    /// A page of this many items, after this name.
    pub const fn after(after: Option<Name>, limit: usize) -> Self {
        Self { label_selector: None, after, limit: Some(limit) }
    }

    /// The page that is asked for; everything where neither `limit` nor `after` is.
    ///
    /// # Errors
    /// A `limit` that is out of range.
    pub fn page(&self) -> Result<Page<'_>, HttpError> {
        let (limit, looked_at) = match (self.limit, &self.after) {
            (Some(limit), _) if !(1..=MAX_ITEMS).contains(&limit) => {
                let message = format!("`{limit}` is not between 1 and {MAX_ITEMS}");
                return Err(HttpError::invalid("limit", message));
            }
            (Some(limit), _) => (limit, MAX_ITEMS),
            (None, Some(_)) => (DEFAULT_ITEMS, MAX_ITEMS),
            (None, None) => (usize::MAX, usize::MAX),
        };
        Ok(Page { after: self.after.as_ref().map_or("", Name::as_str), limit, looked_at })
    }

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
