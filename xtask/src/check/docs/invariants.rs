//! The list of invariants against the marks `INVARIANT n` in the code and the tests `inv_nn_…`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::Text;

/// Where the invariants are listed.
const LIST: &str = "docs/reference/invariants.md";
/// What the last column reads where an invariant is not built yet.
const PLANNED: &str = "planned";

/// A row of the list.
struct Invariant {
    /// Files that hold it; empty where it is planned.
    files: Vec<String>,
}

/// Rows without a test or a mark, and marks and tests without a row.
pub(super) fn findings(documents: &[Text], sources: &[Text]) -> Result<Vec<String>> {
    let list = documents.iter().find(|document| document.path == LIST).context(LIST)?;
    let listed = rows(&list.content);
    let mut findings = Vec::new();
    let mut tested = BTreeSet::new();
    for source in sources {
        for (index, line) in source.content.lines().enumerate() {
            let test = test_of(line);
            tested.extend(test);
            for number in marks(line).into_iter().chain(test) {
                let at = format!("{}:{}", source.path, index + 1);
                match listed.get(&number) {
                    None => findings.push(format!("{at}: invariant {number} is not in {LIST}")),
                    Some(row) if row.files.is_empty() => {
                        findings.push(format!("{at}: invariant {number} is planned by {LIST}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    for (number, row) in listed.iter().filter(|(_, row)| !row.files.is_empty()) {
        if !tested.contains(number) {
            findings.push(format!("{LIST}: no test `inv_{number:02}_…` proves invariant {number}"));
        }
        for file in &row.files {
            let source = sources.iter().find(|source| source.path == *file);
            if !source.is_some_and(|source| source.content.lines().any(|line| marks(line).contains(number))) {
                findings.push(format!("{LIST}: `{file}` has no mark `INVARIANT {number}`"));
            }
        }
    }
    Ok(findings)
}

/// `| n | text | files or planned |`
fn rows(list: &str) -> BTreeMap<u32, Invariant> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, held] = cells[..] else { return None };
        let files = held.split(',').map(|file| file.trim().trim_matches('`').to_owned());
        let files = if held == PLANNED { Vec::new() } else { files.collect() };
        Some((number.parse().ok()?, Invariant { files }))
    };
    list.lines().filter_map(row).collect()
}

/// The numbers that a comment marks: `INVARIANT 1`, `INVARIANT 1, 8`.
fn marks(line: &str) -> Vec<u32> {
    let Some((_, comment)) = line.split_once("//") else { return Vec::new() };
    let mut numbers = Vec::new();
    for mut rest in comment.split("INVARIANT ").skip(1) {
        loop {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let Ok(number) = number.parse() else { break };
            numbers.push(number);
            let Some(next) = after.strip_prefix(", ") else { break };
            rest = next;
        }
    }
    numbers
}

/// The number of a test `fn inv_nn_…`.
fn test_of(line: &str) -> Option<u32> {
    let (_, name) = line.split_once("fn inv_")?;
    name.split_once('_')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, content: &str) -> Text {
        Text { path: path.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn marks_of_one_and_of_many_are_read() {
        assert_eq!(marks("    // INVARIANT 1, 8: one answer leads on"), [1, 8]);
        assert_eq!(marks("/// INVARIANT 11, INVARIANT 12: no subject gains, 3 of them"), [11, 12]);
        assert_eq!(marks("let x = \"INVARIANT 7\";"), [0; 0]);
    }

    #[test]
    fn list_marks_and_tests_must_agree() {
        let list =
            "| n | invariant | held in |\n|---|---|---|\n| 1 | x | `a.rs`, `b.rs` |\n| 2 | y | planned |\n";
        let documents = [text(LIST, list)];
        let good = [text("a.rs", "// INVARIANT 1: x\nfn inv_01_x() {}"), text("b.rs", "// INVARIANT 1")];
        assert_eq!(findings(&documents, &good).unwrap(), [""; 0]);
        let bad = [text("a.rs", "// INVARIANT 1\n// INVARIANT 2\nfn inv_03_z() {}")];
        assert_eq!(
            findings(&documents, &bad).unwrap(),
            [
                "a.rs:2: invariant 2 is planned by docs/reference/invariants.md",
                "a.rs:3: invariant 3 is not in docs/reference/invariants.md",
                "docs/reference/invariants.md: no test `inv_01_…` proves invariant 1",
                "docs/reference/invariants.md: `b.rs` has no mark `INVARIANT 1`",
            ]
        );
    }
}
