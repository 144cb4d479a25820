//! Lists the members of a JSON object, duplicates included, with the position of each value in the text, so that one
//! value can be read or replaced while every other byte stays. Not a parser: what [`Scanner`] does not find well formed, or not
//! plain, serde_json reads.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::scanner::Scanner;

/// A member: its name with escapes resolved, its value as written.
#[derive(Debug, PartialEq, Eq)]
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
    match scan(text) {
        Some(members) => Ok(members),
        None => read_by_serde(text),
    }
}

fn scan(text: &str) -> Option<Vec<Member<'_>>> {
    let plain = |(name, span): (_, Range<usize>)| {
        Some(Member { name: Cow::Borrowed(name), escaped: false, value: text.get(span.clone())?, span })
    };
    Scanner::new(text).members()?.into_iter().map(plain).collect()
}

fn read_by_serde(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the scanner accepts, serde_json accepts with the same members.
    fn check(text: &str) -> bool {
        let Some(members) = scan(text) else { return false };
        let by_serde = read_by_serde(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(members, by_serde, "{text:?}");
        true
    }

    #[test]
    fn well_formed_objects_are_read_without_serde() {
        for text in [
            "{}",
            " { } \n",
            r#"{"a":1}"#,
            r#"{"a" : -0.5e+7 , "a":[ ] ,"b":{ },"c":[1,{"x":[[]]}, null],"d":true,"":false}"#,
            r#"{"text":"\"\\\/\b\f\n\r\t\u00e9\ud83c eight more bytes \" and a quote","é":"é"}"#,
            "{\"a\":\t\"1234567\",\r\n\"b\":\"12345678\",\"c\":\"123456789\\n\"}",
        ] {
            assert!(check(text), "{text}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(check(&deep));
    }

    #[test]
    fn what_is_not_well_formed_is_left_to_serde() {
        for text in [
            "",
            "{",
            "}",
            "[]",
            "null",
            "{}x",
            "{} {}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            r#"{"a":+1}"#,
            r#"{"a":NaN}"#,
            r#"{"a":tru}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\"}"#,
            "{\"a\":\"\n\"}",
            "{\"a\":\"1234567\t8\"}",
            r#"{"a":[1,]}"#,
            r#"{"a":[1}"#,
            r#"{"a":{"b":1]}"#,
            r#"{"a":{"b"}}"#,
            r#"{"a":{1:2}}"#,
            r#"{a:1}"#,
            "\u{feff}{}",
        ] {
            assert!(!check(text), "{text}");
            assert!(read(text).is_err(), "{text}");
        }
        // Names with escapes are resolved by serde_json.
        assert!(!check(r#"{"mod\u0065l":1}"#));
        assert_eq!(read(r#"{"mod\u0065l":1}"#).unwrap()[0].name, "model");
    }

    proptest! {
        #[test]
        fn the_scanner_accepts_nothing_that_serde_does_not(
            text in r#"\{("[a-z\\"é]{0,9}"[ :]{1,2}([-0-9.eE+]{1,6}|"([ -~é\t]|\\.){0,20}"|\[\]|\{\}|null|tru|true|[\[\]{},"]{0,4})[ ,\n]{0,2}){0,4}\}?"#
        ) {
            check(&text);
        }

        #[test]
        fn one_changed_byte_changes_both_readers_alike(
            keys in prop::collection::vec("[ -~]{0,12}", 0..4),
            text in "\\PC{0,30}",
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let inner = serde_json::json!({"keys": keys, "text": text, "n": [1, -2.5e-7, true, null, {}]});
            let written = serde_json::json!({"a": inner, "b": text, "c": keys}).to_string();
            prop_assert!(check(&written));
            let mut changed = written.into_bytes();
            let at = at.index(changed.len());
            changed[at] = byte;
            if let Ok(changed) = String::from_utf8(changed) {
                check(&changed);
            }
        }
    }
}
