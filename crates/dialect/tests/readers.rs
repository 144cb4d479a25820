//! Every body that this crate accepts names the same model to other JSON parsers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use mcpctl_dialect::{Operation, Request};
use proptest::prelude::*;

/// Keys, as JSON text, many of which some parser reads as `model` or `stream`.
fn key() -> impl Strategy<Value = String> {
    let spelled = |name: &'static str| {
        proptest::collection::vec((0_u8..5, any::<bool>()), name.len()).prop_map(move |ways| {
            let letters = name.chars().zip(ways).map(|(letter, (way, upper))| match (way, letter) {
                (0, _) if upper => letter.to_ascii_uppercase().to_string(),
                (1, _) => format!("\\u{:04x}", u32::from(letter)),
                (2, 's') => "\u{17f}".to_owned(),
                (3, 's') => "\\u017f".to_owned(),
                _ => letter.to_string(),
            });
            letters.collect::<String>()
        })
    };
    prop_oneof![
        3 => Just("model".to_owned()),
        3 => spelled("model"),
        1 => Just("stream".to_owned()),
        2 => spelled("stream"),
        1 => Just("model\\u0000".to_owned()),
        1 => Just("model ".to_owned()),
        2 => "[a-zA-Z]{1,6}",
        1 => "\\PC{1,3}".prop_map(|text| text.replace(['"', '\\'], "")),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("\"cheap\"".to_owned()),
        Just("\"dear\"".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("{\"model\":\"nested\"}".to_owned()),
    ];
    proptest::collection::vec((key(), value), 0..4).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// The members in order, with escapes in names resolved.
fn members(body: &[u8]) -> Vec<(String, serde_json::Value)> {
    struct Members(Vec<(String, serde_json::Value)>);
    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Reader;
            impl<'de> serde::de::Visitor<'de> for Reader {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
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
    serde_json::from_slice::<Members>(body).unwrap().0
}

/// Go's `encoding/json`: names match by simple folding, the last one wins, and `null` changes nothing.
fn go(body: &[u8], name: &str) -> Option<serde_json::Value> {
    let fold = |text: &str| {
        let simple = |letter| match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        };
        text.chars().map(simple).collect::<String>()
    };
    let mut found = members(body).into_iter().filter(|(key, value)| fold(key) == name && !value.is_null());
    found.next_back().map(|(_, value)| value)
}

/// Python's `json`: names match exactly, and the last one wins.
fn python(body: &[u8], name: &str) -> Option<serde_json::Value> {
    members(body).into_iter().rfind(|(key, _)| key == name).map(|(_, value)| value)
}

/// A parser in C whose strings end at a NUL: names match exactly, and the first one wins.
fn c(body: &[u8], name: &str) -> Option<serde_json::Value> {
    let read = |key: &str| key.split('\0').next().unwrap_or_default().to_owned();
    members(body).into_iter().find(|(key, _)| read(key) == name).map(|(_, value)| value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn all_parsers_agree_on_an_accepted_body(body in body()) {
        let Ok(fields) = Request::read(Operation::Chat, Bytes::copy_from_slice(body.as_bytes())) else { return Ok(()) };
        let decided = fields.model.clone().map(serde_json::Value::from);
        for reader in [go, python, c] {
            let read = reader(body.as_bytes(), "model").filter(|value| !value.is_null());
            prop_assert_eq!(&read, &decided, "{}", body);
            let streams = reader(body.as_bytes(), "stream").is_some_and(|value| value == true);
            prop_assert_eq!(streams, fields.stream, "{}", body);
        }
        let sent = fields.body_for("upstream", false);
        for reader in [go, python, c] {
            prop_assert_eq!(reader(&sent, "model"), Some("upstream".into()), "{}", body);
        }
    }
}
