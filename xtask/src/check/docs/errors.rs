//! The page of error codes against the sources: each code that an answer can have is on the page, and each on the page is one
//! that an answer can have.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::Text;

/// Where the codes are listed.
const LIST: &str = "docs/reference/errors.md";
/// Where answers are made.
const SOURCES: [&str; 3] = ["bins/mcpd/src/", "bins/mcplocal/src/", "crates/server/src/"];
/// What stands before a code in the sources.
const KIND: &str = "ErrorKind::";

/// Codes that the page lacks, and rows of codes that no answer has.
pub(super) fn findings(documents: &[Text], sources: &[Text]) -> Result<Vec<String>> {
    let list = documents.iter().find(|document| document.path == LIST).context(LIST)?;
    let listed: Vec<(usize, &str)> = list.content.lines().enumerate().flat_map(row).collect();
    let ours = sources.iter().filter(|source| SOURCES.iter().any(|folder| source.path.starts_with(folder)));
    let ours: Vec<&Text> = ours.collect();
    let used: BTreeSet<&str> = ours.iter().flat_map(|source| codes(&source.content)).collect();
    let missing = used.iter().filter(|code| !listed.iter().any(|(_, listed)| listed == *code));
    let mut findings: Vec<String> =
        missing.map(|code| format!("{LIST}: the code `{code}` is missing")).collect();
    for (line, code) in listed {
        let literal = format!("\"{code}\"");
        // Some codes are constants, or words of an enum.
        let exists = used.contains(code) || sources.iter().any(|source| source.content.contains(&literal));
        if !exists {
            findings.push(format!("{LIST}:{}: no answer has the code `{code}`", line + 1));
        }
    }
    Ok(findings)
}

/// The codes in the first cell of a row of a table.
fn row((number, line): (usize, &str)) -> impl Iterator<Item = (usize, &str)> {
    let cell = line.strip_prefix("| `").map(|rest| rest.split('|').next().unwrap_or_default());
    let codes = cell.into_iter().flat_map(|cell| cell.split('`').step_by(2));
    codes.map(move |code| (number, code)).filter(|(_, code)| !code.trim().is_empty())
}

/// The codes of errors that a source makes: the text after an error's kind.
fn codes(source: &str) -> impl Iterator<Item = &str> {
    source.split(KIND).skip(1).filter_map(|rest| {
        let (_, rest) = rest.split_once(',')?;
        let code = rest.trim_start().strip_prefix('"')?.split_once('"')?.0;
        let is_word = code.len() > 2 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_word.then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_sources_must_agree() {
        let text = |path: &str, content: &str| Text { path: path.to_owned(), content: content.to_owned() };
        let list = text(LIST, "| code | meaning |\n| --- | --- |\n| `abc` | x |\n| `gone` | x |\n");
        let source = text(
            "bins/mcpd/src/http.rs",
            "new(Status::A, ErrorKind::ServerError, \"abc\", m); new(S,\n ErrorKind::NotFoundError,\n \"b_c\",\n m)",
        );
        assert_eq!(
            findings(&[list], &[source]).unwrap(),
            [
                "docs/reference/errors.md: the code `b_c` is missing",
                "docs/reference/errors.md:4: no answer has the code `gone`"
            ]
        );
    }
}
