//! Parses JSON as tolerantly as the clients of model servers do. Servers send half a surrogate pair in one event, the same key
//! twice, `NaN`, a byte order mark or a byte that is not UTF-8, and no answer is rejected for that. The result is only read:
//! the bytes that are forwarded stay as they came.

use serde::Deserialize;
use serde_json::Value;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Longest text that [`value`] parses, in bytes. The parsed value takes many times as much memory.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// Parses a text. Of equal keys, the last one counts. `None` for a text that is not JSON even after cleaning.
pub fn value(text: &[u8]) -> Option<Value> {
    if text.len() > MAX_TEXT {
        return None;
    }
    serde_json::from_slice(text).ok().or_else(|| serde_json::from_slice(&cleaned(text)).ok())
}

/// Parses a JSON object into `T`. Any other JSON is `None`, because serde alone would accept an array as a struct.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let start = text.strip_prefix(BOM).unwrap_or(text).trim_ascii_start();
    if !start.starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(text).ok().or_else(|| T::deserialize(value(text)?).ok())
}

/// Replaces what strict JSON does not allow: lone surrogates, control characters in strings, bytes that are not UTF-8, and
/// numbers that JSON cannot express.
fn cleaned(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text.strip_prefix(BOM).unwrap_or(text));
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => string(rest, &mut clean),
            _ if first.is_ascii_alphanumeric() || matches!(first, '-' | '+' | '.') => word(rest, &mut clean),
            // Between values, only punctuation and white space have a meaning; anything else is dropped.
            '{' | '}' | '[' | ']' | ':' | ',' | ' ' | '\n' | '\r' | '\t' => {
                clean.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
                1
            }
            other => other.len_utf8(),
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    clean
}

/// Copies the string at the start of `text`; returns how many bytes of `text` it takes.
fn string(text: &str, clean: &mut Vec<u8>) -> usize {
    clean.push(b'"');
    let mut at = 1;
    while let Some(rest) = text.get(at..)
        && let Some(next) = rest.chars().next()
    {
        at += match next {
            '"' => {
                clean.push(b'"');
                return at + 1;
            }
            '\\' => escape(rest, clean),
            control if control < ' ' => {
                clean.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
                1
            }
            other => {
                clean.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                other.len_utf8()
            }
        };
    }
    at
}

/// Copies the escape at the start of `text`, a surrogate pair as one; returns how many bytes of `text` it takes.
fn escape(text: &str, clean: &mut Vec<u8>) -> usize {
    let code = |from: usize| {
        let digits = text.get(from..)?.strip_prefix("\\u")?.get(..4)?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let length = match (code(0), code(6)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
        (Some(0xD800..=0xDFFF), _) => {
            clean.extend_from_slice(b"\\ufffd");
            return 6;
        }
        (Some(_), _) => 6,
        (None, _) => match text.as_bytes().get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            _ => {
                clean.extend_from_slice(b"\\\\");
                return 1;
            }
        },
    };
    clean.extend_from_slice(text.get(..length).unwrap_or_default().as_bytes());
    length
}

/// Copies the number or name at the start of `text`, or writes `null` for one that JSON does not have; returns how many
/// bytes of `text` it takes.
fn word(text: &str, clean: &mut Vec<u8>) -> usize {
    let is_part = |part: char| part.is_ascii_alphanumeric() || matches!(part, '-' | '+' | '.' | '_');
    let length = text.find(|part| !is_part(part)).unwrap_or(text.len());
    let written = text.get(..length).unwrap_or_default();
    let known = serde_json::from_str::<Value>(written).is_ok();
    clean.extend_from_slice(if known { written } else { "null" }.as_bytes());
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn malformed_json_that_other_parsers_accept_is_read() {
        for (text, expected) in [
            (&br#"{"a":"party \ud83c"}"#[..], json!({"a": "party \u{fffd}"})),
            (br#"{"a":"\udf89!"}"#, json!({"a": "\u{fffd}!"})),
            (br#"{"a":"\ud83c\udf89"}"#, json!({"a": "🎉"})),
            (br#"{"a":"\ud83c\ud83c\udf89"}"#, json!({"a": "\u{fffd}🎉"})),
            (br#"{"a":1,"a":2}"#, json!({"a": 2})),
            (
                br#"{"a":NaN,"b":-Infinity,"c":1e999,"d":[Infinity]}"#,
                json!({"a": null, "b": null, "c": null, "d": [null]}),
            ),
            (b"\xEF\xBB\xBF{\"a\":1}", json!({"a": 1})),
            (b"{\"a\":\"x\xFFy\"}\xFF", json!({"a": "x\u{fffd}y"})),
            (b"{\"a\":\"x\ny\"}\0", json!({"a": "x\ny"})),
            (br#"{"a":"\x"}"#, json!({"a": "\\x"})),
        ] {
            assert_eq!(value(text), Some(expected), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn text_that_is_not_json_is_not_read() {
        for text in ["", "nonsense", "<html>", "{", r#"{"a":"#, r#"{"a":"x"#, r#"{"a" 1}"#, "{} {}"] {
            assert!(object::<Value>(text.as_bytes()).is_none(), "{text}");
        }
        assert!(object::<Value>(b"[]").is_none());
        let deep = "[".repeat(100_000);
        assert_eq!(value(deep.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn strict_json_keeps_its_value_when_cleaned(keys in prop::collection::vec("\\PC{0,8}", 0..5), text in "\\PC{0,30}", number in any::<f64>()) {
            let value = json!({ "keys": keys, "text": text, "number": number, "x": { text.clone(): [true, null, -1.5e-7] } });
            let written = serde_json::to_vec(&value).unwrap();
            let read: Value = serde_json::from_slice(&cleaned(&written)).unwrap();
            prop_assert_eq!(read, serde_json::from_slice::<Value>(&written).unwrap());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = value(&bytes);
        }
    }
}
