//! Reads a list of documents: the array `items` of a map, or an array alone. Each document keeps its lines.

use std::{fmt, marker::PhantomData};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
    value::SeqAccessDeserializer,
};
use serde_saphyr::Spanned;

use super::{Located, YamlError, check_count, invalid, located, options};
use crate::{
    Document, Kind,
    document::{self, Head},
    vocabulary::DOCUMENTS,
};

/// The keys of a list: its kind, the documents, and what else `GET /api/v1/<kind>` returns.
const KEYS: [&str; 4] = ["kind", "items", "revision", "next"];

/// Reads the documents of a list, in order.
pub(super) fn read(text: &str) -> Result<Vec<Located>, YamlError> {
    // The kinds first, because the kind decides which type reads a document.
    let heads = items(text, PhantomData::<Vec<Spanned<Head>>>)?.unwrap_or_default();
    check_count(heads.len(), 1)?;
    let end = text.lines().count() as u64;
    let starts: Vec<u64> = heads.iter().map(|head| head.referenced.line()).collect();
    // A document ends where the next one begins; in JSON of one line, several have that line.
    let ends = starts.iter().skip(1).map(|next| next.saturating_sub(1)).chain([end]);
    let lines: Vec<_> = starts.iter().zip(ends).map(|(start, last)| *start..=last.max(*start)).collect();
    let kinds = heads
        .iter()
        .zip(&lines)
        .map(|(head, lines)| head.value.kind().map_err(|error| invalid(text, lines, error)));
    let kinds = kinds.collect::<Result<Vec<Kind>, YamlError>>()?;
    let documents = items(text, Documents(&kinds))?.unwrap_or_default();
    for (document, lines) in documents.iter().zip(&lines) {
        document.validate().map_err(|error| invalid(text, lines, error.into()))?;
    }
    Ok(documents.into_iter().zip(lines).map(|(document, lines)| Located { document, lines }).collect())
}

/// Reads the array; `None` where the list has no `items`.
fn items<'de, S: DeserializeSeed<'de>>(text: &'de str, array: S) -> Result<Option<S::Value>, YamlError> {
    let read = |deserializer: serde_saphyr::Deserializer<'de, '_>| List(array).deserialize(deserializer);
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), read)
        .map_err(|error| located(&error, text, &DOCUMENTS))
}

/// A list, whose array the seed reads.
struct List<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for List<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for List<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.0.deserialize(SeqAccessDeserializer::new(seq)).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut array, mut items) = (Some(self.0), None);
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), array.take()) {
                ("items", Some(seed)) => items = Some(map.next_value_seed(seed)?),
                ("items", None) => return Err(A::Error::duplicate_field("items")),
                ("kind" | "revision" | "next", unread) => {
                    array = unread;
                    map.next_value::<IgnoredAny>()?;
                }
                (other, _) => return Err(A::Error::unknown_field(other, &KEYS)),
            }
        }
        Ok(items)
    }
}

/// Documents of these kinds, in order.
#[derive(Clone, Copy)]
struct Documents<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for Documents<'_> {
    type Value = Vec<Document>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Documents<'_> {
    type Value = Vec<Document>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut documents = Vec::with_capacity(self.0.len());
        for kind in self.0 {
            match seq.next_element_seed(OfKind(*kind))? {
                Some(document) => documents.push(document),
                None => break,
            }
        }
        Ok(documents)
    }
}

/// A document of this kind.
struct OfKind(Kind);

impl<'de> DeserializeSeed<'de> for OfKind {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        document::read_as(self.0, None, deserializer)
    }
}

#[cfg(test)]
mod tests {
    use crate::yaml::read_documents;

    fn places(text: &str) -> Vec<(String, u64, u64)> {
        let found = read_documents(text).unwrap().into_iter();
        found.map(|d| (d.document.name.unwrap().to_string(), *d.lines.start(), *d.lines.end())).collect()
    }

    #[test]
    fn lists_are_read_with_the_lines_of_each_document() {
        let expected = [("a".to_owned(), 3, 4), ("b".to_owned(), 5, 6)];
        assert_eq!(
            places("kind: List\nitems:\n- kind: Group\n  name: a\n- kind: User\n  name: b\n"),
            expected
        );
        let json = "{\n  \"items\": [\n{\"kind\": \"Group\",\n\"name\": \"a\"},\n{\"name\": \"b\", \"kind\":\n\"Group\"}]}";
        assert_eq!(places(json)[0].1, 3);
        assert_eq!(places(json)[1].1, 5);
        let array = r#"[{"kind": "Group", "name": "a"}, {"kind": "User", "name": "b"}]"#;
        assert_eq!(places(array), [("a".to_owned(), 1, 1), ("b".to_owned(), 1, 1)]);
        let mixed = format!("kind: Group\nname: x\n---\n{array}\n---\n- kind: User\n  name: y\n");
        let names: Vec<(String, u64)> = places(&mixed).into_iter().map(|(name, at, _)| (name, at)).collect();
        let expected = [("x", 1), ("a", 4), ("b", 4), ("y", 6)].map(|(name, at)| (name.to_owned(), at));
        assert_eq!(names, expected);
        for empty in
            ["[]", "{\"items\": []}", "kind: List\n", "{\"revision\": 3, \"items\": [], \"next\": null}"]
        {
            assert_eq!(read_documents(empty), Ok(Vec::new()), "{empty}");
        }
    }

    #[test]
    fn mistakes_in_a_list_are_reported_at_their_place() {
        let list = |second: &str| format!("kind: List\nitems:\n- kind: Group\n  name: a\n{second}");
        for (second, expected) in [
            ("- kind: Gruop\n  name: b\n", "5:1: `Gruop` is not a kind"),
            ("- name: b\n", "5:1: missing field `kind`"),
            ("- kind: User\n  name: b\n  emial: x\n", "7:3: unknown field `emial`"),
            ("- kind: User\n  name: b\n  email: \"\\u001b\"\n", "7:1: email: U+001B is a control"),
            ("- kind: List\n  items: []\n", "5:1: `List` is not a kind"),
            ("- 5\n", "5:3: "),
            ("metadata: {}\n", "5:1: unknown field `metadata`"),
        ] {
            let error = read_documents(&list(second)).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{second}: {error}");
        }
        let error = read_documents("kind: List\nitems: {kind: Group, name: a}\n").unwrap_err();
        assert!(error.to_string().starts_with("2:8: `items` takes a list"), "{error}");
        let hint = read_documents(&list("- kind: Gruop\n")).unwrap_err().hint;
        assert_eq!(hint.as_deref(), Some("did you mean `Group`?"));
    }
}
