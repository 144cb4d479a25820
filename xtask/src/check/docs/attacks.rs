//! The table of attacks against the tests: each test that it names exists, at the daemon of its column.

use anyhow::{Context as _, Result};

use super::Text;

/// Where the attacks are listed.
const LIST: &str = "docs/reference/attacks.md";
/// Where the tests of the columns are, after the column of the attack.
const COLUMNS: [&str; 3] = ["bins/mcpd/", "bins/mcplocal/", "crates/"];

/// Tests that the table names and that do not exist, and rows without a test.
pub(super) fn findings(documents: &[Text], sources: &[Text]) -> Result<Vec<String>> {
    let list = documents.iter().find(|document| document.path == LIST).context(LIST)?;
    let mut findings = Vec::new();
    for (index, line) in list.content.lines().enumerate() {
        let Some(cells) = row(line) else { continue };
        let at = format!("{LIST}:{}", index + 1);
        let mut named = 0;
        for (cell, root) in cells.iter().skip(1).zip(COLUMNS) {
            for (file, test) in tests(cell) {
                named += 1;
                if !exists(sources, root, file, test) {
                    findings.push(format!("{at}: no test `{file}::{test}` is in `{root}`"));
                }
            }
        }
        if named == 0 {
            findings.push(format!("{at}: the row names no test"));
        }
    }
    Ok(findings)
}

/// The cells of a row of a table; `None` for its head, and for other lines.
fn row(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    let is_head = cells.first().is_some_and(|cell| *cell == "attack" || cell.starts_with("---"));
    (!is_head && cells.len() == COLUMNS.len() + 1).then_some(cells)
}

/// The tests that a cell names, as `file::test`.
fn tests(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit_once("::"))
}

fn exists(sources: &[Text], root: &str, file: &str, test: &str) -> bool {
    let (end, function) = (format!("/{file}.rs"), format!("fn {test}("));
    let is_file = |source: &&Text| source.path.starts_with(root) && source.path.ends_with(&end);
    sources.iter().filter(is_file).any(|source| source.content.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_tests_must_exist_at_their_daemon() {
        let text = |path: &str, content: &str| Text { path: path.to_owned(), content: content.to_owned() };
        let list = "| attack | mcpd | mcplocal | elsewhere |\n|---|---|---|---|\n\
                    | a | `wire::one` | `attack/wire::two`, `wire::none` | – |\n| b | – | – | – |\n";
        let sources = [
            text("bins/mcpd/tests/attack/wire.rs", "fn one() {}"),
            text("bins/mcplocal/tests/attack/wire.rs", "fn two()"),
        ];
        assert_eq!(
            findings(&[text(LIST, list)], &sources).unwrap(),
            [
                "docs/reference/attacks.md:3: no test `wire::none` is in `bins/mcplocal/`",
                "docs/reference/attacks.md:4: the row names no test",
            ]
        );
    }
}
