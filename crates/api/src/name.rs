//! Names that people give to resources.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Id, Kind};

/// A resource's name: `^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`, and never of the shape of an id, so that a path
/// segment is an id or a name and never both. A user's may be an e-mail address of as many characters, `PART@PART`, where both parts
/// are such names and the first may have `+` inside. Copies share one text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty or longer than 63 characters.
    #[error("a name has 1 to 63 characters, `{0}` has {n}", n = .0.chars().count())]
    Length(String),
    /// It has a character that names do not have, or begins or ends with punctuation.
    #[error(
        "`{0}` is not a name: lower-case letters, digits, `.`, `_` and `-`, with a letter or a digit at both ends; a user's may be an \
         e-mail address"
    )]
    Characters(String),
    /// It could be mistaken for an id.
    #[error("`{0}` looks like an id (a `c` and 24 letters or digits); choose another name")]
    LooksLikeId(String),
}

impl Name {
    /// The most characters a name has.
    pub const MAX_LENGTH: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an e-mail address, as only a user's name may be, and a token's that begins with it.
    pub fn is_address(&self) -> bool {
        self.0.contains('@')
    }

    /// Whether a resource of this kind may have this name.
    pub fn suits(&self, kind: Kind) -> bool {
        matches!(kind, Kind::User | Kind::Token) || !self.is_address()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(NameError::Length(text.to_owned()));
        }
        let fits = match text.split_once('@') {
            None => is_part(text, false),
            Some((local, domain)) => is_part(local, true) && is_part(domain, false),
        };
        if !fits {
            return Err(NameError::Characters(text.to_owned()));
        }
        if Id::has_shape(text) {
            return Err(NameError::LooksLikeId(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

/// Whether a text is a name without `@`, or the first part of an address.
fn is_part(text: &str, plus: bool) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-') || (plus && b == b'+')
    };
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().copied().all(inner)
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_looks_like_an_id_is_refused() {
        let id = Id::mint().to_string();
        assert_eq!(id.parse::<Name>(), Err(NameError::LooksLikeId(id)));
    }

    #[test]
    fn edges_and_characters_are_checked() {
        for good in ["a", "0", "team-a", "qwen2.5_7b", "smollm2"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for address in ["alice@example.com", "a.b+c@mail.example.com", "alice@example.com-laptop"] {
            let name: Name = address.parse().unwrap();
            assert!(name.suits(Kind::User) && name.suits(Kind::Token), "{address}");
            assert!(
                !name.suits(Kind::Llm) && !name.suits(Kind::Group) && !name.suits(Kind::Role),
                "{address}"
            );
        }
        for bad in ["@", "a@", "@a", "a@b@c", "a+@b", "+a@b", "a@b+c", "a+b", "a@-b", "A@b", "a@b/c", "a@b?c"]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a b", "ä", "a/b", ".", "*", &long] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_never_both_an_id_and_a_name(text in "\\PC{0,70}|c[a-z0-9]{24}") {
            prop_assert!(!(text.parse::<Id>().is_ok() && text.parse::<Name>().is_ok()));
        }
    }
}
