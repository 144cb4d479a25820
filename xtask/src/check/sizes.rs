//! File sizes: a file is one idea, so a Rust file has at most 400 lines of code. Blank lines, lines of comment and
//! tests do not count. `xtask/large-files.txt` lists the exceptions, each with its reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Most lines of code in a file.
const MAX_LINES: usize = 400;
/// Exceptions: one `path: reason` per line; lines that start with `#` are comments.
const EXCEPTIONS: &str = "xtask/large-files.txt";

/// Files that are too large, and exceptions that no file needs.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let exceptions = match fs::read_to_string(root.join(EXCEPTIONS)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(EXCEPTIONS),
    };
    let entries = exceptions.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut unused = Vec::new();
    let mut findings = Vec::new();
    for entry in entries {
        match entry.split_once(": ").filter(|(_, reason)| !reason.trim().is_empty()) {
            Some((path, _)) => unused.push(path),
            None => findings.push(format!("{EXCEPTIONS}: `{entry}` has no reason: write `path: reason`")),
        }
    }
    for file in sources(root)? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let lines = code_lines(&text);
        if lines <= MAX_LINES {
            continue;
        }
        let path = file.strip_prefix(root)?.display().to_string();
        let before = unused.len();
        unused.retain(|excepted| *excepted != path);
        if unused.len() == before {
            findings.push(format!("{path}: {lines} lines of code, at most {MAX_LINES}: split it"));
        }
    }
    findings
        .extend(unused.iter().map(|path| format!("{EXCEPTIONS}: `{path}` needs no exception: remove it")));
    Ok(findings)
}

/// All Rust files but those of tests: `tests/`, and the `tests.rs` of a module.
pub(super) fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !["target", "tests", "node_modules"].contains(&name.as_ref()) {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    Ok(())
}

fn code_lines(text: &str) -> usize {
    code(text).count()
}

/// The numbered lines that are neither blank nor comment nor part of an item marked `#[cfg(test)]`. Reads by indentation, which
/// the formatting check makes reliable.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        while let Some((number, line)) = lines.next() {
            let code = line.trim_start();
            if code.starts_with("#[cfg(test)]") {
                let indent = &line[..line.len() - code.len()];
                skip_item(indent, &mut lines);
            } else if !code.is_empty() && !code.starts_with("//") {
                return Some((number, line));
            }
        }
        None
    })
}

fn skip_item<'a>(indent: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    let start = lines.find(|(_, line)| !line.trim_start().starts_with("#["));
    let whole = start.is_none_or(|(_, line)| line.ends_with(';') || line.ends_with('}'));
    if !whole {
        lines.find(|(_, line)| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}')));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn code(lines: usize) -> String {
        "let x = 1;\n".repeat(lines)
    }

    #[test]
    fn comments_blank_lines_and_tests_do_not_count() {
        let text = "//! Doc.\n\nuse a;\n\n/// Doc.\nfn f() {\n    // why\n    g();\n}\n\n\
                    #[cfg(test)]\nuse b;\n\n\
                    #[cfg(test)]\n#[path = \"x.rs\"]\nmod x;\n\n\
                    impl A {\n    #[cfg(test)]\n    fn only_in_tests() {\n        h();\n    }\n}\n\n\
                    #[cfg(test)]\nmod tests {\n    fn t() {\n    }\n}\n\nfn after() {}\n";
        // `use a`, three of `f`, two of `impl`, and `after`.
        assert_eq!(code_lines(text), 7);
    }

    #[test]
    fn a_large_file_is_found_and_its_tests_are_not() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code(900).replace("let", "    let"));
        let dir = tree(&[
            ("crates/a/src/lib.rs", code(401)),
            ("crates/a/src/b.rs", code(400) + &tests),
            ("crates/a/src/b/tests.rs", code(900)),
            ("crates/a/tests/story.rs", code(900)),
            ("target/debug/build/out.rs", code(900)),
        ]);
        let findings = findings(dir.path()).unwrap();
        assert_eq!(findings, ["crates/a/src/lib.rs: 401 lines of code, at most 400: split it"]);
    }

    #[test]
    fn an_exception_needs_a_reason_and_a_file_that_needs_it() {
        let list = "# comment\ncrates/a/src/lib.rs: one table\ncrates/a/src/gone.rs: was large\nbare.rs\n";
        let dir = tree(&[("crates/a/src/lib.rs", code(401)), (EXCEPTIONS, list.to_owned())]);
        assert_eq!(
            findings(dir.path()).unwrap(),
            [
                "xtask/large-files.txt: `bare.rs` has no reason: write `path: reason`",
                "xtask/large-files.txt: `crates/a/src/gone.rs` needs no exception: remove it",
            ]
        );
    }
}
