//! The characters that a document's texts may hold. Control and invisible characters are rejected: they would make one
//! resource look like another, or a line of output like something that the program wrote.

use serde_json::Value;

use crate::{
    Spec,
    labels::{Annotations, Labels},
    selector,
    spec::FieldError,
    visible::is_hidden,
};

/// Texts of several lines, for people.
const FREE: [&str; 2] = ["description", "displayName"];
/// Bytes of a text for people.
const MAX_FREE_BYTES: usize = 64 * 1024;
/// Bytes of every other text: an address, a model's name.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Labels of one resource.
const MAX_LABELS: usize = 64;
/// Bytes of a label's key and of its value that are looked at.
const MAX_LABEL_BYTES: usize = 512;
/// Annotations of one resource.
const MAX_ANNOTATIONS: usize = 64;
/// Bytes of all keys and values of the annotations of one resource.
const MAX_ANNOTATION_BYTES: usize = 16 * 1024;

/// Checks every text of a document but secret values and passwords, which are never shown.
pub(crate) fn check(labels: &Labels, annotations: &Annotations, spec: &Spec) -> Result<(), FieldError> {
    check_annotations(annotations)?;
    if labels.len() > MAX_LABELS {
        return Err(FieldError::new("labels", format!("a resource has at most {MAX_LABELS} labels")));
    }
    for (key, value) in labels {
        let param = format!("labels.{}", visible(key));
        for text in [key, value] {
            check_text(&param, text, false, MAX_LABEL_BYTES)?;
        }
        selector::check_key(key)
            .and_then(|()| selector::check_value(value))
            .map_err(|error| FieldError::new(param, error))?;
    }
    let fields = spec.to_fields().map_err(|error| FieldError::new("", error.to_string()))?;
    for (name, value) in &fields {
        let hidden = matches!((spec, name.as_str()), (Spec::Secret(_), "data") | (Spec::User(_), "password"));
        if !hidden {
            check_value(name, value, FREE.contains(&name.as_str()))?;
        }
    }
    Ok(())
}

/// Keys are those of labels, values are texts of several lines.
fn check_annotations(annotations: &Annotations) -> Result<(), FieldError> {
    if annotations.len() > MAX_ANNOTATIONS {
        let message = format!("a resource has at most {MAX_ANNOTATIONS} annotations");
        return Err(FieldError::new("annotations", message));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        let message =
            format!("the annotations of a resource have at most {MAX_ANNOTATION_BYTES} bytes, {bytes} given");
        return Err(FieldError::new("annotations", message));
    }
    for (key, value) in annotations {
        let param = format!("annotations.{}", visible(key));
        check_text(&param, key, false, MAX_LABEL_BYTES)?;
        selector::check_key(key).map_err(|error| {
            FieldError::new(&param, error.replace("a label's key", "an annotation's key"))
        })?;
        check_text(&param, value, true, MAX_ANNOTATION_BYTES)?;
    }
    Ok(())
}

fn check_value(param: &str, value: &Value, free: bool) -> Result<(), FieldError> {
    match value {
        Value::String(text) => {
            check_text(param, text, free, if free { MAX_FREE_BYTES } else { MAX_TEXT_BYTES })
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| check_value(&format!("{param}[{at}]"), value, free)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            let param = format!("{param}.{}", visible(key));
            check_text(&param, key, false, MAX_TEXT_BYTES)?;
            check_value(&param, value, free)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(param: &str, text: &str, free: bool, max: usize) -> Result<(), FieldError> {
    if text.len() > max {
        return Err(FieldError::new(param, format!("a text of at most {max} bytes, {} given", text.len())));
    }
    if !free {
        check_look(param, text)?;
    }
    let unseen = |c: &char| is_hidden(*c) && !(free && is_of_free_text(*c));
    match text.chars().find(unseen) {
        None => Ok(()),
        Some(c) => Err(FieldError::new(
            param,
            format!("U+{:04X} is a control or invisible character, which no text may hold", u32::from(c)),
        )
        .hint("leave it out")),
    }
}

/// Rejects the characters by which editors and web pages replace ASCII quotes and blanks.
fn check_look(param: &str, text: &str) -> Result<(), FieldError> {
    if let Some(quote) =
        text.chars().next().filter(|c| matches!(c, '\u{201c}'..='\u{201f}' | '\u{2018}'..='\u{201b}'))
    {
        let message = format!("it begins with `{quote}`, a typographic quote");
        return Err(FieldError::new(param, message).hint("write \" or '"));
    }
    match text.chars().find(|c| !c.is_ascii() && c.is_whitespace() && !is_hidden(*c)) {
        Some(c) => {
            let message = format!("U+{:04X} looks like a blank and is not one", u32::from(c));
            Err(FieldError::new(param, message).hint("write an ordinary blank"))
        }
        None => Ok(()),
    }
}

/// Characters that are part of writing: line ends and tabs, and the joiners of Persian, of Indian scripts and of emoji.
fn is_of_free_text(c: char) -> bool {
    matches!(c, '\n' | '\t' | '\u{200c}' | '\u{200d}')
}

/// A rejected text as an error may quote it.
fn visible(text: &str) -> String {
    let shown = text
        .chars()
        .take(64)
        .map(|c| if is_hidden(c) { format!("\\u{{{:x}}}", u32::from(c)) } else { c.to_string() });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Document;

    fn llm(field: &str, text: &str) -> Result<Document, crate::DocumentError> {
        let mut document = serde_json::json!({
            "kind": "Llm", "name": "a", "type": "openai", "url": "http://x/v1", "model": "m",
        });
        match field.split_once('.') {
            Some((outer, key)) => document[outer] = serde_json::json!({ key: text }),
            None => document[field] = text.into(),
        }
        Document::from_json(document.to_string().as_bytes())
    }

    #[test]
    fn controls_are_refused_by_field_and_number() {
        for (field, text, number) in [
            ("description", "a\u{1b}[2Jb", "U+001B"),
            ("description", "a\rb", "U+000D"),
            ("description", "\u{9b}31m", "U+009B"),
            ("description", "\u{202e}txt.exe", "U+202E"),
            ("description", "a\u{2066}b", "U+2066"),
            ("description", "\u{e0041}", "U+E0041"),
            ("model", "gpt\n4", "U+000A"),
            ("model", "gpt\u{200d}4", "U+200D"),
            ("model", "\u{feff}gpt", "U+FEFF"),
            ("labels.team", "a\tb", "U+0009"),
            ("labels.te\u{7f}am", "a", "U+007F"),
            ("annotations.note", "a\u{1b}b", "U+001B"),
            ("annotations.no\u{7f}te", "a", "U+007F"),
        ] {
            let error = llm(field, text).unwrap_err();
            assert!(error.message.contains(number), "{field} {text:?}: {error}");
            assert!(!error.param.contains(is_hidden) && !error.message.contains(is_hidden), "{error:?}");
            assert!(error.param.starts_with(field.split('.').next().unwrap()), "{error:?}");
        }
    }

    #[test]
    fn writing_of_all_languages_is_let_through() {
        for text in ["Für Übersetzungen\n\t– günstig", "می‌خواهم", "👩‍💻 ❤️", "模型", "क्‍ष", "שלום"]
        {
            assert!(llm("description", text).is_ok(), "{text}");
        }
        let secret = br#"{"kind":"Secret","name":"s","data":{"key":"a\u0007b"}}"#;
        let error = Document::from_json(secret).unwrap_err();
        assert_eq!(error.param, "data.key");
        assert!(error.message.contains("U+0007") && !error.message.contains('\u{7}'), "{error}");
    }

    #[test]
    fn texts_and_labels_are_bounded() {
        assert!(llm("description", &"x".repeat(MAX_FREE_BYTES)).is_ok());
        assert_eq!(llm("description", &"x".repeat(MAX_FREE_BYTES + 1)).unwrap_err().param, "description");
        assert_eq!(llm("model", &"x".repeat(MAX_TEXT_BYTES + 1)).unwrap_err().param, "model");
        assert_eq!(llm("labels.a", &"x".repeat(MAX_LABEL_BYTES + 1)).unwrap_err().param, "labels.a");
    }

    #[test]
    fn annotations_are_bounded_in_number_and_bytes() {
        assert!(llm("annotations.note", "two\nlines, and more than a label takes").is_ok());
        assert_eq!(llm("annotations.a b", "x").unwrap_err().param, "annotations.a b");
        let fits = "x".repeat(MAX_ANNOTATION_BYTES - 1);
        assert!(llm("annotations.a", &fits).is_ok());
        assert_eq!(llm("annotations.aa", &fits).unwrap_err().param, "annotations");
        let many: Annotations = (0..=MAX_ANNOTATIONS).map(|at| (format!("a{at}"), String::new())).collect();
        assert_eq!(check_annotations(&many).unwrap_err().param, "annotations");
    }

    proptest! {
        #[test]
        fn no_control_reaches_a_document(text in "(?s).{0,12}") {
            let passes = llm("model", &format!("m{text}")).is_ok();
            let deceives = |c: char| is_hidden(c) || (!c.is_ascii() && c.is_whitespace());
            prop_assert_eq!(passes, !text.chars().any(deceives));
        }
    }
}
