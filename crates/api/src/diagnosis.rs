//! Turns the errors of the YAML and JSON readers into messages for the people who wrote the text. Messages do not repeat
//! values, which may be secrets.

use serde_saphyr::Error;

use crate::{common_keys::COMMON_KEYS, similar::most_similar, visible::is_hidden};

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

/// The diagnosis of an error of the YAML reader in this text.
pub(crate) fn of_yaml(error: &Error, text: &str) -> Diagnosis {
    let place = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    if let Some(diagnosis) = deceptive(text, place) {
        return diagnosis;
    }
    let here = Place::at(text, place);
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => of_yaml(error, text),
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
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown_variant(variant, expected),
        Error::SerdeUnknownField { field, expected, .. } => unknown_field(field, expected),
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
        Error::Message { msg, .. } => custom(msg),
        other => Diagnosis::new(plain(&other.without_snippet().to_string())),
    }
}

/// The diagnosis of an error text of serde, as the JSON reader prints it.
pub(crate) fn of_json(text: &str) -> Diagnosis {
    let kind = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    match kind.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((unexpected, expected)) => {
            Diagnosis::new(format!("{} belongs here, not {}", thing(expected), thing(unexpected)))
        }
        None => unknown_in_json(text).unwrap_or_else(|| custom(text)),
    }
}

/// The diagnosis of ``unknown field `a`, expected one of `b`, `c` ``, which the JSON reader has as a text alone.
fn unknown_in_json(text: &str) -> Option<Diagnosis> {
    let rest = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `"))?;
    let (word, known) = rest.split_once("`, expected ")?;
    // Every second part between backticks is a word.
    let known = known.split('`').skip(1).step_by(2);
    let common = text.starts_with("unknown field").then_some(COMMON_KEYS).into_iter().flatten();
    Some(meant(Diagnosis::new(plain(text)), word, known.chain(common)))
}

const TEXT: &str = "a text";
const MAP: &str = "a map of keys and values";
const LIST: &str = "a list";
const QUOTE: &str = "put a text that begins with a sign in quotes";

/// The place of an error: the key before it, and the value there.
struct Place<'a> {
    key: Option<&'a str>,
    value: &'a str,
}

impl<'a> Place<'a> {
    fn at(text: &'a str, (line, column): (u64, u64)) -> Self {
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
        let line = text.lines().nth(index(line)).unwrap_or_default();
        let byte = line.char_indices().nth(index(column)).map_or(line.len(), |(at, _)| at);
        let (before, value) = line.split_at_checked(byte).unwrap_or((line, ""));
        let key = before.trim_end().strip_suffix(':').map(|before| {
            let key = before.rsplit([' ', '{', ',', '[', '\t']).next().unwrap_or_default();
            key.trim_matches(['"', '\''])
        });
        Self { key: key.filter(|key| !key.is_empty()), value }
    }

    fn found(&self) -> &'static str {
        let value = self.value.split(" #").next().unwrap_or_default().trim_end_matches([',', '}', ']', ' ']);
        match value.chars().next() {
            None | Some('~' | '#') => "nothing",
            _ if matches!(value, "null" | "Null" | "NULL") => "nothing",
            Some('[') => LIST,
            Some('-') if value == "-" || value.starts_with("- ") => LIST,
            Some('{') => MAP,
            _ => "a single value",
        }
    }

    fn expects(&self, expected: &str, found: Option<&str>) -> Diagnosis {
        let found = found.unwrap_or_else(|| self.found());
        let message = match (self.key, found) {
            (Some(key), "nothing") => format!("`{key}` is empty, where {expected} belongs"),
            (Some(key), "a number") if expected.contains("number") => format!("`{key}` takes {expected}"),
            (Some(key), "a single value") if !matches!(expected, MAP | LIST) => {
                format!("`{key}` takes {expected}")
            }
            (Some(key), _) => format!("`{key}` takes {expected}, not {found}"),
            (None, "nothing") => format!("{expected} belongs here, and there is nothing"),
            (None, "a number") if expected.contains("number") => format!("{expected} belongs here"),
            (None, _) => format!("{expected} belongs here, not {found}"),
        };
        let hint = match (expected, found) {
            (TEXT, "nothing") => {
                "write a value, or leave the key out; the word itself stands in quotes: \"null\""
            }
            (_, "nothing") => "write a value, or leave the key out",
            (TEXT, _) => "put a text that begins with `{` or `[` in quotes",
            (MAP, _) => "write `key: value`, one a line and indented, or `{key: value}`",
            (LIST, _) => "write one a line after `- `, or `[a, b]`",
            _ => return Diagnosis::new(message),
        };
        Diagnosis::new(message).hint(hint)
    }
}

fn number(ty: &str) -> &'static str {
    match ty {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        _ if ty.starts_with('u') => "a whole number from 0 on",
        _ => "a whole number",
    }
}

fn unknown_variant(variant: &str, expected: &[&str]) -> Diagnosis {
    let known = expected.join(", ");
    if matches!(variant, "~" | "null" | "") {
        return Diagnosis::new("a value is missing here").hint(format!("write one of: {known}"));
    }
    let diagnosis = Diagnosis::new(format!("`{variant}` is not known here, expected one of {known}"));
    meant(diagnosis, variant, expected.iter().copied())
}

/// The keys of Kubernetes's documents that are none here.
const KUBERNETES: [&str; 4] = ["apiVersion", "metadata", "spec", "status"];
const FLAT: &str =
    "documents are flat: `kind`, `name`, `labels`, then the fields of the kind, e.g. `mcpctl explain llm`";

fn unknown_field(field: &str, expected: &[&str]) -> Diagnosis {
    let message = format!("unknown field `{field}`, expected one of {}", expected.join(", "));
    if KUBERNETES.contains(&field) {
        return Diagnosis::new(message).hint(FLAT);
    }
    // Fields of every document are read elsewhere.
    meant(Diagnosis::new(message), field, expected.iter().copied().chain(COMMON_KEYS))
}

/// Adds the word that was meant, where one is similar.
fn meant<'a>(diagnosis: Diagnosis, word: &str, known: impl IntoIterator<Item = &'a str>) -> Diagnosis {
    match most_similar(word, known) {
        Some(meant) => diagnosis.hint(format!("did you mean `{meant}`?")),
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

/// Messages of our own types, and of a few others.
fn custom(message: &str) -> Diagnosis {
    if message.starts_with("relative URL without a base") {
        return Diagnosis::new("this is not an address")
            .hint("write it with its scheme, e.g. https://api.openai.com/v1");
    }
    Diagnosis::new(plain(message))
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
