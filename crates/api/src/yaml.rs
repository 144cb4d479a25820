//! Reads files of YAML documents, with the line and column of whatever is wrong.

use std::fmt;

use serde::Deserialize;

use crate::{Document, document};

/// A document and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// What was read.
    pub document: Document,
    /// Line of its first key, from 1.
    pub line: u64,
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

/// Reads every document of a file, JSON included; empty documents are passed over.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read_documents(text: &str) -> Result<Vec<Located>, YamlError> {
    let mut found = Vec::new();
    for part in split(text) {
        if is_blank(&part.text) {
            continue;
        }
        let head: document::Head = from_str(&part.text)?;
        let first = part.first_line;
        let at_start = |error: crate::DocumentError| YamlError {
            line: part.line_of(&error.param),
            column: 1,
            message: error.message,
            hint: error.hint,
        };
        let kind = head.kind().map_err(at_start)?;
        let document = serde_saphyr::with_deserializer_from_str(&part.text, |d| document::read_as(kind, d))
            .map_err(|error| located(&error))?;
        document.spec.validate().map_err(|error| at_start(error.into()))?;
        found.push(Located { document, line: first });
    }
    Ok(found)
}

/// Reads one value of any type from YAML, e.g. a configuration file.
///
/// # Errors
/// What is wrong, with its place.
pub fn from_str<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str(text).map_err(|error| located(&error))
}

fn located(error: &serde_saphyr::Error) -> YamlError {
    let place = error.location();
    let text = error.without_snippet().to_string();
    // The place is said once, by us, in the form that editors jump to.
    let message = match place {
        Some(place) => {
            let said = format!(" at line {}, column {}", place.line(), place.column());
            text.replacen(&said, "", 1)
        }
        None => text,
    };
    let message = message.lines().next().unwrap_or_default();
    // The library's advice is for programmers who call it.
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned();
    YamlError {
        line: place.map_or(1, |p| p.line()),
        column: place.map_or(1, |p| p.column()),
        message,
        hint: None,
    }
}

/// One document of a file. Lines before it are blank, so that places count from the start of the file.
struct Part {
    text: String,
    first_line: u64,
}

impl Part {
    /// The line of a top-level key, else the document's first.
    fn line_of(&self, param: &str) -> u64 {
        let key = param.split(['.', '[']).next().unwrap_or_default();
        let found = self.text.lines().position(|line| {
            !key.is_empty() && line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
        });
        found.map_or(self.first_line, |at| at as u64 + 1)
    }
}

/// YAML allows no line that begins with `---` inside a document, block texts included, so lines are enough.
fn split(text: &str) -> Vec<Part> {
    let (mut parts, mut current, mut first_line) = (Vec::new(), String::new(), 1);
    for (index, line) in text.lines().enumerate() {
        let marker = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = marker {
            parts.push(Part { text: std::mem::take(&mut current), first_line });
            current = "\n".repeat(index);
            current.push_str("   ");
            current.push_str(rest);
            first_line = index as u64 + 2;
        } else {
            current.push_str(line);
        }
        current.push('\n');
    }
    parts.push(Part { text: current, first_line });
    parts
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    })
}
