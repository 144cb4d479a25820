//! Lists the members of a JSON object, duplicates included, with the position of each value in the text, so that one
//! value can be read or replaced while every other byte stays. Not a parser: serde_json reads the text.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member: its name with escapes resolved, its value as written.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: Cow<'a, str>,
    /// Whether the name is written with escapes, which a parser that compares bytes does not resolve.
    pub(crate) escaped: bool,
    pub(crate) value: &'a str,
    /// The byte range of the value in the text.
    pub(crate) span: Range<usize>,
}

/// Reads the members of `text`, which must be one JSON object.
pub(crate) fn read(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    let Members(members) = serde_json::from_str(text)?;
    Ok(members
        .into_iter()
        .map(|(Key(name), raw)| {
            let value = raw.get();
            // A borrowed raw value is a slice of `text`, so the distance of the two is its offset.
            let start = value.as_ptr().addr().saturating_sub(text.as_ptr().addr());
            let escaped = matches!(name, Cow::Owned(_));
            Member { name, escaped, value, span: start..start.saturating_add(value.len()) }
        })
        .collect())
}

struct Members<'a>(Vec<(Key<'a>, &'a RawValue)>);

/// A name, borrowed where the text has it without escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
