//! The blocks of `docs/how-to/proxies.md`. A test puts its own ports and files in place of those that are printed, and nothing else.

use xtask::document;

const DOCUMENT: &str = "docs/how-to/proxies.md";

/// A block of the document, changed for a test.
pub struct Example(String);

impl Example {
    /// The block number `at` (from 0) of those in this language.
    pub fn new(language: &str, at: usize) -> Self {
        let mut blocks = document::blocks_of(DOCUMENT).into_iter().filter(|block| block.language == language);
        let block = blocks.nth(at);
        Self(block.unwrap_or_else(|| panic!("no block {at} of {language} in {DOCUMENT}")).text)
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
