//! Turns the errors of the YAML and JSON readers into messages for the people who wrote the text. Messages do not repeat
//! values, which may be secrets.

mod place;

use serde_saphyr::Error;

use crate::{
    hint::HintedError,
    visible::is_hidden,
    vocabulary::{DOCUMENTS, NOT_ONE_OF, Vocabulary},
};

use place::{LIST, MAP, Place, QUOTE, TEXT};

/// A message for people, and what to write instead.
pub(crate) struct Diagnosis {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Line and column, from 1, where the cause is not where the reader found the error.
    pub(crate) place: Option<(u64, u64)>,
}

impl Diagnosis {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The diagnosis of an error of the YAML reader in this text, whose words those are.
pub(crate) fn of_yaml(error: &Error, text: &str, words: &Vocabulary) -> Diagnosis {
    let place = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    if let Some(diagnosis) = deceptive(text, place) {
        return diagnosis;
    }
    let here = Place::at(text, place, *words);
    if let Some(diagnosis) = here.swallowed_key(text, place) {
        return diagnosis;
    }
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => of_yaml(error, text, words),
        Error::NullIntoString { .. } | Error::InvalidCharNull { .. } => here.expects(TEXT, Some("nothing")),
        Error::Unexpected { expected: "mapping start", .. } => here.expects(MAP, None),
        Error::Unexpected { expected: "sequence start", .. } => here.expects(LIST, None),
        Error::Unexpected { expected: "string scalar", .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. } => here.expects(TEXT, None),
        Error::InvalidScalar { ty: "boolean", .. } | Error::InvalidBooleanStrict { .. } => {
            here.expects("`true` or `false`", None)
        }
        Error::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => here.expects(number(ty), None),
        Error::InvalidScalar { .. } => here.expects("a number", None),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            here.expects(&thing(expected), Some(&thing(unexpected)))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            unknown_variant(variant, expected.iter().copied(), words)
        }
        Error::SerdeUnknownField { field, expected, .. } => unknown_field(field, expected, words),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_ref().map_or_else(String::new, |key| format!(" `{key}`"));
            Diagnosis::new(format!("the key{key} stands here twice")).hint("keep one of them")
        }
        Error::UnknownAnchor { .. } => {
            Diagnosis::new("`*` refers to something that no `&` names").hint(QUOTE)
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            Diagnosis::new("`<<` takes keys from a map, and this is not one")
                .hint("refer to one with `*name`")
        }
        Error::UnsupportedTag { .. } => Diagnosis::new("a tag (`!…`) is not read here").hint("leave it out"),
        Error::Eof { .. } => Diagnosis::new("the text ends too early").hint("write the rest of the document"),
        Error::ExternalMessage { msg, .. } => syntax(msg),
        Error::Message { msg, .. } => custom(msg, here.key(), words),
        other => Diagnosis::new(plain(&other.without_snippet().to_string())),
    }
}

/// The diagnosis of an error text of serde about a field of a document, as the JSON reader prints it.
pub(crate) fn of_json(text: &str, field: &str) -> Diagnosis {
    let kind = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    match kind.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((unexpected, expected)) => {
            let (unexpected, expected) = (thing(unexpected), thing(expected));
            let diagnosis = Diagnosis::new(format!("{expected} belongs here, not {unexpected}"));
            // `fallbacks[0]` is an item of the list that the key's example shows.
            let key = field.rsplit('.').next().unwrap_or_default().split('[').next().unwrap_or_default();
            match DOCUMENTS.form(key).filter(|_| matches!(&*expected, MAP | LIST)) {
                Some(form) => diagnosis.hint(form),
                None => diagnosis,
            }
        }
        None => unknown_in_json(text).unwrap_or_else(|| custom(text, field.rsplit('.').next(), &DOCUMENTS)),
    }
}

/// The diagnosis of ``unknown field `a`, expected one of `b`, `c` ``, which the JSON reader has as a text alone.
fn unknown_in_json(text: &str) -> Option<Diagnosis> {
    let rest = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `"))?;
    let (word, known) = rest.split_once("`, expected ")?;
    // Every second part between backticks is a word.
    let known = known.split('`').skip(1).step_by(2);
    let common: &[&str] = if text.starts_with("unknown field") { DOCUMENTS.common_keys() } else { &[] };
    Some(meant(Diagnosis::new(plain(text)), word, known.chain(common.iter().copied()), &DOCUMENTS))
}

fn number(ty: &str) -> &'static str {
    match ty {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        _ if ty.starts_with('u') => "a whole number from 0 on",
        _ => "a whole number",
    }
}

fn unknown_variant<'a>(
    variant: &str,
    expected: impl Iterator<Item = &'a str> + Clone,
    words: &Vocabulary,
) -> Diagnosis {
    let known = expected.clone().collect::<Vec<_>>().join(", ");
    if matches!(variant, "~" | "null" | "") {
        return Diagnosis::new("a value is missing here").hint(format!("write one of: {known}"));
    }
    let diagnosis = Diagnosis::new(format!("`{variant}` is not known here, expected one of {known}"));
    meant(diagnosis, variant, expected, words)
}

fn unknown_field(field: &str, expected: &[&'static str], words: &Vocabulary) -> Diagnosis {
    let message = format!("unknown field `{field}`, expected one of {}", expected.join(", "));
    let known = expected.iter().chain(words.common_keys()).copied();
    meant(Diagnosis::new(message), field, known, words)
}

/// Adds what to write in place of a word, where that is clear.
fn meant<'a>(
    diagnosis: Diagnosis,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    words: &Vocabulary,
) -> Diagnosis {
    match words.instead(word, known) {
        Some(hint) => diagnosis.hint(hint),
        None => diagnosis,
    }
}

/// Translates the messages of the YAML parser, of which there are few in practice.
fn syntax(message: &str) -> Diagnosis {
    let known = [
        ("tabs disallowed", "a tab stands in the indentation", "indent with blanks"),
        (
            "mapping values are not allowed",
            "a `:` stands where no key can be",
            "begin the keys of one level in the same column, and put a text with `: ` in it in quotes",
        ),
        ("simple key expect", "a `:` with a blank after it is missing", "write `key: value`"),
        ("could not find expected ':'", "a `:` with a blank after it is missing", "write `key: value`"),
        ("unclosed quote", "the quote that begins here is not closed", "close it"),
        ("unclosed bracket '{'", "the `{` that begins here is not closed", "close it with `}`"),
        ("unclosed bracket '['", "the `[` that begins here is not closed", "close it with `]`"),
        (
            "unknown escape",
            "a `\\` in double quotes begins something unknown",
            "write `\\\\`, or use single quotes",
        ),
        ("anchor or alias", "`*` and `&` begin a reference, and no name follows", "put `\"*\"` in quotes"),
        (
            "block scalar",
            "after `|` or `>` the text begins on the next line",
            "begin a new line, and indent it",
        ),
        ("document end marker before directive", "a line `...` is missing before the directive", "write it"),
        (
            "did not find expected",
            "this fits neither the line before it nor its indentation",
            "begin the keys of one level in the same column, and items of a list with `- `",
        ),
    ];
    if let Some((_, text, hint)) = known.into_iter().find(|(part, ..)| message.contains(part)) {
        return Diagnosis::new(text).hint(hint);
    }
    match message.strip_prefix("unexpected character: `").and_then(|rest| rest.chars().next()) {
        Some(sign) if !is_hidden(sign) && sign != '\\' => {
            Diagnosis::new(format!("a text cannot begin with `{sign}`")).hint(QUOTE)
        }
        Some(_) => {
            Diagnosis::new("a control character stands here, which no text may hold").hint("leave it out")
        }
        None => Diagnosis::new(plain(message)),
    }
}

/// Messages of our own types, and of a few others, about the value of a key.
fn custom(message: &str, key: Option<&str>, words: &Vocabulary) -> Diagnosis {
    let HintedError { message, hint } = HintedError::parse(message);
    if let Some(hint) = hint {
        return Diagnosis::new(message).hint(hint);
    }
    let message = message.as_str();
    let word = message.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    if let Some((word, rest)) = word
        && let Some(known) = rest.strip_prefix(NOT_ONE_OF)
    {
        return unknown_variant(word, known.split(", "), words);
    }
    let known = [
        (
            "relative URL without a base",
            "this is not an address",
            match key {
                Some("server" | "inference") => "write it with its scheme, e.g. `https://mcpd.example.com`",
                Some("issuer") => "write it with its scheme, e.g. `https://login.example.com`",
                Some("otlp") => "write it with its scheme, e.g. `http://127.0.0.1:4318`",
                _ => {
                    "write it with its scheme, e.g. `https://api.openai.com/v1` or `http://127.0.0.1:8000/v1`"
                }
            },
        ),
        (
            "invalid socket address syntax",
            "this is not an IP address and a port",
            "write e.g. `127.0.0.1:3100`, or `0.0.0.0:3100` for every address of the machine",
        ),
        ("invalid IP address syntax", "this is not a network", "write e.g. `10.0.0.0/24`, or `10.0.0.7/32`"),
    ];
    match known.into_iter().find(|(beginning, ..)| message.starts_with(beginning)) {
        Some((_, text, hint)) => Diagnosis::new(text).hint(hint),
        None => Diagnosis::new(plain(message)),
    }
}

/// The first line, without the advice of a library to the programmers who call it.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    match line.find(" at line ") {
        Some(at) => line.split_at(at).0.to_owned(),
        None => line.to_owned(),
    }
}

/// The name of a value or a type for people, from serde's name of it.
fn thing(name: &str) -> String {
    let first = name.split([' ', '`']).next().unwrap_or_default();
    let known = match (first, name) {
        (_, "a string" | "a borrowed string" | "string") | ("string", _) => TEXT,
        (_, "unit" | "unit value" | "null" | "Option value") => "nothing",
        (_, "a sequence" | "sequence" | "a seq") => LIST,
        (_, "a map" | "map") | ("struct", _) => MAP,
        (_, "a string representing an URL") => "an address",
        (_, "a boolean") => "`true` or `false`",
        ("boolean", _) => "a yes or no",
        ("integer" | "floating" | "number", _) => "a number",
        (_, "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize") => {
            "a whole number from 1 on"
        }
        ("u8" | "u16" | "u32" | "u64" | "usize" | "i64" | "i32", _) => number(first),
        _ => return name.to_owned(),
    };
    known.to_owned()
}

/// Finds characters that look like others: the usual cause of an error in a line that looks right.
fn deceptive(text: &str, (line, _): (u64, u64)) -> Option<Diagnosis> {
    let near = text.lines().zip(1_u64..).filter(|(_, at)| (line.saturating_sub(1)..=line + 1).contains(at));
    for (content, at) in near {
        let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
        if content.get(..indent).is_some_and(|indent| indent.contains('\t')) {
            let diagnosis = Diagnosis::new("a tab stands in the indentation").hint("indent with blanks");
            return Some(Diagnosis { place: Some((at, 1)), ..diagnosis });
        }
        for mark in ["<<<<<<<", "=======", ">>>>>>>"] {
            if content.starts_with(mark) {
                let diagnosis = Diagnosis::new(format!("`{mark}` is what a merge leaves in a conflict"));
                return Some(Diagnosis {
                    place: Some((at, 1)),
                    ..diagnosis.hint("resolve the conflict first")
                });
            }
        }
        let mut before = None;
        for (c, column) in content.chars().zip(1_u64..) {
            let starts = before.is_none_or(|before| matches!(before, ' ' | '{' | '[' | ','));
            let diagnosis = match c {
                '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}' if starts && at == line => {
                    Diagnosis::new(format!("`{c}` is a typographic quote")).hint("write \" or '")
                }
                '\t' => {
                    before = Some(' ');
                    continue;
                }
                _ if !c.is_ascii() && c.is_whitespace() => {
                    Diagnosis::new(format!("U+{:04X} looks like a blank and is not one", u32::from(c)))
                        .hint("write an ordinary blank")
                }
                _ if !c.is_ascii() && is_hidden(c) => {
                    Diagnosis::new(format!("U+{:04X} is a character that is not seen", u32::from(c)))
                        .hint("leave it out")
                }
                _ => {
                    before = Some(c);
                    continue;
                }
            };
            return Some(Diagnosis { place: Some((at, column)), ..diagnosis });
        }
    }
    None
}
