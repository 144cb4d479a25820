//! An error with the next step for a person, as programs print it: the message in one line, `hint:` in the next.

use std::fmt;

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

    /// The lines that a program prints.
    pub fn lines(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}{SEPARATOR}{hint}", self.message),
            None => self.message.clone(),
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
}
