//! Which workloads a service account trusts: tokens of an issuer, for an audience, about a subject.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FieldError;
use crate::oidc::IssuerUrl;

/// The workloads whose tokens are exchanged for a token of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedWorkload {
    /// The issuer of their tokens; one that the configuration of mcpd lists.
    pub issuer: IssuerUrl,
    /// The audience that their tokens are for.
    pub audience: Text,
    /// Their subject, e.g. `system:serviceaccount:ci:builder`; a `*` at the end stands for any characters.
    #[schema(value_type = String)]
    pub subject: SubjectPattern,
}

/// A text of 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A subject, exact or with a `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectPattern(String);

/// A text that is no such text or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrustable {
    /// Its length or a character of it.
    #[error("it has 1 to 255 visible ASCII characters")]
    Characters,
    /// A `*` that is not at the end.
    #[error("a `*` stands at the end only")]
    Star,
    /// A `*` alone.
    #[error("`*` alone would trust every workload of the issuer; write what it begins with")]
    Everybody,
}

impl TryFrom<String> for Text {
    type Error = NotTrustable;

    fn try_from(text: String) -> Result<Self, NotTrustable> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(NotTrustable::Characters) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl TryFrom<String> for SubjectPattern {
    type Error = NotTrustable;

    fn try_from(text: String) -> Result<Self, NotTrustable> {
        let Text(text) = text.try_into()?;
        if text.trim_end_matches('*').is_empty() {
            return Err(NotTrustable::Everybody);
        }
        if text.strip_suffix('*').unwrap_or(&text).contains('*') {
            return Err(NotTrustable::Star);
        }
        Ok(Self(text))
    }
}

impl From<SubjectPattern> for String {
    fn from(pattern: SubjectPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SubjectPattern {
    /// Whether this is the subject, or what it begins with.
    pub fn matches(&self, subject: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => subject.starts_with(prefix),
            None => subject == self.0,
        }
    }
}

impl TrustedWorkload {
    /// Most entries of one account; bounds the signatures that an exchange verifies.
    pub const MAX_LISTED: usize = 8;

    /// Whether a verified token of this issuer, audience and subject is trusted.
    pub fn trusts(&self, issuer: &IssuerUrl, audience: &str, subject: &str) -> bool {
        self.issuer == *issuer && self.audience.as_str() == audience && self.subject.matches(subject)
    }

    pub(super) fn check_list(list: &[Self]) -> Result<(), FieldError> {
        if list.len() > Self::MAX_LISTED {
            let message = format!("at most {} entries, this list has {}", Self::MAX_LISTED, list.len());
            return Err(FieldError::new("trust", message).hint("use a `*` at the end of `subject`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_exact_or_begin_so() {
        let matches = |pattern: &str, subject: &str| {
            SubjectPattern::try_from(pattern.to_owned()).unwrap().matches(subject)
        };
        assert!(matches("repo:a/b:ref:main", "repo:a/b:ref:main"));
        assert!(matches("repo:a/b:*", "repo:a/b:ref:main") && matches("repo:a/b:*", "repo:a/b:"));
        assert!(!matches("repo:a/b", "repo:a/b2") && !matches("repo:a/b:*", "repo:a/b2:x"));
        assert!(!matches("a", "A"));
        for bad in ["", "*", "**", "a*b", "a**", "a b", "ä", &"x".repeat(256)] {
            assert!(SubjectPattern::try_from((*bad).to_owned()).is_err(), "{bad}");
        }
    }
}
