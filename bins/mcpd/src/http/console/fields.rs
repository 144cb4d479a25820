//! Fields of a page's form as its address has them: one that is left empty is not given. And addresses of pages that keep them, and of the
//! pages of a list.

use std::{fmt::Display, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};
use mcpctl_api::{Name, name::NameError};
use serde::{Deserialize, Deserializer, de::Error as _};
use url::form_urlencoded;

use super::super::error::HttpError;

/// Reads a field that may be empty.
///
/// # Errors
/// A text that is none of these.
pub fn given<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| D::Error::custom(format!("`{text}`: {error}"))),
    }
}

/// A point in time as a browser's field has it, in UTC, or as an address has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Moment {
    /// As the field takes it.
    pub fn field(self) -> String {
        TimeZone::UTC.to_datetime(self.0).strftime("%Y-%m-%dT%H:%M").to_string()
    }

    /// As the field takes it, empty where none is given.
    pub fn field_of(given: Option<&Self>) -> String {
        given.copied().map(Self::field).unwrap_or_default()
    }
}

/// Where a list that has pages begins, and where it goes on.
#[derive(Debug, Default)]
pub struct Pages {
    /// The address of the first page; `None` on that page.
    pub start: Option<String>,
    /// The address of the next page; `None` on the last one.
    pub next: Option<String>,
}

/// The name of a resource that is no user; `typed` is what its field has of it.
///
/// # Errors
/// A text that is none.
pub fn name(text: &str, typed: &str) -> Result<Name, HttpError> {
    text.parse().map_err(|error| match error {
        NameError::Characters(_) => HttpError::invalid("name", format!("`{typed}` cannot be a name")).hint(
            "a name has lower-case letters, digits, `.`, `_` and `-`, and begins and ends with a letter or a digit",
        ),
        error => HttpError::invalid("name", error.to_string()),
    })
}

/// Items of a field that takes several, with commas or spaces between them.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n', '\r', '\t']).filter(|item| !item.is_empty())
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let in_utc = |at: civil::DateTime| TimeZone::UTC.to_timestamp(at).ok();
        let stated = text.parse::<Timestamp>().ok();
        let at = stated.or_else(|| text.parse::<civil::DateTime>().ok().and_then(in_utc));
        at.map(Self).ok_or("write a date, e.g. 2026-03-01, or a date and a time, e.g. 2026-03-01T09:30")
    }
}

/// The address of a page with these fields, those that are given.
pub fn address(path: &str, fields: &[(&str, Option<String>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Whether a name has a text in it, however that is written.
pub fn contains(name: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| name.contains(&filter.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_utc_where_they_name_no_zone() {
        let read = |text: &str| text.parse::<Moment>().map(|moment| moment.0.to_string());
        assert_eq!(read("2026-03-01T09:30"), Ok("2026-03-01T09:30:00Z".to_owned()));
        assert_eq!(read("2026-03-01"), Ok("2026-03-01T00:00:00Z".to_owned()));
        assert_eq!(read("2026-03-01T09:30:00+02:00"), Ok("2026-03-01T07:30:00Z".to_owned()));
        assert!(read("yesterday").is_err());
        assert_eq!("2026-03-01T09:30:15Z".parse::<Moment>().unwrap().field(), "2026-03-01T09:30");
    }

    #[test]
    fn address_keeps_what_is_given() {
        let fields = [("a", None), ("b", Some("x&y=z é".to_owned())), ("c", Some("1".to_owned()))];
        assert_eq!(address("/console/audit", &fields), "/console/audit?b=x%26y%3Dz+%C3%A9&c=1");
        assert_eq!(address("/console/audit", &[("a", None)]), "/console/audit");
    }
}
