//! Server-made identifiers. An id is never reused, so a reference to one ends with its resource.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A CUID: 25 characters, `^c[a-z0-9]{24}$`. It is held in place, so that a copy allocates nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; Self::LENGTH]);

impl Id {
    /// Characters in an id.
    pub const LENGTH: usize = 25;

    /// Makes a new id from the operating system's randomness.
    pub fn mint() -> Self {
        const BODY: cuid2::CuidConstructor = cuid2::CuidConstructor::new();
        loop {
            // The body has the length that is asked for by default, 24.
            if let Ok(id) = format!("c{}", BODY.create_id()).parse() {
                return id;
            }
        }
    }

    /// Whether `text` has the shape of an id; such a text is never a [`Name`](crate::Name).
    pub fn has_shape(text: &str) -> bool {
        text.len() == Self::LENGTH
            && text.starts_with('c')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // The characters of an id are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id")]
pub struct NotAnId(String);

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        match text.as_bytes().try_into() {
            Ok(bytes) if Self::has_shape(text) => Ok(Self(bytes)),
            _ => Err(NotAnId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_ids_have_the_shape_and_differ() {
        let (a, b) = (Id::mint(), Id::mint());
        assert!(Id::has_shape(a.as_str()), "{a}");
        assert_ne!(a, b);
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["", "c", "claude", "Cabcdefghijklmnopqrstuvwx", "dabcdefghijklmnopqrstuvwx"] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}
