//! The fenced blocks of a document, for the checks and for the tests that run what is printed.

use std::{fs, path::Path};

/// The fence of a block.
const FENCE: &str = "```";

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of its first line, from 1.
    pub line: usize,
    /// The heading of the second level that it is below.
    pub heading: String,
    /// What follows the fence.
    pub language: String,
    /// Its lines, each with its end.
    pub text: String,
}

/// All blocks of a document; one that is not closed ends with the document.
pub fn blocks(content: &str) -> Vec<Block> {
    let (mut found, mut heading, mut open) = (Vec::new(), String::new(), None::<Block>);
    for (index, line) in content.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix(FENCE)) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                let (heading, language) = (heading.clone(), language.trim().to_owned());
                open = Some(Block { line: index + 2, heading, language, text: String::new() });
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    found.extend(open);
    found
}

/// All blocks of a document of this repository, by its path from the root.
///
/// # Panics
/// Where there is no such document.
#[expect(clippy::panic, reason = "for tests, which have no other way to go on")]
pub fn blocks_of(document: &str) -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let content = fs::read_to_string(root.join(document));
    blocks(&content.unwrap_or_else(|error| panic!("{document}: {error}")))
}

/// The numbered lines of a document that are not in a fenced block.
pub fn prose(content: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    content.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with(FENCE) {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_place_and_heading() {
        let content = "# Title\n```sh\na\n```\n## One\ntext\n  ```text\n  b\n  ```\n```\nopen\n";
        let found: Vec<_> = blocks(content)
            .into_iter()
            .map(|block| (block.line, block.heading, block.language, block.text))
            .collect();
        let expected = [(3, "", "sh", "a\n"), (8, "One", "text", "  b\n"), (11, "One", "", "open\n")];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(line, heading, language, text)| {
                (line, heading.to_owned(), language.to_owned(), text.to_owned())
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(prose(content).map(|(line, _)| line).collect::<Vec<_>>(), [1, 5, 6]);
    }
}
