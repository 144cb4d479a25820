//! Reads a JSON value only for whether it is present and for the strings in it, without a copy of the value.

use std::{borrow::Cow, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Reads a value; true where it is not null, false or empty. With `COLLECT`, all strings in it are added to the text, but for those
/// that some servers repeat with each piece.
pub(crate) struct Collect<'t, const COLLECT: bool>(pub(crate) &'t mut String);

/// Whether a member of a delta has none of its text.
pub(crate) fn is_label(name: &str) -> bool {
    matches!(name, "role" | "type" | "id")
}

impl<'de, const COLLECT: bool> DeserializeSeed<'de> for Collect<'_, COLLECT> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const COLLECT: bool> Visitor<'de> for Collect<'_, COLLECT> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        if COLLECT {
            self.0.push_str(text);
        }
        Ok(!text.is_empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let mut any = false;
        while match COLLECT {
            true => items.next_element_seed(Collect::<COLLECT>(self.0))?.is_some(),
            false => items.next_element::<IgnoredAny>()?.is_some(),
        } {
            any = true;
        }
        Ok(any)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut any = false;
        if !COLLECT {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                any = true;
            }
            return Ok(any);
        }
        while let Some(Text(name)) = members.next_key()? {
            any = true;
            if name.as_deref().is_some_and(is_label) {
                members.next_value::<IgnoredAny>()?;
            } else {
                members.next_value_seed(Collect::<COLLECT>(self.0))?;
            }
        }
        Ok(any)
    }
}

/// A value that is read by [`Collect`].
#[derive(Debug, Default)]
pub(crate) struct Collected<const COLLECT: bool> {
    pub(crate) present: bool,
    pub(crate) text: String,
}

impl<'de, const COLLECT: bool> Deserialize<'de> for Collected<COLLECT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::new();
        let present = Collect::<COLLECT>(&mut text).deserialize(deserializer)?;
        Ok(Self { present, text })
    }
}

/// A string, copied only where it has escapes; `None` for a value of another type.
#[derive(Debug, Default)]
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar).map(|scalar| match scalar {
            Read::Text(text) => Self(Some(text)),
            Read::Number(_) | Read::Other => Self(None),
        })
    }
}

/// A number; zero for a value of another type.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Index(pub(crate) u64);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar).map(|scalar| match scalar {
            Read::Number(number) => Self(number),
            Read::Text(_) | Read::Other => Self(0),
        })
    }
}

enum Read<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Other,
}

struct Scalar;

impl<'de> Visitor<'de> for Scalar {
    type Value = Read<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Read<'de>, E> {
        Ok(Read::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Read<'de>, E> {
        Ok(Read::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Read<'de>, E> {
        Ok(Read::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_unit<E>(self) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Read::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read<'de>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Read::Other)
    }
}
