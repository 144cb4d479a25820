//! The blocks of `docs/how-to/proxies.md`. A test puts its own ports and files in place of those that are printed, and nothing else.

use std::fs;

/// A block of the document, changed for a test.
pub struct Example(String);

impl Example {
    /// The block number `at` (from 0) of those in this language.
    pub fn new(language: &str, at: usize) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to/proxies.md");
        let document = fs::read_to_string(path).expect("the document");
        let opening = format!("```{language}\n");
        let block = document.split(&opening).nth(at + 1).and_then(|rest| rest.split("```").next());
        Self(block.unwrap_or_else(|| panic!("no block {at} of {language} in {path}")).to_owned())
    }

    /// Puts `own` in place of what is printed, which has to be there.
    #[must_use]
    pub fn with(self, printed: &str, own: &str) -> Self {
        assert!(self.0.contains(printed), "`{printed}` is not in the example:\n{}", self.0);
        Self(self.0.replace(printed, own))
    }

    /// Puts lines in place of the one that begins like this, and of its comment.
    #[must_use]
    pub fn with_line(self, beginning: &str, lines: &[String]) -> Self {
        let line = self.0.lines().find(|line| line.trim_start().starts_with(beginning));
        let line =
            line.unwrap_or_else(|| panic!("no line `{beginning}` in the example:\n{}", self.0)).to_owned();
        self.with(&line, &lines.join("\n"))
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}
