//! Reads files of YAML documents; errors have a line and a column.

mod list;

use std::{fmt, ops::RangeInclusive};

use serde::Deserialize;

use crate::{
    Document,
    diagnosis::{self, Diagnosis},
    document,
    encoding::NotText,
    vocabulary::{DOCUMENTS, Vocabulary},
};

/// A document and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// What was read.
    pub document: Document,
    /// Its lines, from 1; the first is that of its first key.
    pub lines: RangeInclusive<u64>,
}

/// What is wrong in a file, and where; prints as `LINE:COLUMN: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for YamlError {}

impl From<NotText> for YamlError {
    fn from(error: NotText) -> Self {
        let NotText { line, column, message } = error;
        Self { line, column, message, hint: Some(NotText::HINT.to_owned()) }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Maximum length of a text, in bytes: four times what mcpd accepts in one request.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of documents of one text.
pub const MAX_DOCUMENTS: usize = 10_000;

/// Reads every document of a file, JSON included, and the documents of lists: `kind: List` with `items`, what `get -o json` prints,
/// and arrays. Empty documents are skipped.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read_documents(text: &str) -> Result<Vec<Located>, YamlError> {
    check_size(text)?;
    let text = without_directives(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))?;
    let mut found = Vec::new();
    for part in Parts::of(&text) {
        if is_blank(&part.text) {
            continue;
        }
        match parse(&part.text, &DOCUMENTS).map_err(|error| part.place(error))? {
            Shape::Document(head) if !head.is_list() => {
                check_count(found.len() + 1, part.first_line())?;
                found.push(part.document(&head)?);
            }
            Shape::Document(_) | Shape::List => {
                let items = list::read(&part.text).map_err(|error| part.place(error))?;
                check_count(found.len() + items.len(), part.first_line())?;
                found.extend(items.into_iter().map(|Located { document, lines }| {
                    let lines = part.before + lines.start()..=part.before + lines.end();
                    Located { document, lines }
                }));
            }
        }
    }
    Ok(found)
}

fn check_count(documents: usize, line: u64) -> Result<(), YamlError> {
    if documents <= MAX_DOCUMENTS {
        return Ok(());
    }
    let message = format!("a file has at most {MAX_DOCUMENTS} documents");
    let hint = Some("spread them over several files".to_owned());
    Err(YamlError { line, column: 1, message, hint })
}

/// Line of the top-level key that a field is below, in the lines of one document; else the document's first.
pub fn line_of_field(text: &str, lines: &RangeInclusive<u64>, field: &str) -> u64 {
    let key = field.split(['.', '[']).next().unwrap_or_default();
    let skip = usize::try_from(lines.start().saturating_sub(1)).unwrap_or(usize::MAX);
    let own = text.lines().zip(1..).skip(skip).take_while(|(_, at)| at <= lines.end());
    let keys = own.filter_map(|(line, at)| {
        let rest = line.trim_start_matches([' ', '\t', '-', '{', '[']);
        let indent = line.len() - rest.len();
        let rest = rest.trim_start_matches(['"', '\'']).strip_prefix(key)?;
        rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':').then_some((indent, at))
    });
    // The same key may be in a map below, which is indented more.
    match key {
        "" => *lines.start(),
        _ => keys.min().map_or(*lines.start(), |(_, at)| at),
    }
}

/// What a part of a file is, by its first sign.
enum Shape {
    Document(document::Head),
    List,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> serde::de::Visitor<'de> for Any {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Shape, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                document::Head::deserialize(map).map(Shape::Document)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Shape::List)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads one value of any type from YAML, e.g. a configuration file.
///
/// # Errors
/// What is wrong, with its place.
pub fn from_str<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, YamlError> {
    from_str_with(text, &Vocabulary::default())
}

/// As [`from_str`], with the words that explain mistakes in such a text.
///
/// # Errors
/// What is wrong, with its place.
pub fn from_str_with<T: for<'de> Deserialize<'de>>(text: &str, words: &Vocabulary) -> Result<T, YamlError> {
    check_size(text)?;
    let text = without_directives(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))?;
    let mut documents = Parts::of(&text).filter(|part| !is_blank(&part.text)).skip(1);
    if let Some(second) = documents.next() {
        let message = "the file has one document, and a second one begins here".to_owned();
        let hint = Some("remove it, and the `---` before it".to_owned());
        return Err(YamlError { line: second.first_line(), column: 1, message, hint });
    }
    parse(&text, words)
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str, words: &Vocabulary) -> Result<T, YamlError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| located(&error, text, words))
}

fn check_size(text: &str) -> Result<(), YamlError> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("a file has at most {MAX_BYTES} bytes, this one has {}", text.len());
    Err(YamlError { line: 1, column: 1, message, hint: None })
}

/// Bounds the work that one document can cause: none of ours nests by more than a few levels, and aliases save typing, not
/// megabytes.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 250_000,
            max_anchors: 1_000,
            max_aliases: 10_000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_total_scalar_bytes: MAX_BYTES,
            max_merge_keys: 1_000,
            max_inclusion_depth: 0,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
    }
}

fn located(error: &serde_saphyr::Error, text: &str, words: &Vocabulary) -> YamlError {
    let found = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    let Diagnosis { message, hint, place } = diagnosis::of_yaml(error, text, words);
    let (line, column) = place.unwrap_or(found);
    YamlError { line, column, message, hint }
}

/// An error about a document as a whole or about a field, at its line.
fn invalid(text: &str, lines: &RangeInclusive<u64>, error: crate::DocumentError) -> YamlError {
    let line = line_of_field(text, lines, &error.param);
    YamlError { line, column: 1, message: error.message, hint: error.hint }
}

/// Reads the directives (`%YAML 1.2`) before documents and leaves comments of the same length in their place.
fn without_directives(text: &str) -> Result<String, YamlError> {
    let mut plain = String::with_capacity(text.len());
    let mut between_documents = true;
    let mut open: Option<u64> = None;
    let without_marker = |line: u64| YamlError {
        line,
        column: 1,
        message: "a directive wants a line `---` after it".to_owned(),
        hint: Some("write `---` before the document, or leave the directive out".to_owned()),
    };
    for (line, at) in text.split_inclusive('\n').zip(1..) {
        match line.strip_prefix('%') {
            Some(directive) if between_documents => {
                check_directive(directive.trim(), at)?;
                open = Some(at);
                plain.push('#');
                plain.push_str(directive);
                continue;
            }
            _ if is_marker(line, "---") => (between_documents, open) = (false, None),
            _ if is_marker(line, "...") => between_documents = true,
            _ if is_blank(line) => {}
            _ => {
                if let Some(directive) = open {
                    return Err(without_marker(directive));
                }
                between_documents = false;
            }
        }
        plain.push_str(line);
    }
    open.map_or(Ok(plain), |directive| Err(without_marker(directive)))
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t']))
}

fn check_directive(directive: &str, line: u64) -> Result<(), YamlError> {
    let mut words = directive.split_whitespace();
    let (message, hint) = match (words.next(), words.next()) {
        (Some("YAML"), Some("1.0" | "1.1" | "1.2")) => return Ok(()),
        (Some("YAML"), _) => {
            ("of YAML the versions 1.1 and 1.2 are read", "write `%YAML 1.2`, or leave it out")
        }
        _ => ("a directive other than `%YAML` is not read", "leave it out, and tags with it"),
    };
    Err(YamlError { line, column: 1, message: message.to_owned(), hint: Some(hint.to_owned()) })
}

/// One document of a file. It begins with the text beside its marker.
struct Part {
    text: String,
    /// Lines of the file before it.
    before: u64,
    /// Whether its first line is that of a marker.
    marked: bool,
}

impl Part {
    /// The line of its first key.
    fn first_line(&self) -> u64 {
        self.before + 1 + u64::from(self.marked)
    }

    /// The one document that it is.
    fn document(&self, head: &document::Head) -> Result<Located, YamlError> {
        let lines = 1 + u64::from(self.marked)..=self.text.lines().count() as u64;
        let invalid = |error| self.place(invalid(&self.text, &lines, error));
        let kind = head.kind().map_err(invalid)?;
        let read =
            |deserializer: serde_saphyr::Deserializer<'_, '_>| document::read_as(kind, None, deserializer);
        let document = serde_saphyr::with_deserializer_from_str_with_options(&self.text, options(), read)
            .map_err(|error| self.place(located(&error, &self.text, &DOCUMENTS)))?;
        document.validate().map_err(|error| invalid(error.into()))?;
        Ok(Located { document, lines: self.before + lines.start()..=self.before + lines.end() })
    }

    /// An error at its place in the file.
    fn place(&self, error: YamlError) -> YamlError {
        YamlError { line: self.before + error.line, ..error }
    }
}

/// Cuts a text where a line is a marker, one document at a time. YAML allows no line that begins with `---` inside a
/// document, block texts included, so lines are enough.
struct Parts<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    /// The marker that began the next part: its line, and the text beside it.
    marker: Option<(usize, &'a str)>,
    ended: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        Self { lines: text.lines().enumerate(), marker: None, ended: false }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.ended {
            return None;
        }
        let mut part = match self.marker.take() {
            Some((at, rest)) => Part { text: format!("   {rest}\n"), before: at as u64, marked: true },
            None => Part { text: String::new(), before: 0, marked: false },
        };
        for (index, line) in self.lines.by_ref() {
            let beside = line.strip_prefix("---");
            if let Some(rest) = beside.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
                self.marker = Some((index, rest));
                return Some(part);
            }
            if is_marker(line, "...") {
                self.marker = Some((index, ""));
                return Some(part);
            }
            part.text.push_str(line);
            part.text.push('\n');
        }
        self.ended = true;
        Some(part)
    }
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "kind: Secret\nname: a\ndata: {k: v}\n";

    #[test]
    fn many_markers_cost_linear_time() {
        // Quadratic, these were 2 GB.
        assert_eq!(read_documents(&"---\n".repeat(60_000)), Ok(Vec::new()));
        assert_eq!(Parts::of(&"---\n".repeat(1000)).map(|part| part.text.len()).sum::<usize>(), 4000);
        let many = format!("---\n{SECRET}").repeat(MAX_DOCUMENTS + 1);
        let error = read_documents(&many).unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (40_002, "a file has at most 10000 documents"));
    }

    #[test]
    fn positions_count_from_the_start_of_the_file() {
        let text = format!(
            "# a\n\n--- # b\n{SECRET}---\n{SECRET}---\nkind: Secret\nname: a\ndata: {{k: v}}\nx: 1\n"
        );
        let error = read_documents(&text).unwrap_err();
        assert_eq!((error.line, error.column), (15, 1), "{error}");
        let read = read_documents(&format!("# a\n\n--- # b\n{SECRET}---\n{SECRET}")).unwrap();
        assert_eq!(read.iter().map(|located| *located.lines.start()).collect::<Vec<_>>(), [4, 8]);
    }

    #[test]
    fn yaml_bombs_are_rejected_early() {
        let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='i').zip('a'..='h') {
            let list = vec![format!("*{last}"); 10].join(", ");
            laughs.push_str(&format!("{this}: &{this} [{list}]\n"));
        }
        let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
        let blocks: String = (0..2_000).map(|depth| format!("{}- \n", " ".repeat(depth))).collect();
        let huge = format!("a: {}", "x".repeat(MAX_BYTES));
        for bomb in [laughs, deep, blocks, huge] {
            let begun = std::time::Instant::now();
            assert!(from_str::<serde_json::Value>(&bomb).is_err(), "{}…", &bomb[..40]);
            assert!(read_documents(&format!("kind: Secret\nname: a\ndata: {{}}\n{bomb}")).is_err());
            assert!(begun.elapsed().as_secs() < 10);
        }
    }

    #[test]
    fn directives_are_read_or_rejected_with_their_line() {
        for good in [
            format!("%YAML 1.1\n---\n{SECRET}"),
            format!("# a\r\n%YAML 1.2 # b\r\n# c\r\n--- # d\r\n{SECRET}"),
            format!("%YAML 1.2\n---\n{SECRET}...\n%YAML 1.2\n---\n{SECRET}...\n"),
            format!("\u{feff}{SECRET}"),
        ] {
            let documents = read_documents(&good).unwrap();
            assert!(!documents.is_empty() && from_str::<serde_json::Value>(SECRET).is_ok(), "{good}");
        }
        let read = read_documents(&format!("%YAML 1.2\n---\n{SECRET}...\n{SECRET}")).unwrap();
        assert_eq!(read.iter().map(|located| *located.lines.start()).collect::<Vec<_>>(), [3, 7]);
        for (bad, line) in [
            (format!("%YAML 2.0\n---\n{SECRET}"), 1),
            (format!("#\n%TAG ! x:\n---\n{SECRET}"), 2),
            (format!("%YAML 1.2\n{SECRET}"), 1),
            (format!("{SECRET}...\n%YAML 1.2\n"), 5),
        ] {
            assert_eq!(read_documents(&bad).unwrap_err().line, line, "{bad}");
            assert!(from_str::<serde_json::Value>(&bad).is_err(), "{bad}");
        }
        let two = from_str::<serde_json::Value>("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!(two.to_string(), "3:1: the file has one document, and a second one begins here");
        let read: serde_json::Value = from_str("%YAML 1.1\n---\n# c\na: 1\n...\n").unwrap();
        assert_eq!(read["a"], 1);
    }

    proptest! {
        #[test]
        fn parts_hold_every_line_once(lines in prop::collection::vec("---|--- x|---x|a: 1|#|", 0..30)) {
            let text = lines.join("\n");
            let mut next = 0;
            for part in Parts::of(&text) {
                prop_assert_eq!(part.before, next);
                next += part.text.lines().count() as u64;
            }
            prop_assert_eq!(next, text.lines().count() as u64);
        }
    }
}
