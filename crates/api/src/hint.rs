//! An error with the next step for a person, as programs print it: the message in one line, `hint:` in the next.

use std::fmt;

use crate::visible;

/// Maximum length of a printed message or hint, in bytes: it may repeat a long text of a file.
pub const MAX_PRINTED_BYTES: usize = 4096;

const SEPARATOR: &str = "\nhint: ";

/// An error for a person. Displays as the message alone, so that contexts can be put before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HintedError {
    /// One line, lower case, no full stop.
    pub message: String,
    /// The next step, where there is one.
    pub hint: Option<String>,
}

impl HintedError {
    /// An error with a message and, where there is one, the next step.
    pub fn new(message: impl fmt::Display, hint: Option<impl fmt::Display>) -> Self {
        Self { message: message.to_string(), hint: hint.map(|hint| hint.to_string()) }
    }

    /// An error with the next step.
    pub fn with(message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::new(message, Some(hint))
    }

    /// The lines that a program prints, safe for a terminal: control characters are written out, and long texts are cut.
    pub fn lines(&self) -> String {
        let message = printed(&self.message);
        match &self.hint {
            Some(hint) => format!("{message}{SEPARATOR}{}", printed(hint)),
            None => message,
        }
    }

    /// Reads the lines that another program of ours printed.
    pub fn parse(lines: &str) -> Self {
        match lines.trim().split_once(SEPARATOR) {
            Some((message, hint)) => Self::with(message, hint),
            None => Self { message: lines.trim().to_owned(), hint: None },
        }
    }
}

fn printed(text: &str) -> String {
    visible::escape(&visible::limited(text, MAX_PRINTED_BYTES)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lines_are_read_back() {
        for error in
            [HintedError::with("it failed", "try again"), HintedError::new("it failed", None::<&str>)]
        {
            assert_eq!(HintedError::parse(&format!("{}\n", error.lines())), error);
            assert_eq!(error.to_string(), "it failed");
        }
    }

    #[test]
    fn printed_lines_are_safe_for_a_terminal() {
        let error = HintedError::with("\u{1b}[31mred", "é".repeat(1_000_000));
        let lines = error.lines();
        assert!(lines.starts_with("\\u001b[31mred\nhint: éé") && lines.ends_with("é…"), "{}", &lines[..40]);
        assert!(lines.len() < 5_000, "{}", lines.len());
    }
}
